"""Images of all kinds and of more sizes than the generated requests have are the same arrays in both workers."""

import io
import random
import zlib

import numpy
import pytest
from PIL import Image

from handlers.codecs import png
from handlers.codecs.request import BODY, Part, Request
from tests.native.codecs import NativeCodecs, PythonCodecs
from tests.native.decode_tool import PROGRAM
from tests.native.models import configure
from tests.native.outcomes import Accepted, comparable, outcome_of
from tests.support import hostile_images

pytestmark = pytest.mark.skipif(not PROGRAM.is_file(), reason="the native worker was not built; make ext says why")

SIDES = (1, 2, 3, 7, 8, 9, 16, 17, 31, 33, 64, 100, 257)


def pngs(generator: random.Random) -> list[bytes]:
    """Each depth and colour type, in rows or passes, with every filter, upright and turned."""
    found = []
    for depth, colour in png._MODES:
        for interlaced in (0, 1):
            width, height = generator.choice(SIDES), generator.choice(SIDES)
            plain = png.Png(width, height, 1, depth, colour, bool(interlaced), b"", [])
            raw = bytes(each % 5 for each in generator.randbytes(plain._inflated_size()))
            palette = hostile_images.chunk(b"PLTE", generator.randbytes(3 * generator.randrange(1, 257)))
            content = hostile_images.png(
                width,
                height,
                depth=depth,
                colour=colour,
                interlaced=interlaced,
                packed=zlib.compress(raw),
                before=palette if colour == 3 else b"",
            )
            found += [content, hostile_images.with_exif(content, hostile_images.exif(generator.randrange(1, 9)))]
    return found


def jpegs(generator: random.Random) -> list[bytes]:
    """Each mode, subsampling and way of coding, upright and turned."""
    found = []
    for mode in ("L", "RGB", "CMYK"):
        for subsampling in (0, 1, 2):
            for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 100}):
                width, height = generator.choice(SIDES), generator.choice(SIDES)
                shape = (height, width, len(mode)) if len(mode) > 1 else (height, width)
                pixels = numpy.frombuffer(generator.randbytes(int(numpy.prod(shape))), numpy.uint8).reshape(shape)
                file = io.BytesIO()
                sampled = {} if mode == "L" else {"subsampling": subsampling}
                Image.fromarray(pixels, mode).save(file, "JPEG", **sampled, **options)
                content = file.getvalue()
                found += [content, hostile_images.with_exif(content, hostile_images.exif(generator.randrange(1, 9)))]
    return found


def test_images_are_the_same_arrays():
    generator = random.Random(6)
    contents = [*pngs(generator), *jpegs(generator), *hostile_images.photographs()]
    contents += [hostile_images.mutated(content, generator) for content in contents]
    models = configure("images-")
    accepted = 0
    with NativeCodecs(PROGRAM, models) as native:
        python = PythonCodecs(models)
        for model in ("grey", "a channel first", "a channel last", "colours first", "colours last"):
            for content in contents:
                request = Request({BODY: Part(content, "image/png")})
                expected, got = (outcome_of(codecs.decode(model, request)) for codecs in (python, native))
                assert comparable(got) == comparable(expected)
                accepted += isinstance(expected, Accepted)
    assert accepted > 5 * len(contents) / 2
