"""What is read of an image file before its pixels are: enough to refuse it, and how it is to be turned.

Pillow's own readers of PNG and JPEG also read text, colour profiles, EXIF, XMP and animations, none of which is of use
here, and each of which has its own way to fail or to take long. So the files are taken apart by `png` and `jpeg`, and
only pixels reach Pillow's decoders.
"""

from __future__ import annotations

import struct

import numpy

from handlers.codecs.request import Buffer

_ORIENTATION = 0x0112
_EXIF = b"Exif\0\0"


class DamagedImage(Exception):
    """A file is no image of its kind, or not whole; the text says why, in a clause."""


class TooComplex(Exception):
    """An image takes too long to decode for what it shows; the text says why, in a clause."""


def read_orientation(exif: Buffer) -> int:
    """The orientation, 1 to 8, that EXIF data tell; 1 (as it is) where they tell none or are damaged.

    Args:
        exif: a TIFF structure, with or without "Exif" in front of it.
    """
    data = memoryview(exif)
    if data[: len(_EXIF)] == _EXIF:
        data = data[len(_EXIF) :]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(data[:4]))
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(f"{order}L", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", data, entry)
            if tag == _ORIENTATION:
                layout = {3: "H", 4: "L"}.get(kind)
                value = struct.unpack_from(order + layout, data, entry + 8)[0] if layout else 1
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def turned(pixels: numpy.ndarray, orientation: int) -> numpy.ndarray:
    """A view of pixels, [H, W] or [H, W, C], as a person sees the image."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return pixels[rows, columns]
