"""A request and an answer as the handlers see them, whichever server carried them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

# The name under which a server hands over a body that is not made of named parts.
BODY = "body"


class Part(NamedTuple):
    """One named part of a request: its bytes, and the media type its sender declared (`""` if none)."""

    content: bytes | bytearray | memoryview
    content_type: str = ""


# A request: part name -> part; a single part named BODY is the whole body.
Request = dict[str, Part]


@dataclass(frozen=True)
class Answer:
    """What goes back to the sender of one request."""

    status: int
    content_type: str
    body: bytes
