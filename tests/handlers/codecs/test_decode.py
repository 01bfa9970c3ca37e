"""From the bytes of a request to arrays, and every way that can go wrong."""

import io
import struct
import zlib

import numpy
import pytest
from PIL import Image

from handlers.codecs.decode import decode_request
from handlers.codecs.request import Part
from handlers.errors import RequestError
from handlers.signature import TensorSpec

IMAGE = TensorSpec("image", numpy.dtype("float32"), (-1, -1))
POINTS = TensorSpec("corners", numpy.dtype("float32"), (4, 2))
SPECS = (IMAGE, POINTS)
CORNERS = b"[[0, 0], [1, 0], [1, 1], [0, 1]]"
PIXELS = numpy.array([[0, 10, 20], [255, 128, 7]], dtype=numpy.uint8)


def encoded(pixels: numpy.ndarray, fmt: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=fmt, **options)
    return buffer.getvalue()


def json_body(text: bytes, content_type: str = "application/json") -> dict:
    return {"body": Part(bytearray(text), content_type)}


def decode(request, specs=SPECS, max_image_pixels=1000):
    return decode_request(request, specs, max_image_pixels).inputs


@pytest.mark.parametrize("content_type", ["image/png", "", "application/octet-stream"])
def test_a_form_of_image_and_json(content_type):
    got = decode({"image": Part(encoded(PIXELS), content_type), "corners": Part(CORNERS, "text/plain")})
    numpy.testing.assert_array_equal(got["image"], PIXELS)
    assert got["image"].dtype == numpy.float32
    assert got["corners"].tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "", "text/plain"])
def test_a_json_object(content_type):
    got = decode(json_body(b'{"image": [[1, 2]], "corners": ' + CORNERS + b"}", content_type))
    assert got["image"].tolist() == [[1, 2]]
    assert list(got) == ["image", "corners"]


def test_a_single_input_needs_no_name():
    assert decode(json_body(b"[[1, 2]]"), (IMAGE,))["image"].tolist() == [[1, 2]]
    body = {"body": Part(encoded(PIXELS), "image/png")}
    numpy.testing.assert_array_equal(decode(body, (IMAGE,))["image"], PIXELS)


def test_images_follow_the_layout_of_the_input():
    colour = numpy.arange(2 * 3 * 3, dtype=numpy.uint8).reshape(2, 3, 3)
    channels_first = TensorSpec("image", numpy.dtype("uint8"), (3, -1, -1))
    channels_last = TensorSpec("image", numpy.dtype("uint8"), (-1, -1, 3))
    body = {"body": Part(encoded(colour), "")}
    numpy.testing.assert_array_equal(decode(body, (channels_first,))["image"], colour.transpose(2, 0, 1))
    numpy.testing.assert_array_equal(decode(body, (channels_last,))["image"], colour)


def test_sixteen_bit_grey_is_scaled_not_clipped():
    deep = (numpy.array([[0, 128, 255]], dtype=numpy.uint16) << 8) + 3
    assert decode({"body": Part(encoded(deep), "")}, (IMAGE,))["image"].tolist() == [[0, 128, 255]]


def test_the_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to view
    got = decode({"body": Part(encoded(PIXELS, exif=exif), "")}, (IMAGE,))["image"]
    numpy.testing.assert_array_equal(got, numpy.rot90(PIXELS, -1))


def bomb() -> bytes:
    """A PNG of a few bytes that claims 30000 x 30000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    header = struct.pack("!IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("request_", "field", "status", "message"),
    [
        ({}, None, 400, "holds no input"),
        (json_body(b""), None, 400, "body is empty"),
        (json_body(b"{"), None, 400, "not valid JSON"),
        (json_body(b"[" * 100_000), None, 400, "not valid JSON"),
        (json_body(b"\xff\xfe"), None, 400, "not valid JSON"),
        (json_body(b"7"), None, 400, "expected a JSON object, got a number"),
        (json_body(b'{"image": [[1]]}'), "corners", 400, "'corners' is missing"),
        (json_body(b'{"corners": [[1]]}'), "image", 400, "'image' is missing"),
        (json_body(b'{"image": [[1]], "corners": ' + CORNERS + b', "size": 3}'), "size", 400, "not an input"),
        (json_body(b'{"image": [[1]], "corners": [[1, 2]]}'), "corners", 400, r"got shape \[1, 2\]"),
        (json_body(b'{"image": [[1], [2, 3]], "corners": ' + CORNERS + b"}"), "image", 400, "different lengths"),
        (json_body(b'{"image": "x.png", "corners": ' + CORNERS + b"}"), "image", 400, "got text"),
        (json_body(b"<image/>", "application/xml"), None, 415, "'application/xml' is not accepted"),
        ({'{"image": [[1]]}': Part(b"", "")}, None, 415, "Content-Type: application/json"),
        ({"body": Part(encoded(PIXELS), "image/png")}, None, 400, "each input as a part of a multipart form"),
        ({"image": Part(encoded(PIXELS), "")}, "corners", 400, "'corners' is missing"),
        ({"image": Part(b"GIF89a", "image/gif"), "corners": Part(CORNERS)}, "image", 400, "not a PNG or JPEG"),
        ({"image": Part(b"hello", ""), "corners": Part(CORNERS)}, "image", 400, r"neither an image .* nor|neither an"),
        ({"image": Part(b"", ""), "corners": Part(CORNERS)}, "image", 400, "'image' is empty"),
        ({"image": Part(encoded(PIXELS)[:50], ""), "corners": Part(CORNERS)}, "image", 400, "damaged image"),
        (
            {"image": Part(encoded(numpy.zeros((40, 30), numpy.uint8))), "corners": Part(CORNERS)},
            "image",
            413,
            "30 x 40",
        ),
        ({"image": Part(bomb(), ""), "corners": Part(CORNERS)}, "image", 413, "30000 x 30000 pixels; at most 1000"),
        ({"image": Part(encoded(PIXELS)), "corners": Part(encoded(PIXELS))}, "corners", 400, "an image cannot|shape"),
        ({"image": Part(encoded(PIXELS)), "corners": Part(b"[[1,")}, "corners", 400, "'corners' is not valid JSON"),
    ],
)
def test_a_bad_request_names_the_field(request_, field, status, message):
    with pytest.raises(RequestError, match=message) as caught:
        decode(request_)
    assert (caught.value.field, caught.value.status) == (field, status)
    assert caught.value.as_dict()["error"]["code"] == status


def test_nan_in_json_reaches_the_field_it_belongs_to():
    got = decode(json_body(b'{"image": [[NaN, Infinity]], "corners": ' + CORNERS + b"}"))
    assert numpy.isnan(got["image"][0, 0]) and numpy.isinf(got["image"][0, 1])
