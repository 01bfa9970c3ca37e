"""PNGs decode to the pixels that Pillow's own reader gives."""

import io
import random
import zlib

import numpy
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from handlers.codecs import png as reader
from handlers.codecs.budget import Budget
from handlers.codecs.images import decode_image
from handlers.errors import RequestError
from handlers.signature import TensorSpec
from tests.support import hostile_images

GREY = TensorSpec("image", numpy.dtype("float32"), (-1, -1))
COLOUR = TensorSpec("image", numpy.dtype("uint8"), (-1, -1, 3))
MANY = 10**7


def png(mode: str = "L", size: tuple[int, int] = (123, 97), seed: int = 0, **options) -> bytes:
    """An image of noise."""
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


def reference(content: bytes, mode: str = "L") -> numpy.ndarray | None:
    """The pixels as Pillow alone reads them, or `None` if it refuses."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            return numpy.asarray(image.convert(mode))
    except (OSError, SyntaxError, ValueError):
        return None


def decode(content: bytes, spec: TensorSpec = GREY) -> numpy.ndarray:
    return decode_image(content, spec, Budget(1 << 28, MANY))


def decoded(content: bytes) -> numpy.ndarray | None:
    try:
        return decode(content)
    except RequestError:
        return None


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1"])
@pytest.mark.parametrize("size", [(123, 97), (1, 9000), (9000, 1), (640, 480)])
def test_every_kind_of_pixel_is_read_as_pillow_does(mode, size):
    content = png(mode, size)
    numpy.testing.assert_array_equal(decode(content), reference(content))
    numpy.testing.assert_array_equal(decode(content, COLOUR), reference(content, "RGB"))


@pytest.mark.parametrize("size", [(123, 97), (1, 9000), (9000, 1)])
def test_sixteen_bit_grey_keeps_its_upper_half(size):
    content = png("I;16", size)
    with Image.open(io.BytesIO(content)) as image:
        expected = numpy.asarray(image) >> 8
    numpy.testing.assert_array_equal(decode(content), expected)


def test_an_image_in_several_bands_is_the_same(monkeypatch):
    for mode in ("RGB", "RGBA", "P", "I;16"):
        content = png(mode)
        whole = decode(content, COLOUR)
        monkeypatch.setattr("handlers.codecs.images._BAND", 1000)
        numpy.testing.assert_array_equal(decode(content, COLOUR), whole)
        monkeypatch.undo()


def test_pixels_in_many_chunks(monkeypatch):
    monkeypatch.setattr(ImageFile, "MAXBLOCK", 4096)
    notes = PngImagePlugin.PngInfo()
    notes.add_text("note", "before")
    content = png("RGB", pnginfo=notes, exif=hostile_images.exif(6))
    assert content.count(b"IDAT") > 3
    numpy.testing.assert_array_equal(decode(content, COLOUR), numpy.rot90(reference(content, "RGB"), -1))


def random_png(generator: random.Random) -> bytes:
    """Random pixels under any header that is allowed, interlaced or not, with a palette of any length."""
    depth, colour = generator.choice(sorted(reader._MODES))
    width, height, interlaced = generator.randrange(1, 40), generator.randrange(1, 40), generator.randrange(2)
    plain = reader.Png(width, height, 1, depth, colour, bool(interlaced), b"", [])
    raw = bytearray(generator.randbytes(plain._inflated_size()))
    for at, byte in enumerate(raw):
        raw[at] = byte % 5  # so that filters are sound wherever a row begins
    palette = (
        hostile_images.chunk(b"PLTE", generator.randbytes(3 * generator.randrange(1, 257))) if colour == 3 else b""
    )
    return hostile_images.png(
        width, height, depth=depth, colour=colour, interlaced=interlaced, packed=zlib.compress(raw), before=palette
    )


def test_random_images_of_every_header_are_read_as_pillow_does():
    generator = random.Random(5)
    for _ in range(400):
        content = random_png(generator)
        with Image.open(io.BytesIO(content)) as image:
            if image.mode == "I;16":
                expected = numpy.asarray(image) >> 8
                numpy.testing.assert_array_equal(decode(content), expected)
                continue
        numpy.testing.assert_array_equal(decode(content), reference(content))
        numpy.testing.assert_array_equal(decode(content, COLOUR), reference(content, "RGB"))


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


WHOLE = bytes(100 * 101)


def by_hand(pixels: bytes = WHOLE, **options) -> bytes:
    return hostile_images.png(100, 100, packed=zlib.compress(pixels), **options)


def test_other_chunks_do_not_matter():
    plain = decode(by_hand())
    short = hostile_images.chunk(b"gAMA", b"1")
    for content in (
        by_hand(WHOLE + b"more than the header says"),
        by_hand(before=short, after=short),
        by_hand(after=hostile_images.chunk(b"tRNS") + hostile_images.chunk(b"iCCP", b"x")),
        by_hand(after=b"\xff\xff\xff\xffjunk"),
        by_hand()[:-12],
        by_hand(before=hostile_images.chunk(b"zTXt", b"k\0\0junk")),
    ):
        numpy.testing.assert_array_equal(decode(content), plain)
    assert decode(hostile_images.png_of_short_chunks()).shape == (8, 8)
    assert decode(hostile_images.png_of_text_bombs(3)).shape == (8, 8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (by_hand(WHOLE[:-1]), "fewer pixels than its header says"),
        (by_hand()[:-26], "fewer pixels than its header says"),
        (by_hand().replace(b"IHDR", b"IHDX"), "does not start with its header"),
        (reader.SIGNATURE, "cut off before its pixels"),
        (hostile_images.png(0, 5), "no pixels"),
        (hostile_images.png(2**31, 1, packed=b""), "at most 1000000 a side"),
        (hostile_images.png(2**32 - 1, 2**32 - 1, packed=b""), "at most 1000000 a side"),
        (hostile_images.png(9, 9, interlaced=2), "interlacing"),
        (hostile_images.png(9, 9, colour=3), "palette"),
        (hostile_images.png(9, 9, colour=3, before=hostile_images.chunk(b"PLTE", bytes(4))), "palette"),
        (hostile_images.png(9, 9, packed=b"not zlib at all"), "cannot be unpacked"),
        (hostile_images.png(9, 9, packed=zlib.compress(bytes(90))[:-4] + b"1234"), "cannot be unpacked"),
        (hostile_images.png(9, 9).replace(b"\0\0\0\x09\0\0\0\x09", b"\0\0\0\x08\0\0\0\x08"), "IHDR does not match"),
        (hostile_images.png_of_many_chunks(70_000), "more than 65536 chunks"),
        *((hostile_images.png_of_long_chunk(length), "cut off") for length in (5000, 2**24, 2**31, 2**32 - 1)),
        *((hostile_images.png_of_impossible_depth(depth, 64), f"no PNG has {depth} bits") for depth in (0, 3, 32, 255)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_invalid_png_is_refused(content, message):
    with pytest.raises(RequestError, match=message) as caught:
        decode(content)
    assert caught.value.field == "image" and caught.value.status in (400, 413)


def test_an_image_that_is_too_large_is_not_unpacked(monkeypatch):
    content = by_hand()
    assert decode_image(content, GREY, Budget(1 << 28, 100 * 100)).shape == (100, 100)
    monkeypatch.setattr(reader.Png, "decode", lambda image: pytest.fail("it was unpacked"))
    with pytest.raises(RequestError, match="100 x 100 pixels; at most 9999 are accepted") as caught:
        decode_image(content, GREY, Budget(1 << 28, 100 * 100 - 1))
    assert caught.value.status == 413
    with pytest.raises(RequestError, match="the inputs take 40000 bytes or more") as caught:
        decode_image(content, GREY, Budget(100 * 100 * 4 - 1, MANY))
    assert caught.value.status == 413
