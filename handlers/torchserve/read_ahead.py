"""Changes what a worker's connection to the server does when it is read from."""

from __future__ import annotations

import contextlib
import io
import socket
import sys

BUFFER_BYTES = 1 << 16


def read_ahead(connection: socket.socket) -> io.BufferedReader:
    """Makes `connection.recv(count)` read from a buffer that one system call has filled.

    It returns all `count` bytes, and fewer only at the end of the stream. The object stays the one that others hold;
    only its class changes. Only `recv` knows about the bytes in the buffer: from now on nobody may read from this
    socket by another method, wait for it to become readable, or give it a timeout.

    Returns:
        The stream that `recv` reads from.
    """
    # Both are implemented in C; a `recv` written in Python would cost as much as the system call.
    reader: io.BufferedReader = io.BufferedReader(io.FileIO(connection.fileno(), closefd=False), BUFFER_BYTES)
    connection.__class__ = type("ReadAheadSocket", (socket.socket,), {"__slots__": (), "recv": reader.read})
    return reader


def end_at_next_read(connection: object) -> None:
    """Ends this process with status 1 when it next receives from its connection; at once if that is not a socket.

    Data sent before that still goes out. A request that the server hands over at that moment gets the server's own 500.
    """
    if not isinstance(connection, socket.socket):
        sys.exit(1)
    connection.__class__ = _ClosedSocket


class _ClosedSocket(socket.socket):
    __slots__ = ()

    def recv(self, *_: object) -> bytes:
        # The server learns of it now, not when the interpreter has shut down: until then it would send requests.
        with contextlib.suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)
        sys.exit(1)
