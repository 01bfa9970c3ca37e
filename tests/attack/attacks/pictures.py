"""Attacks by images: headers that lie, chunks that are cut, and small files that take long to decode."""

from __future__ import annotations

import itertools
import random
import struct
import zlib
from collections.abc import Iterator

import numpy

from tests.attack.campaign import Attack
from tests.attack.payloads import chunk, deflated_zeros, jpeg, many_scans, noise_png, png, tiff
from tests.attack.target import form
from tests.attack.wire import JSON, Shot, refused

CORNERS = b"[[0, 0], [9, 0], [9, 9], [0, 9]]"
PNG, JPEG = "image/png", "image/jpeg"


def shots(content: bytes, media_type: str = PNG, **options) -> Iterator[Shot]:
    """The image to the model that wants grey numbers, and to the one that wants colours."""
    yield form("digits", {"image": (content, media_type), "corners": (CORNERS, JSON)}, **options)
    yield Shot("picture", content, {"Content-Type": media_type}, **options)


def costly(_: random.Random) -> Iterator[Shot]:
    """Small files that take gigabytes or minutes where they are believed."""
    for depth, colour in ((255, 6), (64, 2), (33, 0), (17, 6), (0, 0), (3, 2), (15, 6)):
        note = f"depth {depth}, colour {colour}"
        yield from shots(png(7000, 7000, depth, colour, data=_zeros()), expect=refused, note=note)
    for scans in (6_000, 2_000, 500):
        yield from shots(many_scans((2_000, 1_500), scans), JPEG, note=f"{scans} scans")
    yield from shots(many_scans((7_000, 7_000), 100), JPEG, note="100 scans of 7000² pixels")
    for colour in (6, 4, 2, 0):
        yield from shots(png(7000, 7000, 16, colour), note=f"7000² pixels of 16 bits, colour {colour}")
        yield from shots(png(7000, 7000, 8, colour, interlaced=1), note=f"7000² pixels, interlaced, colour {colour}")
    for depth, colour in ((8, 6), (8, 4), (8, 3), (8, 2), (8, 0), (1, 0), (1, 3)):
        yield from shots(png(7000, 7000, depth, colour), note=f"7000² pixels, depth {depth}, colour {colour}")
    for width, height in (
        (1, 2**31 - 1),
        (2**31 - 1, 1),
        (2**31 - 1, 2**31 - 1),
        (2**32 - 1, 2**32 - 1),
        (0, 5),
        (50_000_000, 1),
        (1, 50_000_000),
        (50_000_001, 1),
        (65_536, 65_536),
    ):
        yield from shots(png(width, height, 8, 0, data=deflated_zeros(100_000)), note=f"{width} x {height}")
    yield from shots(jpeg((7_000, 7_000), quality=1), JPEG, note="7000² pixels")
    yield from shots(jpeg((7_000, 7_000), quality=1, progressive=True), JPEG, note="7000² pixels, progressive")
    text = zlib.compress(bytes(200 << 20))
    for kind, content in {b"zTXt": b"k\0\0" + text, b"iTXt": b"k\0\1\0\0\0" + text, b"iCCP": b"k\0\0" + text}.items():
        for where in ("before", "after"):
            yield from shots(png(20, 20, **{where: chunk(kind, content)}), note=f"{kind!r} {where} the pixels")
    yield from shots(png(20, 20, before=chunk(b"tEXt", b"k\0v") * 300_000), note="300,000 chunks of text")
    empty = chunk(b"IDAT", b"") * 300_000
    yield from shots(png(20, 20, before=empty), note="300,000 empty chunks of pixels")
    frames = chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)) + chunk(
        b"fcTL", struct.pack(">IIIIIHHBB", 0, 2**31, 2**31, 0, 0, 1, 1, 0, 0)
    )
    yield from shots(png(20, 20, before=frames), note="an animation of 2^31 frames")


def _zeros() -> bytes:
    """A megabyte that inflates to a gigabyte."""
    if not _kept:
        _kept.append(deflated_zeros(1 << 30))
    return _kept[0]


_kept: list[bytes] = []

KINDS = (
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
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
)


