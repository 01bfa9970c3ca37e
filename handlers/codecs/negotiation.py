"""Which format the sender of a request wants for its response (RFC 9110, `Accept`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from handlers.codecs.npy import NPZ_TYPE
from handlers.codecs.oip import InferRequest
from handlers.errors import RequestError

JSON_TYPE = "application/json"
# Our own: the protocol itself has no media type but application/json, which is taken.
OIP_TYPE = "application/vnd.oip+json"
BINARY_TYPE = "application/octet-stream"

_OFFERS = (JSON_TYPE, NPZ_TYPE, OIP_TYPE)
# Browsers send some 150 characters, and the cache keeps the longest as long as the shortest.
_MAX_LENGTH = 2048
_WEIGHT = re.compile(r"[01](\.[0-9]{0,3})?")


class ResponseFormat(NamedTuple):
    """How one request wants to be answered.

    Attributes:
        content_type: the response's, unless it carries binary data of the Open Inference Protocol.
        infer_request: what an Open Inference Protocol request asks of its response; `None` for any other request.
        text_errors: whether an error is a text, as that protocol wants it, and not an object.
        grpc_infer: whether the response becomes that protocol's gRPC message.
    """

    content_type: str = JSON_TYPE
    infer_request: InferRequest | None = None
    text_errors: bool = False
    grpc_infer: bool = False


PLAIN_JSON = ResponseFormat()


def choose_format(accept: str, infer_request: InferRequest | None = None) -> ResponseFormat:
    """The format that the `Accept` header of a request (`""` if absent) asks for.

    Raises:
        RequestError: 406, none of the formats is accepted.
    """
    if infer_request is not None and infer_request.wants_binary:
        # The request itself asks for binary data, so a client that accepts either kind of body gets it.
        chosen = choose(accept, (*_OFFERS, BINARY_TYPE))
        return ResponseFormat(JSON_TYPE if chosen == BINARY_TYPE else chosen, infer_request)
    chosen = choose(accept, _OFFERS)
    return PLAIN_JSON if infer_request is None and chosen == JSON_TYPE else ResponseFormat(chosen, infer_request)


def choose(accept: str, offers: tuple[str, ...]) -> str:
    """The one of `offers` that an `Accept` header prefers; `""` accepts everything.

    Between equal weights a type that is named wins over one that only a wildcard covers, then the first offer.
    Parameters other than `q` are ignored, and a range that cannot be parsed counts as absent.

    Raises:
        RequestError: 406 with the list of offers, if none is accepted; 400, the header is longer than any client's.
    """
    if len(accept) > _MAX_LENGTH:
        raise RequestError(f"the header Accept has {len(accept)} characters; at most {_MAX_LENGTH} are accepted")
    return _choose(accept, offers)


@lru_cache(maxsize=256)
def _choose(accept: str, offers: tuple[str, ...]) -> str:
    if not accept.strip():
        return offers[0]
    ranges = [read for part in accept.split(",") if (read := _read(part)) is not None]
    best, best_rank = "", (0.0, 0)
    for offer in offers:
        rank = _rank(offer, ranges)
        if rank > best_rank:
            best, best_rank = offer, rank
    if best_rank[0] > 0:
        return best
    raise RequestError(f"'Accept: {accept}' asks for none of {', '.join(offers)}", status=406)


def _read(part: str) -> tuple[str, float] | None:
    """One range of the header, in lower case, and its weight."""
    media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weight = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            if not _WEIGHT.fullmatch(value.strip()):
                return None
            weight = min(float(value), 1.0)
    return (media_type, weight) if media_type.count("/") == 1 else None


def _rank(offer: str, ranges: Sequence[tuple[str, float]]) -> tuple[float, int]:
    """Weight and precision of the most precise range that covers `offer`; that one decides, also when it says 0."""
    kind = offer.partition("/")[0]
    for precision, pattern in ((3, offer), (2, f"{kind}/*"), (1, "*/*")):
        weights = [weight for media_type, weight in ranges if media_type == pattern]
        if weights:
            return max(weights), precision
    return 0.0, 0
