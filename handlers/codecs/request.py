"""A request and an answer as the handlers see them, whichever server carried them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from handlers.errors import RequestError

# The bytes of a request, or some of them, as a server or a file hands them over.
Buffer = bytes | bytearray | memoryview

# The name under which a server hands over a body that is not made of named parts.
BODY = "body"


class Part(NamedTuple):
    """One named part of a request: its bytes, and the media type its sender declared (`""` if none)."""

    content: Buffer
    content_type: str = ""


class Request(dict[str, Part]):
    """Part name -> part; a single part named BODY is the whole body.

    Args:
        parts: the parts.
        headers: the request's own headers; their names are kept in lower case.

    Attributes:
        explain: whether it asks for the model's explanation instead of a prediction.
        open_inference: whether it came by an address of the Open Inference Protocol, whose errors are texts.
        refusal: why the server could not hand it over, or `None`.
        grpc_infer: whether its answer becomes that protocol's gRPC message, which knows no errors and needs every name.
    """

    __slots__ = ("__dict__", "headers")

    explain = open_inference = grpc_infer = False
    refusal: RequestError | None = None

    def __init__(self, parts: Mapping[str, Part] | Iterable = (), headers: Mapping[str, str] | None = None):
        super().__init__(parts)
        self.headers = {name.lower(): value for name, value in headers.items()} if headers else {}


class Answer(NamedTuple):
    """What goes back to the sender of one request; `headers` are those beyond its Content-Type."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})