def chunks(_: random.Random) -> Iterator[Shot]:
    """Chunks of every kind, too short or too long, before and behind the pixels."""
    pixels = numpy.random.default_rng(0).integers(0, 256, (80, 81), dtype=numpy.uint8)
    pixels[:, 0] = 0
    data = zlib.compress(pixels.tobytes())
    for kind, length, where in itertools.product(KINDS, (0, 1, 2, 3, 5, 7, 8, 31, 300), ("before", "after")):
        content = png(80, 80, data=data, **{where: chunk(kind, b"\1" * length)})
        yield from shots(content, note=f"{kind!r} of {length} bytes {where} the pixels")
    for kind, length, where in itertools.product(KINDS, (2**16, 2**31 - 1, 2**31, 2**32 - 1), ("before", "after")):
        content = png(80, 80, data=data, **{where: chunk(kind, b"\1" * 9, length)})
        yield from shots(content, note=f"{kind!r} that claims {length} bytes {where} the pixels")
    for colour, depth, side in itertools.product((0, 1, 2, 3, 4, 5, 6, 7, 255), (1, 2, 4, 8, 16), (3, 80)):
        yield from shots(png(side, side, depth, colour), note=f"colour {colour}, depth {depth}")


def exif(generator: random.Random) -> Iterator[Shot]:
    """Orientations and other EXIF data that nobody could write back."""
    values = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255, 65535)
    for value, kind, count, order in itertools.product(
        values, (1, 3, 4, 5, 7, 9, 12, 13), (0, 1, 2, 2**31), (b"MM", b"II")
    ):
        word = struct.pack(">HH" if order == b"MM" else "<HH", value, 0)
        yield from shots(jpeg(exif=tiff([(0x0112, kind, count, word)], order)), JPEG, note=f"orientation {value}")
    for _ in range(300):
        entries = []
        for _ in range(generator.randrange(1, 6)):
            tag = generator.choice([0x0112, 0x8769, 0x8825, 0x927C, 0x0100, generator.randrange(65536)])
            count = generator.choice([0, 1, 2, 4, 100, 2**31, 2**32 - 1])
            entries.append((tag, generator.randrange(16), count, generator.randbytes(4)))
        entries.append((0x0112, 3, 1, struct.pack(">HH", generator.randrange(1, 9), 0)))
        content = bytearray(tiff(entries, generator.choice([b"MM", b"II"])) + generator.randbytes(40))
        for _ in range(generator.randrange(4)):
            content[generator.randrange(len(content))] = generator.randrange(256)
        yield from shots(jpeg(exif=bytes(content)), JPEG, note="random EXIF")
        yield from shots(png(20, 20, before=chunk(b"eXIf", bytes(content)[6:])), note="random EXIF of a PNG")
    yield from shots(jpeg(exif=b"Exif\0\0" + bytes(60_000)), JPEG, note="EXIF of zeros")


def damaged(generator: random.Random) -> Iterator[Shot]:
    """Photographs with bytes changed, put in or cut off."""
    numbers = numpy.random.default_rng(generator.randrange(2**32))
    sound = [(noise_png(numbers, mode), PNG) for mode in ("L", "RGB", "RGBA", "LA", "I;16")]
    sound += [(jpeg(exif=tiff([(0x0112, 3, 1, b"\0\6\0\0")])), JPEG), (jpeg(progressive=True), JPEG)]
    for _ in range(700):
        content, media_type = generator.choice(sound)
        content = bytearray(content)
        for _ in range(generator.randrange(1, 6)):
            at = generator.choice([generator.randrange(len(content)), generator.randrange(min(200, len(content)))])
            length = generator.choice([0, 1, 1, 1, 2, 4])
            content[at : at + length] = generator.randbytes(generator.choice([length, length, generator.randrange(6)]))
        if generator.random() < 0.15:
            del content[generator.randrange(len(content)) :]
        yield from shots(bytes(content), media_type, note="a damaged photograph")


ATTACKS = [
    Attack("costly-images", "small images that take gigabytes or minutes", ("digits", "picture"), costly, together=1),
    Attack("png-chunks", "chunks that are too short or too long", ("digits", "picture"), chunks),
    Attack("exif", "EXIF that cannot be written back", ("digits", "picture"), exif),
    Attack("damaged-images", "photographs with bytes changed", ("digits", "picture"), damaged),
]
