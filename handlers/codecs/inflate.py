"""Unpacks deflate streams to a bound of bytes and of time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from isal import isal_zlib

from handlers.codecs.request import Buffer

# Values of `wbits`, as zlib has them.
RAW = -isal_zlib.MAX_WBITS
ZLIB = isal_zlib.MAX_WBITS
GZIP = 16 + isal_zlib.MAX_WBITS

# A stream may be made of millions of blocks, each with tables that take longer to build than its bytes to write: 64 MiB
# of them take three to ten times as long. Random floats of the largest size accepted take half a second.
MAX_SECONDS = 2.0
# So much is unpacked between two looks at the clock.
_PIECE = 1 << 20
_OUTPUT = 1 << 24


class DamagedStream(Exception):
    """The bytes are no such stream, or do not match its checksum."""


class TooSlow(Exception):
    """The stream takes longer than MAX_SECONDS of processor time to unpack."""


class Inflated:
    """A stream that is unpacked bit by bit.

    Args:
        pieces: the stream.
        wbits: RAW, ZLIB or GZIP.
    """

    def __init__(self, pieces: Iterable[Buffer], wbits: int):
        self._pieces = _cut(pieces)
        self._unpacker = isal_zlib.decompressobj(wbits)
        self._until = time.thread_time() + MAX_SECONDS
        self._rest: Buffer = b""  # of a piece
        self._full = False  # the last call gave all that was asked for, so there may be more without another piece

    @property
    def ended(self) -> bool:
        """Whether the end of the stream has been read, and its checksum with it."""
        return self._unpacker.eof

    @property
    def has_more(self) -> bool:
        """Whether bytes stand behind the end of the stream."""
        return bool(self._unpacker.unused_data) or next(self._pieces, None) is not None

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size` of them (1 or more); empty where the stream ends or is cut off.

        Raises:
            DamagedStream, TooSlow: and then there is nothing more to be had.
        """
        while not self._unpacker.eof:
            piece = self._rest or next(self._pieces, b"")
            if not piece and not self._full:
                break
            if time.thread_time() > self._until:
                raise TooSlow
            try:
                unpacked = self._unpacker.decompress(piece, size)
            except isal_zlib.error as error:
                raise DamagedStream(str(error)) from None
            self._rest, self._full = self._unpacker.unconsumed_tail, len(unpacked) == size
            if unpacked:
                return unpacked
        return b""


def inflate(data: Buffer, wbits: int, max_bytes: int) -> tuple[Buffer, bool]:
    """What `data` unpacks to, and whether it is one whole stream with nothing behind it.

    Returns:
        More than `max_bytes` bytes, one or a few, if there are more; else all of them, writable where they are many.

    Raises:
        DamagedStream, TooSlow
    """
    if len(data) <= _PIECE and max_bytes < _OUTPUT:  # not worth a look at the clock
        unpacker = isal_zlib.decompressobj(wbits)
        try:
            unpacked = unpacker.decompress(data, max_bytes + 1)  # 0 would mean no bound
        except isal_zlib.error as error:
            raise DamagedStream(str(error)) from None
        return unpacked, unpacker.eof and not unpacker.unused_data
    stream = Inflated([data], wbits)
    unpacked = bytearray()
    while len(unpacked) <= max_bytes and (piece := stream.read(min(_OUTPUT, max_bytes + 1 - len(unpacked)))):
        unpacked += piece
    return unpacked, stream.ended and not stream.has_more


def _cut(pieces: Iterable[Buffer]) -> Iterator[memoryview]:
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), _PIECE):
            yield view[start : start + _PIECE]
