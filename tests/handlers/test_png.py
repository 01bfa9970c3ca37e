"""A PNG whose pixels are stored is the image that it was, and what is no plain PNG is left to Pillow."""

import io
import random
import struct
import zlib

import numpy
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from handlers.errors import RequestError
from handlers.images import decode_image
from handlers.png import SMALL, stored
from handlers.signature import TensorSpec

GREY = TensorSpec("image", numpy.dtype("float32"), (-1, -1))
MANY = 10**7


def png(mode: str = "L", size: tuple[int, int] = (123, 97), seed: int = 0, **options) -> bytes:
    """An image of noise: too large a file for SMALL."""
    generator = numpy.random.default_rng(seed)
    width, height = size
    shapes = {"L": (), "RGB": (3,), "RGBA": (4,), "LA": (2,), "P": (), "1": (), "I;16": ()}
    dtype = "uint16" if mode == "I;16" else "uint8"
    pixels = generator.integers(0, 65536 if mode == "I;16" else 256, (height, width, *shapes[mode])).astype(dtype)
    if mode == "1":
        image = Image.fromarray(pixels).convert("1")
    elif mode == "P":
        image = Image.fromarray(pixels).quantize(200)
    else:
        image = Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def pixels_of(content: bytes) -> numpy.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return numpy.asarray(image)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "I;16"])
@pytest.mark.parametrize("size", [(123, 97), (1, 9000), (9000, 1), (640, 480)])
def test_every_kind_of_pixel_stays_what_it_is(mode, size):
    content = png(mode, size)
    if len(content) < SMALL:
        assert stored(content, MANY) is content
        return
    rewritten = stored(content, MANY)
    assert rewritten is not content
    numpy.testing.assert_array_equal(pixels_of(rewritten), pixels_of(content))
    with Image.open(io.BytesIO(rewritten)) as image:
        image.verify()  # every chunk's checksum
    with Image.open(io.BytesIO(rewritten)) as image, Image.open(io.BytesIO(content)) as original:
        assert (image.mode, image.size, image.getpalette()) == (original.mode, original.size, original.getpalette())


def test_what_stands_beside_the_pixels_is_kept(monkeypatch):
    monkeypatch.setattr(ImageFile, "MAXBLOCK", 4096)  # many chunks of pixels
    notes = PngImagePlugin.PngInfo()
    notes.add_text("note", "before")
    content = png("RGB", pnginfo=notes, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    assert content.count(b"IDAT") > 3
    with Image.open(io.BytesIO(stored(content, MANY))) as image:
        image.load()
        assert image.info["note"] == "before" and image.getexif()[0x0112] == 6


def reference(content: bytes) -> numpy.ndarray | None:
    """What Pillow alone makes of it; `None`: it refuses."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            return numpy.asarray(image.convert("L"))
    except (OSError, SyntaxError, ValueError):
        return None


def decoded(content: bytes) -> numpy.ndarray | None:
    try:
        return decode_image(content, GREY, MANY)
    except RequestError:
        return None


def test_damaged_files_are_refused_or_read_as_pillow_does():
    random.seed(3)
    content = png("L", (80, 60))
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(random.choice((1, 1, 3))):
            damaged[random.randrange(8, len(damaged))] = random.randrange(256)
        if random.random() < 0.3:
            del damaged[random.randrange(9, len(damaged)) :]
        expected, got = reference(bytes(damaged)), decoded(bytes(damaged))
        assert (expected is None) == (got is None)
        if expected is not None:
            numpy.testing.assert_array_equal(got, expected)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def by_hand(pixels: bytes, width: int = 100, height: int = 100, interlaced: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlaced)
    parts = chunk(b"IHDR", header), chunk(b"tEXt", b"pad\0" + bytes(SMALL)), chunk(b"IDAT", zlib.compress(pixels))
    return b"".join((b"\x89PNG\r\n\x1a\n", *parts, chunk(b"IEND", b"")))


WHOLE = bytes(100 * 101)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8\xff" + bytes(SMALL),
        b"\x89PNG\r\n\x1a\n" + bytes(SMALL),
        by_hand(WHOLE)[:-60],
        by_hand(WHOLE, interlaced=1),
        by_hand(WHOLE + b"more than the header says"),
        by_hand(WHOLE[:-1]),
        by_hand(WHOLE, height=0),
        by_hand(WHOLE).replace(b"IHDR", b"IHDX"),
    ],
    ids=["nothing", "JPEG", "no chunks", "cut", "interlaced", "longer", "shorter", "no rows", "no header"],
)
def test_what_is_no_plain_png_is_left_as_it_is(content):
    assert stored(content, MANY) is content


def test_an_image_that_is_too_large_is_not_inflated():
    content = by_hand(WHOLE)
    assert stored(content, 100 * 100) is not content
    assert stored(content, 100 * 100 - 1) is content
