"""Unpacks deflate streams within bounds on bytes and time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import cast

from isal import isal_zlib

from handlers.codecs.request import Buffer

# Values of zlib's `wbits`.
RAW = -isal_zlib.MAX_WBITS
ZLIB = isal_zlib.MAX_WBITS
GZIP = 16 + isal_zlib.MAX_WBITS

# Processor time. A stream of millions of blocks, each with tables that take longer to build than its bytes take to
# write, needs three to ten times as long as others; random floats of the largest accepted size take half a second.
MAX_SECONDS = 2.0
# Bytes read and written between two looks at the clock.
_PIECE = 1 << 20
_OUTPUT = 1 << 24

_IsalError = cast("type[Exception]", isal_zlib.error)  # its stub says that it is an instance


class DamagedStream(Exception):
    """The bytes are not such a stream, or do not match its checksum."""


class TooSlow(Exception):
    """The stream takes longer than MAX_SECONDS to unpack."""


class InflateStream:
    """A stream that is unpacked piece by piece.

    Args:
        pieces: the stream.
        wbits: RAW, ZLIB or GZIP.
    """

    def __init__(self, pieces: Iterable[Buffer], wbits: int):
        views = (memoryview(piece) for piece in pieces)
        self._pieces = (view[at : at + _PIECE] for view in views for at in range(0, len(view), _PIECE))
        self._unpacker = isal_zlib.decompressobj(wbits)
        self._until = time.thread_time() + MAX_SECONDS
        self._rest: Buffer = b""  # of a piece
        self._full = False  # the last call returned all that it could, so there may be more without another piece

    @property
    def ended(self) -> bool:
        """Whether the end of the stream has been read, and its checksum with it."""
        return self._unpacker.eof

    @property
    def has_more(self) -> bool:
        """Whether bytes follow the end of the stream."""
        return bool(self._unpacker.unused_data) or next(self._pieces, None) is not None

    def read(self, size: int) -> bytes:
        """The next 1 to `size` bytes, or none where the stream ends or is cut off.

        Raises:
            DamagedStream: nothing more can be read.
            TooSlow: nothing more should be.
        """
        while not self._unpacker.eof:
            piece = self._rest or next(self._pieces, b"")
            if not piece and not self._full:
                break
            if time.thread_time() > self._until:
                raise TooSlow
            try:
                unpacked = self._unpacker.decompress(piece, size)
            except _IsalError as error:
                raise DamagedStream(str(error)) from None
            self._rest, self._full = self._unpacker.unconsumed_tail, len(unpacked) == size
            if unpacked:
                return unpacked
        return b""


def inflate(data: Buffer, wbits: int, max_bytes: int) -> tuple[Buffer, bool]:
    """What `data` unpacks to, and whether it is one whole stream with nothing after it.

    Returns:
        All of its bytes, or the first `max_bytes` and at least one more. Many are writable.

    Raises:
        DamagedStream: the bytes are not such a stream.
        TooSlow: it takes too long.
    """
    if len(data) <= _PIECE and max_bytes < _OUTPUT:  # too short to need the clock
        unpacker = isal_zlib.decompressobj(wbits)
        try:
            unpacked = unpacker.decompress(data, max_bytes + 1)  # 0 would mean no bound
        except _IsalError as error:
            raise DamagedStream(str(error)) from None
        return unpacked, unpacker.eof and not unpacker.unused_data
    stream = InflateStream([data], wbits)
    joined = bytearray()
    while len(joined) <= max_bytes and (piece := stream.read(min(_OUTPUT, max_bytes + 1 - len(joined)))):
        joined += piece
    return joined, stream.ended and not stream.has_more
