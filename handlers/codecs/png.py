"""Parses a PNG: its header, palette, pixels and orientation; everything else in it is skipped.

(PNG, third edition, 5 and 10; RFC 1950 and 1951.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from isal import isal_zlib

from handlers.codecs import inflate
from handlers.codecs.image_file import DamagedImage, ImageTooComplex, read_orientation
from handlers.codecs.request import Buffer

if TYPE_CHECKING:
    from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# By depth and colour type: Pillow's mode, the mode of the bytes in the file, and the bits of a pixel.
_MODES = {
    (1, 0): ("1", "1", 1),
    (2, 0): ("L", "L;2", 2),
    (4, 0): ("L", "L;4", 4),
    (8, 0): ("L", "L", 8),
    (16, 0): ("I;16", "I;16B", 16),
    (8, 2): ("RGB", "RGB", 24),
    (16, 2): ("RGB", "RGB;16B", 48),
    (1, 3): ("P", "P;1", 1),
    (2, 3): ("P", "P;2", 2),
    (4, 3): ("P", "P;4", 4),
    (8, 3): ("P", "P", 8),
    (8, 4): ("LA", "LA", 16),
    (16, 4): ("RGBA", "LA;16B", 32),
    (8, 6): ("RGBA", "RGBA", 32),
    (16, 6): ("RGBA", "RGBA;16B", 64),
}
_HEADER = struct.Struct(">IIBBBBB")
_CHUNK = struct.Struct(">I4s")
_BLOCK_HEADER = struct.Struct("<BHH")
_BLOCK = 0xFFFF  # bytes in one stored block
# libpng's bound on either side; Pillow keeps a pointer to each row.
_MAX_SIDE = 1_000_000
# Encoders split pixels into chunks of 8 KiB or more.
_MAX_CHUNKS = 1 << 16
# First column and row of the seven passes of an interlaced image, and the steps from there.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


class Png(NamedTuple):
    """A parsed PNG.

    Attributes:
        width: in pixels.
        height: in pixels.
        orientation: as in EXIF.
        depth: bits per sample.
        colour: the colour type.
        interlaced: whether the pixels come in seven passes.
        palette: red, green and blue of each index; empty if the pixels are not indices.
        data: the compressed pixels.
    """

    width: int
    height: int
    orientation: int
    depth: int
    colour: int
    interlaced: bool
    palette: bytes
    data: list[memoryview]

    def decode(self) -> Image.Image:
        """The pixels as an image of Pillow's, not yet oriented.

        Raises:
            DamagedImage: they are fewer than the header says, or not compressed as they should be.
            ImageTooComplex: they take too long to unpack.
        """
        from PIL import Image

        mode, raw_mode, _ = _MODES[self.depth, self.colour]
        size = self.width, self.height
        image = Image.frombytes(mode, size, self._uncompressed(), "zip", raw_mode, int(self.interlaced))
        if self.palette:
            image.putpalette(self.palette)
        return image

    def _uncompressed(self) -> bytearray:
        """The pixels as a zlib stream of stored blocks.

        Inflating takes most of the time of decoding a photograph, and ISA-L needs a third of what zlib does.
        """
        stored, left = bytearray(b"\x78\x01"), self._inflated_size()
        stream = inflate.InflateStream(self.data, inflate.ZLIB)
        checksum = 1
        try:
            while left:
                block = stream.read(min(left, _BLOCK))
                if not block:
                    raise DamagedImage("it has fewer pixels than its header says")
                left -= len(block)
                stored += _BLOCK_HEADER.pack(left == 0, len(block), len(block) ^ 0xFFFF)
                stored += block
                checksum = isal_zlib.adler32(block, checksum)
            stream.read(1)  # the checksum; what an encoder wrote after the last row does not matter
        except inflate.DamagedStream as error:
            raise DamagedImage(f"its pixels cannot be unpacked ({error})") from None
        except inflate.TooSlow:
            raise ImageTooComplex("its pixels take too long to unpack") from None
        stored += checksum.to_bytes(4, "big")
        return stored

    def _inflated_size(self) -> int:
        """Bytes of all rows, each preceded by the number of its filter."""
        bits = _MODES[self.depth, self.colour][2]
        if not self.interlaced:
            return self.height * (1 + (self.width * bits + 7) // 8)
        size = 0
        for column, row, columns, rows in _PASSES:
            width, height = -(-(self.width - column) // columns), -(-(self.height - row) // rows)
            if width > 0 and height > 0:
                size += height * (1 + (width * bits + 7) // 8)
        return size


def parse(content: Buffer) -> Png:
    """Parses a PNG without decoding a pixel.

    Raises:
        DamagedImage: its header is not a PNG's, or it ends too early.
        ImageTooComplex: it has too many pieces.
    """
    view = memoryview(content)
    header, palette, orientation, complete = None, b"", 1, False
    data: list[memoryview] = []
    for kind, body in _chunks(view):
        if header is None:
            if kind != b"IHDR" or len(body) != _HEADER.size:
                raise DamagedImage("it does not start with its header")
            header = _checked_header(_HEADER.unpack(body))
        elif kind == b"IDAT":
            if not complete:
                data.append(body)
            continue
        elif kind == b"PLTE" and not data:
            palette = bytes(body)
        elif kind == b"eXIf" and orientation == 1:
            orientation = read_orientation(body)
        elif kind == b"IEND":
            break
        complete = bool(data)
    if header is None or not data:
        raise DamagedImage("it is cut off before its pixels")
    width, height, depth, colour, _, _, interlaced = header
    indexed = colour == 3
    if indexed and not (palette and len(palette) % 3 == 0 and len(palette) <= 768):
        raise DamagedImage("its palette is missing or damaged")
    return Png(width, height, orientation, depth, colour, bool(interlaced), palette if indexed else b"", data)


def _checked_header(header: tuple[int, ...]) -> tuple[int, ...]:
    width, height, depth, colour, compression, filtering, interlaced = header
    if (depth, colour) not in _MODES:
        raise DamagedImage(f"no PNG has {depth} bits per sample with colour type {colour}")
    if compression or filtering or interlaced > 1:
        raise DamagedImage("its header asks for a compression, filter or interlacing that does not exist")
    if not (width and height):
        raise DamagedImage("it has no pixels")
    if max(width, height) > _MAX_SIDE:
        raise ImageTooComplex(f"it has {width} x {height} pixels; at most {_MAX_SIDE} a side are accepted")
    return header


def _chunks(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The chunks, as far as they go; checksums are compared where a wrong byte would change the image.

    The pixels have their own, inside the stream.
    """
    at = len(SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(view):
            return
        length, kind = _CHUNK.unpack_from(view, at)
        end = at + 12 + length
        if kind == b"IDAT":
            # The rest of one that is cut off may be all that is needed.
            yield kind, view[at + 8 : end - 4]
        elif end > len(view):
            return
        else:
            checksum = int.from_bytes(view[end - 4 : end], "big")
            if kind in (b"IHDR", b"PLTE") and isal_zlib.crc32(view[at + 4 : end - 4]) != checksum:
                raise DamagedImage(f"its {kind.decode()} does not match its checksum")
            yield kind, view[at + 8 : end - 4]
        at = end
    raise ImageTooComplex(f"it has more than {_MAX_CHUNKS} chunks")
