"""What a worker's connection to the server does when it is read from."""

from __future__ import annotations

import contextlib
import io
import socket
import sys
from typing import Any

BUFFER_BYTES = 1 << 16


def read_ahead(connection: socket.socket) -> io.BufferedReader:
    """Has `connection.recv(count)` take from a buffer what a call of the system brought before.

    It gives all of `count` bytes, and fewer only at the end of the stream. The object stays the one that others hold;
    only its class is another. What was read ahead is known to `recv` alone: from then on nobody may read from this
    socket by another method, wait for it to become readable, or give it a timeout.

    Returns:
        What `recv` reads from; to read from it is to receive.
    """
    # Both are C through and through; a `recv` of Python's own costs what the system's call does.
    reader = io.BufferedReader(io.FileIO(connection.fileno(), closefd=False), BUFFER_BYTES)
    connection.__class__ = type("ReadAheadSocket", (socket.socket,), {"__slots__": (), "recv": reader.read})
    return reader


def end_at_next_read(connection: Any) -> None:
    """Ends this process with status 1 when it next receives from its connection; at once where that is no socket.

    What is sent before is still sent. A request that the server hands over in that moment gets the server's own 500.
    """
    if not isinstance(connection, socket.socket):
        sys.exit(1)
    connection.__class__ = _Closed


class _Closed(socket.socket):
    __slots__ = ()

    def recv(self, *_: Any) -> bytes:
        # The server hears of it now, and not when the interpreter has taken itself apart: until then it sends requests.
        with contextlib.suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)
        sys.exit(1)
