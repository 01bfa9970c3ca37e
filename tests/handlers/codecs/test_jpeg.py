"""JPEGs decode to the pixels that Pillow's own reader gives, oriented by their EXIF data."""

import io

import numpy
import pytest
from PIL import Image, ImageOps

from handlers.codecs import image_file, jpeg
from handlers.codecs.budget import Budget
from handlers.codecs.images import decode_image
from handlers.errors import RequestError
from handlers.signature import TensorSpec
from tests.support import hostile_images
from tests.support.hostile_images import exif, segment, with_exif

GREY = TensorSpec("image", numpy.dtype("uint8"), (-1, -1))
COLOUR = TensorSpec("image", numpy.dtype("uint8"), (-1, -1, 3))
SOUND = hostile_images.jpeg(noise=True)


def decode(content: bytes, spec: TensorSpec = COLOUR) -> numpy.ndarray:
    return decode_image(content, spec, Budget(1 << 28, 10**7))


def reference(content: bytes, mode: str = "RGB") -> numpy.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return numpy.asarray(ImageOps.exif_transpose(image).convert(mode))


@pytest.mark.parametrize("number", range(15))
def test_photographs_are_read_as_pillow_does(number):
    content = hostile_images.photographs()[number]
    with Image.open(io.BytesIO(content)) as image:
        if image.mode == "I;16":
            return  # which Pillow clips
    numpy.testing.assert_array_equal(decode(content), reference(content))
    numpy.testing.assert_array_equal(decode(content, GREY), reference(content, "L"))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 2}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("size", [(1, 1), (65, 33), (700, 3)])
def test_every_kind_of_frame(mode, size, options):
    content = hostile_images.jpeg(*size, mode=mode, noise=True, **options)
    numpy.testing.assert_array_equal(decode(content), reference(content))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", "<>")
def test_every_orientation(orientation, order):
    pixels = numpy.random.default_rng(2).integers(0, 256, (12, 17, 3), dtype=numpy.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    for content in (SOUND, file.getvalue()):
        turned = with_exif(content, exif(orientation, order=order))
        numpy.testing.assert_array_equal(decode(turned), reference(turned))
        far = with_exif(content, exif(orientation, order=order, at=300))
        numpy.testing.assert_array_equal(decode(far), reference(far))


@pytest.mark.parametrize("number", range(14))
def test_exif_that_cannot_be_rewritten_does_not_matter(number):
    data = hostile_images.exif_that_cannot_be_written()[number]
    orientation = image_file.read_orientation(data)
    assert orientation == (6 if number not in (5, *range(8, 14)) else 1)
    for content in (SOUND, hostile_images.png(8, 8)):
        numpy.testing.assert_array_equal(
            decode(with_exif(content, data)), image_file.apply_orientation(decode(content), orientation)
        )


def test_other_segments_do_not_matter():
    plain = decode(SOUND)
    for extra in (
        segment(0xFE, bytes(65533)) * 20,
        segment(0xE2, b"ICC_PROFILE\0\xff\xff" + bytes(100)),
        segment(0xE2, b"MPF\0MM\0*\xff\xff\xff\xff"),
        segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\xff"),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b'<x tiff:Orientation="6"/>'),
        segment(0xE0, b"JFIF\0"),
        b"\xff\xff\xff",
        b"\xff\x01",
    ):
        numpy.testing.assert_array_equal(decode(SOUND[:2] + extra + SOUND[2:]), plain)
    numpy.testing.assert_array_equal(decode(SOUND + b"a second picture"), plain)
    assert decode(hostile_images.jpeg_of_large_exif(200)).shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("content", "message", "status"),
    [
        (SOUND[:100], "cut off before its pixels", 400),
        (SOUND[:-200], "damaged image", 400),
        (b"\xff\xd8\xff", "cut off before its pixels", 400),
        (hostile_images.jpeg_of_claimed_size(0, 8), "does not give its size", 400),
        (hostile_images.jpeg_of_claimed_size(8, 0), "does not give its size", 400),
        (hostile_images.jpeg_of_claimed_size(65535, 65535), "65535 x 65535 pixels; at most", 413),
        (hostile_images.jpeg_of_claimed_size(65535, 8), "damaged image", 400),
        (hostile_images.jpeg_of_many_scans(501, 16, 16), "more than 500 scans", 413),
        (hostile_images.jpeg_of_many_segments(20_000), "more than 16384 segments", 413),
        (hostile_images.jpeg_of_odd_frame(0xC0, 12), "12 bits per sample", 400),
        *(
            (hostile_images.jpeg_without_scan(n, progressive=True), "some of its scans are missing", 400)
            for n in range(10)
        ),
        (SOUND.replace(b"\xff\xc0", b"\xff\xda"), "before its size", 400),
        (SOUND.replace(b"\xff\xda\0\x0c", b"\xff\xda\0\x02"), "header of a scan is damaged", 400),
        (SOUND.replace(b"\xff\xda\0\x0c", b"\xff\xda\0\x00"), "marker 0xda", 400),
        (SOUND.replace(b"\xff\xda", b"\xff\xd8"), "marker 0xd8", 400),
        (SOUND.replace(b"\xff\xda", b"\xff\x02"), "marker 0x2$", 400),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_invalid_jpeg_is_refused(content, message, status):
    with pytest.raises(RequestError, match=message) as caught:
        decode(content)
    assert (caught.value.field, caught.value.status) == ("image", status)


@pytest.mark.parametrize("kind", [0xC3, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF])
def test_frames_that_nobody_writes_are_refused(kind):
    with pytest.raises(RequestError, match="arithmetic coded, lossless or hierarchical") as caught:
        decode(hostile_images.jpeg_of_odd_frame(kind))
    assert caught.value.status == 400


def test_scans_are_counted_by_the_samples_they_pass_over(monkeypatch):
    monkeypatch.setattr(jpeg, "_MAX_SAMPLES", 64 * 64 * 100)
    with pytest.raises(RequestError, match="64 x 64 pixels are coded in too many scans"):
        decode(hostile_images.jpeg_of_many_scans(120, 64, 64))
    assert decode(hostile_images.jpeg_of_many_scans(20, 64, 64)).shape == (64, 64, 3)
