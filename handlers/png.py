"""Inflates the pixels of a PNG before Pillow reads it.

Inflating is most of the reading of a photograph, and ISA-L does it in a third of zlib's time. Pillow cannot be given
inflated pixels, but a PNG may hold its stream uncompressed: so it gets the same file with the same stream, stored.
(PNG, third edition, 5 and 10; RFC 1950 and 1951.)
"""

from __future__ import annotations

import struct

from isal import isal_zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Samples of a pixel by colour type.
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_HEADER = struct.Struct(">IIBBBBB")
_BLOCK = 0xFFFF  # bytes that one stored block holds
# Under so many bytes nothing is gained.
SMALL = 4096


def stored(content: bytes | bytearray | memoryview, max_pixels: int) -> bytes | bytearray | memoryview:
    """The same image with its pixels stored uncompressed.

    Args:
        content: a file.
        max_pixels: larger images are left as they are.

    Returns:
        A PNG that says what `content` says; `content` itself where that is no PNG of the plain kind, not whole, or too
        small to gain: whoever reads it then says what is wrong.
    """
    view = memoryview(content)
    if len(view) < SMALL or view[: len(SIGNATURE)] != SIGNATURE:
        return content
    try:
        return _rewritten(view, max_pixels)
    except (_NotPlain, struct.error, isal_zlib.error):  # struct.error: it ends before a chunk does
        return content


class _NotPlain(Exception):
    """Not a PNG as nearly all are."""


def _rewritten(view: memoryview, max_pixels: int) -> bytes:
    if view[12:16] != b"IHDR":
        raise _NotPlain
    before, compressed, after = _parts(view)
    width, height, depth, colour, _, _, interlaced = _HEADER.unpack_from(view, 16)
    if colour not in _SAMPLES or interlaced or not 0 < width * height <= max_pixels:
        raise _NotPlain
    size = height * (1 + (width * depth * _SAMPLES[colour] + 7) // 8)
    inflater = isal_zlib.decompressobj()
    pixels = inflater.decompress(b"".join(compressed), size)
    if len(pixels) != size or not inflater.eof:
        raise _NotPlain
    stream = [b"\x78\x01"]
    for start in range(0, size, _BLOCK):
        block = pixels[start : start + _BLOCK]
        stream += [struct.pack("<BHH", start + _BLOCK >= size, len(block), len(block) ^ 0xFFFF), block]
    stream.append(struct.pack(">I", isal_zlib.adler32(pixels)))
    data = b"".join(stream)
    chunk = struct.pack(">I", len(data)) + b"IDAT" + data
    return b"".join((before, chunk, struct.pack(">I", isal_zlib.crc32(memoryview(chunk)[4:])), after))


def _parts(view: memoryview) -> tuple[memoryview, list[memoryview], memoryview]:
    """What stands before the chunks of pixels, their contents, and what stands behind."""
    at, first, data = len(SIGNATURE), None, []
    while True:
        length, kind = struct.unpack_from(">I4s", view, at)
        end = at + 12 + length
        if end > len(view):
            raise _NotPlain
        if kind == b"IDAT":
            first = at if first is None else first
            data.append(view[at + 8 : end - 4])
        elif first is not None:
            return view[:first], data, view[at:]
        at = end
