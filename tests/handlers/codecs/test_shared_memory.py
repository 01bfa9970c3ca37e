"""Tensors in shared memory: read, written, and refused if they are not as they should be."""

import json
import os
import threading
import uuid
from pathlib import Path

import numpy
import pytest

from handlers.codecs.decode import decode_request
from handlers.codecs.encode import encode_outputs
from handlers.codecs.request import Part, Request
from handlers.codecs.shared_memory import FOLDER, NO_SHARED_MEMORY, REGION, Region, SharedMemory, read, write
from handlers.errors import RequestError
from handlers.signature import TensorSpec

X = TensorSpec("x", numpy.dtype("float32"), (-1, -1))
VALUES = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)


class Shared:
    """Regions of one test, removed afterwards."""

    def __init__(self) -> None:
        self.prefix = f"opserve-test-{uuid.uuid4().hex}-"
        self.memory = SharedMemory(self.prefix)

    def path(self, name: str = "a") -> Path:
        return Path(FOLDER, self.prefix + name)

    def make(self, content: bytes, name: str = "a") -> str:
        self.path(name).write_bytes(content)
        return self.prefix + name


@pytest.fixture
def shared():
    made = Shared()
    yield made
    for path in Path(FOLDER).glob(f"{made.prefix}*"):
        path.unlink()


def place(key, size=24, offset=0) -> dict:
    return {REGION: key, "shared_memory_byte_size": size, "shared_memory_offset": offset}


def request(parameters: dict, shape=(2, 3), datatype="FP32", outputs=None, **more) -> Request:
    tensor = {"name": "x", "shape": list(shape), "datatype": datatype, "parameters": parameters} | more
    document = {"inputs": [tensor]} | ({"outputs": outputs} if outputs else {})
    return Request({"body": Part(bytearray(json.dumps(document).encode()), "application/json")})


def decode(request_: Request, memory: SharedMemory, *specs: TensorSpec):
    return decode_request(request_, specs or (X,), 1000, memory=memory)


@pytest.mark.parametrize("offset", [0, 5, 4096])
def test_an_input_is_read(shared, offset):
    key = shared.make(bytes(offset) + VALUES.tobytes() + b"more")
    got = decode(request(place(key, offset=offset)), shared.memory).inputs["x"]
    numpy.testing.assert_array_equal(got, VALUES)
    assert got.flags.carray


def test_the_offset_is_optional_and_a_tensor_may_be_empty(shared):
    key = shared.make(VALUES.tobytes())
    parameters = {REGION: key, "shared_memory_byte_size": 24}
    numpy.testing.assert_array_equal(decode(request(parameters), shared.memory).inputs["x"], VALUES)
    assert decode(request(place(key, 0), (0, 3)), shared.memory).inputs["x"].shape == (0, 3)


def test_smaller_datatypes_are_widened(shared):
    key = shared.make(VALUES.astype(numpy.float16).tobytes())
    got = decode(request(place(key, 12), datatype="FP16"), shared.memory).inputs["x"]
    numpy.testing.assert_array_equal(got, VALUES)
    key = shared.make((VALUES.view(numpy.uint32) >> 16).astype(numpy.uint16).tobytes())
    numpy.testing.assert_array_equal(
        decode(request(place(key, 12), datatype="BF16"), shared.memory).inputs["x"], VALUES
    )


def test_what_was_read_is_a_copy(shared):
    key = shared.make(VALUES.tobytes())
    got = decode(request(place(key)), shared.memory).inputs["x"]
    shared.path().write_bytes(bytes(24))
    numpy.testing.assert_array_equal(got, VALUES)


def test_an_output_is_written(shared):
    source, target = shared.make(VALUES.tobytes()), shared.make(b"\xff" * 40, "out")
    outputs = [{"name": "y", "parameters": place(target, 32, 8)}, {"name": "label"}]
    reply = decode(request(place(source), outputs=outputs), shared.memory).response_format
    answer = encode_outputs({"y": VALUES * 2, "label": numpy.int64(3)}, reply)
    y, label = json.loads(answer.body)["outputs"]
    assert y == {"name": "y", "datatype": "FP32", "shape": [2, 3], "parameters": place(target, 24, 8)}
    assert label["data"] == [3]
    assert shared.path("out").read_bytes() == b"\xff" * 8 + (VALUES * 2).tobytes() + b"\xff" * 8


def test_an_output_must_fit(shared):
    target = shared.make(bytes(23), "out")
    with pytest.raises(RequestError, match="'y' takes 24 bytes, but its shared_memory_byte_size is 23") as caught:
        write(Region(target, 0, 23), VALUES, "y")
    assert caught.value.field == "y"
    with pytest.raises(RequestError, match="ends before byte 24"):
        write(Region(target, 0, 24), VALUES, "y")
    assert shared.path("out").read_bytes() == bytes(23)


def test_without_a_prefix_there_is_none(shared):
    key = shared.make(VALUES.tobytes())
    with pytest.raises(RequestError, match="sets no shared_memory prefix") as caught:
        decode(request(place(key)), NO_SHARED_MEMORY)
    assert (caught.value.status, caught.value.field) == (400, "x")
    with pytest.raises(RequestError, match="sets no shared_memory prefix"):
        decode(request({}, data=VALUES.tolist(), outputs=[{"name": "y", "parameters": place(key)}]), NO_SHARED_MEMORY)


