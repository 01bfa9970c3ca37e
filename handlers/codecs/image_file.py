"""What PNG and JPEG files have in common: their orientation, and the ways in which they are refused.

Pillow's own readers also parse text, colour profiles, EXIF, XMP and animations, which are of no use here and have each
their own ways to fail or to take long. So `png` and `jpeg` parse the files, and only pixels reach Pillow's decoders.
"""

from __future__ import annotations

import struct

import numpy

from handlers.codecs.request import Buffer

_ORIENTATION = 0x0112
_EXIF = b"Exif\0\0"


class DamagedImage(Exception):
    """A file is not an image of its kind, or is incomplete; the message says why, in a clause."""


class ImageTooComplex(Exception):
    """An image takes too long to decode for what it shows; the message says why, in a clause."""


def read_orientation(exif: Buffer) -> int:
    """The orientation in EXIF data, 1 to 8; 1 (upright) if there is none or they are damaged.

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


def apply_orientation(pixels: numpy.ndarray, orientation: int) -> numpy.ndarray:
    """A view of pixels, [H, W] or [H, W, C], the way round that a person sees the image."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return pixels[rows, columns]
