"""Which of several media types the sender of a request would rather have (RFC 9110, `Accept`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from handlers.errors import RequestError

# Browsers send some 150 characters. What is longer would be kept as long as what is short.
_LONGEST = 2048

_WEIGHT = re.compile(r"[01](\.\d{0,3})?")


def choose(accept: str, offers: tuple[str, ...]) -> str:
    """The one of `offers` that an `Accept` header prefers; `""` accepts everything.

    Between equal weights a type that is named wins over one that only a wildcard covers, then the first offer.
    Parameters other than `q` are not looked at, and a range that cannot be read counts as absent.

    Raises:
        RequestError: 406 with the list of offers, if none is accepted; 400, the header is longer than any client's.
    """
    if len(accept) > _LONGEST:
        raise RequestError(f"the header Accept has {len(accept)} characters; at most {_LONGEST} are accepted")
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
