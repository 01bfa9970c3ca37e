"""What one request may use, over all inputs and in every format: any more is refused with 413 before it is made."""

import gzip
import json
import uuid
import zlib
from pathlib import Path

import numpy
import pytest

from handlers.codecs.budget import Budget
from handlers.codecs.decode import decode_request
from handlers.codecs.oip import JSON_LENGTH_HEADER
from handlers.codecs.request import Part, Request
from handlers.codecs.shared_memory import FOLDER, SharedMemory
from handlers.errors import RequestError
from handlers.signature import TensorSpec
from tests.support import hostile_archives, hostile_images

BYTES = numpy.zeros(1000, numpy.uint8)
NAMES = ("x", "y")
DOUBLES = tuple(TensorSpec(name, numpy.dtype("float64"), (-1,)) for name in NAMES)
NARROW = tuple(TensorSpec(name, numpy.dtype("uint8"), (-1,)) for name in NAMES)


def npy(array: numpy.ndarray) -> bytes:
    return hostile_archives.npy_header(array.dtype.str, array.shape) + array.tobytes()


def as_npz(method: int = 8) -> Request:
    if method:
        return Request({"body": Part(bytearray(hostile_archives.npz_bomb("|u1", x=(1000,), y=(1000,))))})
    content = npy(BYTES)
    crc = zlib.crc32(content)
    members = {f"{name}.npy": (content, len(content), crc) for name in NAMES}
    return Request({"body": Part(bytearray(hostile_archives.zip_of(members, method=0)))})


def as_parts() -> Request:
    return Request({name: Part(bytearray(npy(BYTES))) for name in NAMES})


def as_open_inference() -> Request:
    inputs = [
        {"name": name, "shape": [1000], "datatype": "UINT8", "parameters": {"binary_data_size": 1000}} for name in NAMES
    ]
    head = json.dumps({"inputs": inputs}).encode()
    return Request({"body": Part(bytearray(head + bytes(2000)))}, {JSON_LENGTH_HEADER: str(len(head))})


def as_json() -> Request:
    return Request({"body": Part(json.dumps({name: [0] * 1000 for name in NAMES}).encode(), "application/json")})


@pytest.mark.parametrize(
    "request_",
    [as_npz(), as_npz(0), as_parts(), as_open_inference(), as_json()],
    ids=["deflated .npz", "stored .npz", "parts", "Open Inference Protocol", "JSON"],
)
def test_inputs_are_counted_together_as_the_model_takes_them(request_):
    assert decode_request(request_, DOUBLES, 1, 16000).inputs["y"].nbytes == 8000
    with pytest.raises(RequestError, match="the inputs take 16000 bytes or more in this model's dtypes") as caught:
        decode_request(request_, DOUBLES, 1, 15999)
    assert (caught.value.status, caught.value.field) == (413, "y")
    if "x" in request_ or request_["body"].content[:2] != b"PK":
        assert decode_request(request_, NARROW, 1, 2000).inputs["y"].nbytes == 1000


def test_nothing_is_converted_before_it_is_counted(monkeypatch):
    header = hostile_archives.npy_header("|u1", (1 << 20,))
    content = bytearray(header + bytes(1 << 20))
    monkeypatch.setattr(TensorSpec, "convert", lambda *_: pytest.fail("it was converted"))
    with pytest.raises(RequestError, match="the inputs take"):
        decode_request(Request({"body": Part(content)}), (DOUBLES[0],), 1, 1 << 22)


def test_bytes_that_are_unpacked_twice_count_twice():
    inner = hostile_archives.npz_bomb("|u1", x=(1000,))
    packed = Request({"body": Part(bytearray(gzip.compress(inner)))}, {"Content-Encoding": "gzip"})
    assert decode_request(packed, (NARROW[0],), 1, 1128 + len(inner)).inputs["x"].nbytes == 1000
    with pytest.raises(RequestError, match=f"the request unpacks to {1128 + len(inner)} bytes or more") as caught:
        decode_request(packed, (NARROW[0],), 1, 1127 + len(inner))
    assert caught.value.status == 413


def test_archives_in_parts_are_unpacked_within_one_bound():
    parts = {name: Part(bytearray(hostile_archives.npz_bomb("|u1", a=(1000,)))) for name in NAMES}
    assert len(decode_request(Request(parts), NARROW, 1, 2256).inputs) == 2
    with pytest.raises(RequestError, match="the request unpacks to 2256 bytes or more") as caught:
        decode_request(Request(parts), NARROW, 1, 2255)
    assert (caught.value.status, caught.value.field) == (413, "y")


def test_images_are_counted_together_by_pixels_and_by_bytes():
    specs = tuple(TensorSpec(name, numpy.dtype("float32"), (-1, -1)) for name in NAMES)
    parts = Request({name: Part(hostile_images.png(20, 10)) for name in NAMES})
    assert len(decode_request(parts, specs, 400, 1600).inputs) == 2
    with pytest.raises(RequestError, match="20 x 10 pixels, after 200 of other images; at most 399") as caught:
        decode_request(parts, specs, 399, 1600)
    assert (caught.value.status, caught.value.field) == (413, "y")
    with pytest.raises(RequestError, match="the inputs take 1600 bytes") as caught:
        decode_request(parts, specs, 400, 1599)
    assert (caught.value.status, caught.value.field) == (413, "y")


def test_bfloat16_in_shared_memory_counts_as_what_it_becomes():
    name = f"opserve-test-{uuid.uuid4().hex}"
    path = Path(FOLDER, name)
    path.write_bytes(bytes(2000))
    try:
        place = {"shared_memory_region": name, "shared_memory_byte_size": 2000}
        tensor = {"name": "x", "shape": [1000], "datatype": "BF16", "parameters": place}
        request = Request({"body": Part(json.dumps({"inputs": [tensor]}).encode())})
        spec = TensorSpec("x", numpy.dtype("float32"), (-1,))
        assert decode_request(request, (spec,), 1, 4000, SharedMemory(name, 4000)).inputs["x"].nbytes == 4000
        with pytest.raises(RequestError, match="in shared memory have 4000 bytes; at most 3999") as caught:
            decode_request(request, (spec,), 1, 4000, SharedMemory(name, 3999))
        assert caught.value.status == 413
    finally:
        path.unlink()


def test_a_budget_is_spent_once():
    budget = Budget(10, 10)
    budget.take_bytes(10, "x")
    budget.take_unpacked(10)
    budget.take_pixels(5, 2, "x")
    for take in (lambda: budget.take_bytes(1, "x"), lambda: budget.take_unpacked(1)):
        with pytest.raises(RequestError) as caught:
            take()
        assert caught.value.status == 413


@pytest.mark.parametrize("count", [10, 1000])
def test_json_is_refused_alike_whatever_its_length(count):
    content = json.dumps({"x": [0] * count, "y": [0.5]}).encode()
    specs = (TensorSpec("x", numpy.dtype("float64"), (-1,)), TensorSpec("y", numpy.dtype("int8"), (-1,)))
    with pytest.raises(RequestError, match="the inputs take") as caught:
        decode_request(Request({"body": Part(content)}), specs, 1, 8 * count - 1)
    assert (caught.value.status, caught.value.field) == (413, "x")
    with pytest.raises(RequestError, match="int8 cannot hold") as caught:
        decode_request(Request({"body": Part(content)}), specs, 1, 8 * count)
    assert (caught.value.status, caught.value.field) == (400, "y")