@pytest.mark.parametrize(
    "key", ["passwd", "../../etc/passwd", "{}/../x", "{}a/b", "{}\0", "{}\n", "/{}a", "", "{}é", 7]
)
def test_only_keys_with_the_prefix_are_opened(shared, key):
    key = key.format(shared.prefix) if isinstance(key, str) else key
    for parameters, more in ((place(key), {}), ({}, {"outputs": [{"name": "y", "parameters": place(key)}]})):
        with pytest.raises(RequestError, match="must be a key that begins with 'opserve-test-"):
            decode(request(parameters, **more, **({"data": VALUES.tolist()} if more else {})), shared.memory)


@pytest.mark.parametrize(
    ("size", "offset"), [(-1, 0), (24, -1), (24.0, 0), ("24", 0), (None, 0), (True, 0), (24, 2**70)]
)
def test_sizes_are_whole_numbers(shared, size, offset):
    with pytest.raises(RequestError, match="of 0 or more"):
        decode(request(place(shared.make(VALUES.tobytes()), size, offset)), shared.memory)


@pytest.mark.parametrize("offset", [1, 24, 2**61])
def test_a_region_that_ends_before_the_tensor_is_refused(shared, offset):
    with pytest.raises(RequestError, match=f"ends before byte {24 + offset}"):
        decode(request(place(shared.make(VALUES.tobytes()), offset=offset)), shared.memory)


@pytest.mark.parametrize(("size", "shape"), [(23, (2, 3)), (24, (2, 2)), (24, (2, 2**40))])
def test_the_bytes_must_be_those_of_the_shape(shared, size, shape):
    with pytest.raises(RequestError, match=f"its shared_memory_byte_size is {size}"):
        decode(request(place(shared.make(VALUES.tobytes()), size), shape), shared.memory)


def test_a_bool_is_0_or_1(shared):
    flags = TensorSpec("x", numpy.dtype("bool"), (-1,))
    with pytest.raises(RequestError, match="neither 0 nor 1"):
        decode(request(place(shared.make(b"\2"), 1), (1,), "BOOL"), shared.memory, flags)


def test_data_and_a_region_together_are_refused(shared):
    key = shared.make(VALUES.tobytes())
    with pytest.raises(RequestError, match="either data or a place in shared memory"):
        decode(request(place(key), data=VALUES.tolist()), shared.memory)


def test_sparse_regions_are_bounded_before_they_are_read(shared):
    """A sparse file may be larger than all memory."""
    key = shared.make(b"")
    os.truncate(shared.path(), 1 << 45)
    with pytest.raises(RequestError, match="at most 268435456 are accepted") as caught:
        decode(request(place(key, 1 << 44), (1 << 20, 1 << 22)), shared.memory)
    assert caught.value.status == 413
    names = ("x", "y", "z")
    inputs = [{"name": name, "shape": [250], "datatype": "FP32", "parameters": place(key, 1000)} for name in names]
    body = Part(bytearray(json.dumps({"inputs": inputs}).encode()), "application/json")
    specs = [TensorSpec(name, X.dtype, (250,)) for name in names]
    with pytest.raises(RequestError, match="have 3000 bytes; at most 2500"):
        decode(Request({"body": body}), shared.memory._replace(max_bytes=2500), *specs)


def test_links_pipes_and_folders_are_refused(shared, tmp_path):
    (tmp_path / "secret").write_bytes(VALUES.tobytes())
    shared.path("link").symlink_to(tmp_path / "secret")
    shared.make(VALUES.tobytes(), "first")
    os.link(shared.path("first"), shared.path("second"))
    os.mkfifo(shared.path("pipe"))
    for name, message in (
        ("link", "cannot be used"),
        ("second", "a link or not"),
        ("pipe", "a link or not"),
        ("none", "No such"),
    ):
        with pytest.raises(RequestError, match=message):
            read(Region(shared.prefix + name, 0, 24), "x")
        with pytest.raises(RequestError, match=message):
            write(Region(shared.prefix + name, 0, 24), VALUES, "y")
    assert (tmp_path / "secret").read_bytes() == VALUES.tobytes()
    shared.path("folder").mkdir()
    try:
        with pytest.raises(RequestError, match="a link or not memory"):
            read(Region(shared.prefix + "folder", 0, 24), "x")
    finally:
        shared.path("folder").rmdir()


def test_a_region_that_shrinks_while_it_is_read_does_not_end_the_process(shared):
    """Reading a mapping of it would end in SIGBUS."""
    size = 1 << 22
    region, stop = Region(shared.make(bytes(size)), 0, size), threading.Event()

    def shrink() -> None:
        while not stop.is_set():
            os.truncate(shared.path(), 4096)
            os.truncate(shared.path(), size)

    thread = threading.Thread(target=shrink)
    thread.start()
    try:
        for _ in range(500):
            try:
                assert len(read(region, "x")) == size
            except RequestError as error:
                assert "ends before byte" in error.message
    finally:
        stop.set()
        thread.join()


def test_no_descriptor_is_left_open(shared):
    region = Region(shared.make(bytes(24)), 0, 24)
    before = len(list(Path("/proc/self/fd").iterdir()))
    read(region, "x")
    for wrong in (region._replace(size=99), region._replace(key=shared.prefix + "none")):
        with pytest.raises(RequestError):
            read(wrong, "x")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_region_that_was_shortened_after_the_check_is_refused(shared, monkeypatch):
    region, look = Region(shared.make(bytes(24)), 0, 24), os.fstat

    def look_and_shorten(file: int) -> os.stat_result:
        found = look(file)
        os.truncate(shared.path(), 8)
        return found

    monkeypatch.setattr(os, "fstat", look_and_shorten)
    with pytest.raises(RequestError, match="ends before byte 24"):
        read(region, "x")
