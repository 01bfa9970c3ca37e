"""Attacks by images: false headers, truncated chunks, and small files that take long to decode."""

from __future__ import annotations

import itertools
import random
import struct
import zlib
from collections.abc import Iterator

import numpy

from tests.attack.campaign import Attack
from tests.attack.target import form
from tests.attack.wire import JSON, Request, refused
from tests.support import hostile_images as hostile
from tests.support.hostile_images import chunk, jpeg, png, with_exif, zeros

CORNERS = b"[[0, 0], [9, 0], [9, 9], [0, 9]]"
PNG, JPEG = "image/png", "image/jpeg"
# Just below the number of pixels that an image may have.
SIDE = 7000


def to_both_models(content: bytes, **options) -> Iterator[Request]:
    """Sends the image to the model of grey pictures and to the one of coloured pictures."""
    yield form("digits", {"image": (content, _media_type(content)), "corners": (CORNERS, JSON)}, **options)
    yield coloured(content, **options)


def coloured(content: bytes, **options) -> Request:
    """Sends the image to the model of coloured pictures."""
    return Request("picture", content, {"Content-Type": _media_type(content)}, **options)


def _media_type(content: bytes) -> str:
    return PNG if content.startswith(hostile.SIGNATURE) else JPEG


def costly(_: random.Random) -> Iterator[Request]:
    """Small files that would take gigabytes or minutes if their headers were believed."""
    gigabyte = zeros(1 << 30)
    for depth, colour in ((255, 6), (64, 2), (33, 0), (17, 6), (0, 0), (3, 2)):
        content = png(SIDE, SIDE, depth=depth, colour=colour, packed=gigabyte)
        yield from to_both_models(content, expect=refused, note=f"depth {depth}, colour {colour}")
    for scans in (2_000, 500, 100, 25):
        content = hostile.jpeg_of_many_scans(scans, SIDE, SIDE, "L", refining=True)
        yield from to_both_models(content, note=f"{scans} scans of {SIDE}² pixels")
    yield from to_both_models(hostile.jpeg_of_many_scans(3_000), note="3,000 scans")
    for width, height in (
        *((1, 2**31 - 1), (2**31 - 1, 1), (2**31 - 1, 2**31 - 1), (2**32 - 1, 2**32 - 1), (0, 5)),
        *((50_000_000, 1), (1, 50_000_000), (50_000_001, 1), (65_536, 65_536)),
    ):
        yield from to_both_models(png(width, height, packed=zeros(100_000)), note=f"a PNG of {width} x {height}")
    for width, height in ((65_500, 65_500), (65_500, 700), (700, 65_500), (0, 0)):
        yield from to_both_models(hostile.jpeg_of_claimed_size(width, height), note=f"a JPEG of {width} x {height}")
    yield from to_both_models(hostile.png_of_many_chunks(500_000), note="half a million chunks")
    yield from to_both_models(hostile.png_of_text_bombs(), note="texts that unpack to megabytes")
    yield from to_both_models(hostile.png_of_slow_blocks(200_000), note="deflate blocks of a few bytes")
    yield from to_both_models(hostile.jpeg_of_many_segments(500_000), note="half a million segments")
    yield from to_both_models(hostile.jpeg_of_large_exif(120), note="EXIF of 8 MB")
    empty = chunk(b"IDAT") * 300_000
    yield from to_both_models(png(20, 20, before=empty), note="300,000 empty chunks of pixels")
    frames = chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))
    frames += chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 2**31, 2**31, 0, 0, 1, 1, 0, 0))
    yield from to_both_models(png(20, 20, before=frames), note="an animation of 2^31 frames")
    # The largest number of pixels that is accepted, which takes seconds.
    for interlaced in (0, 1):
        content = hostile.png_of_all_samples(SIDE**2, interlaced=interlaced)
        yield coloured(content, note=f"{SIDE}² pixels, RGBA of 16 bits, interlaced {interlaced}")
    for progressive in (False, True):
        content = jpeg(SIDE, SIDE, quality=1, progressive=progressive)
        yield coloured(content, note=f"{SIDE}² pixels, progressive {progressive}")
    for depth, colour in ((16, 2), (8, 6), (1, 0)):
        content = png(SIDE, SIDE, depth=depth, colour=colour)
        yield coloured(content, note=f"{SIDE}² pixels, depth {depth}, colour {colour}")


