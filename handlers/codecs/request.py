"""A request and a response as the handlers see them, whichever server carried them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from handlers.errors import RequestError

# Bytes as a server or a file hands them over.
Buffer = bytes | bytearray | memoryview

# The name of the only part of a body that is not made of named parts.
BODY = "body"


def subject(field: str | None) -> str:
    """What a message is about: a field, or with `None` the body."""
    return f"'{field}'" if field else "the request's body"


class Part(NamedTuple):
    """One named part of a request: its bytes and the media type that its sender declared (`""` if none)."""

    content: Buffer
    content_type: str = ""


class Request(dict[str, Part]):
    """The parts of a request by name; a single part named BODY is the whole body.

    Args:
        parts: the parts.
        headers: the request's headers; their names are kept in lower case.

    Attributes:
        explain: whether it asks for an explanation instead of a prediction.
        open_inference: whether it came to an address of the Open Inference Protocol, whose errors are strings.
        refusal: why the server could not read it, or `None`.
        grpc_infer: whether its response becomes that protocol's gRPC message, which has no errors and needs every name.
    """

    __slots__ = ("__dict__", "headers")

    explain = open_inference = grpc_infer = False
    refusal: RequestError | None = None

    def __init__(self, parts: Mapping[str, Part] | Iterable = (), headers: Mapping[str, str] | None = None):
        super().__init__(parts)
        self.headers = {name.lower(): value for name, value in headers.items()} if headers else {}


class Response(NamedTuple):
    """What goes back to the sender of one request; `headers` are those in addition to Content-Type."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})
