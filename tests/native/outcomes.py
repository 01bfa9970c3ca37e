"""What a codec makes of a request or of outputs, in a form in which two of them can be compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy

from handlers.codecs.oip import InferRequest
from handlers.codecs.shared_memory import Region

# What comes from a library after these words differs between the workers: where and how it found a mistake.
LIBRARY_DETAILS = [
    re.compile(rb"(is not valid JSON: ).*", re.DOTALL),
    re.compile(rb"(cannot be unpacked as (?:gzip|deflate): ).*", re.DOTALL),
    re.compile(rb"(its pixels cannot be unpacked \().*", re.DOTALL),
]


class Format(NamedTuple):
    """How a request wants to be answered; `type` is the number of 0 JSON, 1 `.npz`, 2 the protocol's own type."""

    type: int = 0
    text_errors: bool = False
    grpc_infer: bool = False
    asked: InferRequest | None = None


class Array(NamedTuple):
    """A tensor, as its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    content: bytes

    @classmethod
    def of(cls, name: str, array: numpy.ndarray) -> Array:
        """The bytes of an array in C order."""
        return cls(name, str(array.dtype), array.shape, array.tobytes())

    def __repr__(self) -> str:
        """What a person can compare: some numbers instead of all bytes."""
        values = numpy.frombuffer(self.content, self.dtype)
        shown = ", ".join(map(str, values[:8].tolist())) + (", …" if len(values) > 8 else "")
        return f"{self.name} {self.dtype} {list(self.shape)} [{shown}] {hash(self.content):x}"


class Decoded(NamedTuple):
    """The arrays of a request that is accepted."""

    format: Format
    inputs: tuple[Array, ...]


class Refused(NamedTuple):
    """The error of a request that is not; a status of 0 is an exception that no request may cause."""

    status: int
    field: str | None
    message: str
    open_inference: bool


class Response(NamedTuple):
    """What goes back."""

    status: int
    content_type: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


Outcome = Decoded | Refused | Response


def asked(
    identifier: str | None,
    binary: bool,
    outputs: list[tuple[str, bool]] | None,
    regions: Mapping[str, tuple[str, int, int]],
) -> InferRequest:
    """What a request of the Open Inference Protocol asks for."""
    found = {name: Region(*region) for name, region in regions.items()}
    return InferRequest(identifier, None if outputs is None else tuple(outputs), binary, found)


def comparable(outcome: Outcome) -> Any:
    """The outcome without what may differ."""
    if isinstance(outcome, Refused):
        return outcome._replace(message=without_details(outcome.message.encode("utf-8", "replace")).decode())
    if isinstance(outcome, Response) and outcome.status != 200:
        return outcome._replace(body=without_details(outcome.body))
    return outcome


def without_details(text: bytes) -> bytes:
    """A message without what a library says."""
    for pattern in LIBRARY_DETAILS:
        text = pattern.sub(rb"\1", text)
    return text
