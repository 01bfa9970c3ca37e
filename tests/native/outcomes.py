"""What a codec makes of a request or of outputs, in a form in which two of them can be compared."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy

from handlers.codecs.decode import DecodedRequest
from handlers.codecs.negotiation import ResponseFormat
from handlers.codecs.request import Response
from tests.native.decode_tool import Refusal

# What comes from a library after these words differs between the workers: where and how it found a mistake.
LIBRARY_DETAILS = [
    re.compile(rb"(is not valid JSON: ).*", re.DOTALL),
    re.compile(rb"(cannot be unpacked as (?:gzip|deflate): ).*", re.DOTALL),
    re.compile(rb"(its pixels cannot be unpacked \().*", re.DOTALL),
]


class Tensor(NamedTuple):
    """An array as its bytes, which are the same or not; NaN is no exception."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    content: bytes

    def __repr__(self) -> str:
        """What a person can compare: some numbers instead of all bytes."""
        values = numpy.frombuffer(self.content, self.dtype)
        shown = ", ".join(map(str, values[:8].tolist())) + (", …" if len(values) > 8 else "")
        return f"{self.name} {self.dtype} {list(self.shape)} [{shown}] {hash(self.content):x}"


class Accepted(NamedTuple):
    """A request that is accepted."""

    response_format: ResponseFormat
    inputs: tuple[Tensor, ...]


Outcome = Accepted | Refusal | Response


def outcome_of(decoded: DecodedRequest | Refusal) -> Accepted | Refusal:
    """What was decoded, to be compared."""
    if isinstance(decoded, Refusal):
        return decoded
    arrays = decoded.inputs.items()
    tensors = (Tensor(name, str(array.dtype), array.shape, array.tobytes()) for name, array in arrays)
    return Accepted(decoded.response_format, tuple(tensors))


def comparable(outcome: Outcome) -> Any:
    """The outcome without what may differ."""
    if isinstance(outcome, Refusal):
        return outcome._replace(message=without_details(outcome.message.encode("utf-8", "replace")).decode())
    if isinstance(outcome, Response):
        body = bytes(outcome.body)
        return outcome._replace(
            body=body if outcome.status == 200 else without_details(body), headers=dict(outcome.headers)
        )
    return outcome


def without_details(text: bytes) -> bytes:
    """A message without what a library says."""
    for pattern in LIBRARY_DETAILS:
        text = pattern.sub(rb"\1", text)
    return text