KINDS = (
    *(
        b"gAMA",
        b"tRNS",
        b"cHRM",
        b"iCCP",
        b"sRGB",
        b"pHYs",
        b"bKGD",
        b"hIST",
        b"tIME",
        b"sBIT",
        b"sPLT",
        b"tEXt",
        b"zTXt",
    ),
    *(
        b"iTXt",
        b"eXIf",
        b"acTL",
        b"fcTL",
        b"fdAT",
        b"PLTE",
        b"IHDR",
        b"IDAT",
        b"IEND",
        b"oFFs",
        b"xxxx",
        b"\0" * 4,
        b"\xff" * 4,
    ),
)


def chunks(_: random.Random) -> Iterator[Request]:
    """Chunks of every kind that are too short or too long, before and after the pixels."""
    # Large enough to be inflated before it reaches Pillow.
    pixels = numpy.random.default_rng(0).integers(0, 256, (80, 81), dtype=numpy.uint8)
    pixels[:, 0] = 0
    packed = zlib.compress(pixels.tobytes())
    for length, kind, where in itertools.product((0, 1, 2, 3, 5, 8, 31, 300), KINDS, ("after", "before")):
        content = png(80, 80, packed=packed, **{where: chunk(kind, b"\1" * length)})
        yield from to_both_models(content, note=f"{kind!r} of {length} bytes {where} the pixels")
    for length, kind, where in itertools.product((2**16, 2**31 - 1, 2**31, 2**32 - 1), KINDS, ("after", "before")):
        content = png(80, 80, packed=packed, **{where: chunk(kind, b"\1" * 9, length)})
        yield from to_both_models(content, note=f"{kind!r} that claims {length} bytes {where} the pixels")
    for colour, depth, side in itertools.product((0, 1, 2, 3, 4, 5, 6, 7, 255), (1, 2, 4, 8, 16), (3, 80)):
        yield from to_both_models(png(side, side, depth=depth, colour=colour), note=f"colour {colour}, depth {depth}")
    for frame, precision in itertools.product((*range(0xC0, 0xD0), 0xD8, 0xFF), (8, 12, 16, 0)):
        yield from to_both_models(
            hostile.jpeg_of_odd_frame(frame, precision), note=f"frame {frame:x}, {precision} bits"
        )


def exif(generator: random.Random) -> Iterator[Request]:
    """Orientations and other EXIF data, most of which cannot be written back."""
    photographs = [jpeg(), png(20, 20)]
    for content, data in itertools.product(photographs, hostile.exif_that_cannot_be_written()):
        yield from to_both_models(with_exif(content, data), note="EXIF that cannot be written back")
    for number in range(500):
        entries = []
        for _ in range(generator.randrange(6)):
            tag = generator.choice([0x0112, 0x8769, 0x8825, 0x927C, 0x0100, generator.randrange(65536)])
            count = generator.choice([0, 1, 2, 4, 100, 2**31, 2**32 - 1])
            entries.append(struct.pack(">HHL4s", tag, generator.randrange(16), count, generator.randbytes(4)))
        order, kind = generator.choice("<>"), generator.choice([1, 3, 4, 5, 7, 9, 12, 13])
        content = bytearray(hostile.exif(generator.randrange(10), order=order, kind=kind, entries=entries))
        for _ in range(generator.randrange(4)):
            content[generator.randrange(6, len(content))] = generator.randrange(256)
        yield from to_both_models(with_exif(photographs[number % 2], bytes(content)), note="random EXIF")


def damaged(generator: random.Random) -> Iterator[Request]:
    """Photographs with bytes changed, inserted or removed."""
    photographs = hostile.photographs()
    for number in range(1000):
        content = hostile.mutated(photographs[number % len(photographs)], generator)
        yield from to_both_models(content, note="a damaged photograph")


ATTACKS = [
    Attack("costly-images", "small images that take gigabytes or minutes", ("digits", "picture"), costly, together=1),
    Attack("png-chunks", "chunks that are too short or too long", ("digits", "picture"), chunks),
    Attack("exif", "EXIF that cannot be written back", ("digits", "picture"), exif),
    Attack("damaged-images", "photographs with bytes changed", ("digits", "picture"), damaged),
]
