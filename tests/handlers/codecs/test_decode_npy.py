"""`.npy` and `.npz` requests: arrays in place, and every file that is refused."""

import io
import struct
import tracemalloc
import warnings
import zipfile
import zlib

import numpy
import pytest

from handlers.codecs.decode import decode_request
from handlers.codecs.npy import list_npz, read_member, read_npy, write_npz
from handlers.codecs.request import Part, Request
from handlers.errors import RequestError
from handlers.signature import TensorSpec

X = TensorSpec("x", numpy.dtype("float32"), (-1, -1))
EDGES = TensorSpec("edges", numpy.dtype("int64"), (2, -1))
VALUES = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
INDICES = numpy.array([[0, 1], [1, 2]])


def npy(array: numpy.ndarray, **options) -> bytearray:
    buffer = io.BytesIO()
    numpy.lib.format.write_array(buffer, numpy.asanyarray(array), **options)
    return bytearray(buffer.getvalue())


def npz(*, compressed: bool = False, **arrays) -> bytearray:
    buffer = io.BytesIO()
    (numpy.savez_compressed if compressed else numpy.savez)(buffer, **arrays)
    return bytearray(buffer.getvalue())


def npy_of(header: str, data: bytes = b"", version: int = 1) -> bytearray:
    """An `.npy` file with any header."""
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return bytearray(b"\x93NUMPY" + bytes((version, 0)) + length + header.encode("latin-1") + data)


def body(content, content_type: str = "application/octet-stream") -> Request:
    return Request({"body": Part(content, content_type)})


def is_view(array: numpy.ndarray, content: bytearray) -> bool:
    return numpy.shares_memory(array, numpy.frombuffer(content, numpy.uint8))


def lies_on_its_boundary(array: numpy.ndarray, content: bytearray) -> bool:
    """Whether `array` is an aligned view of `content`."""
    address = numpy.frombuffer(content, numpy.uint8).ctypes.data + content.index(array.tobytes())
    return address % array.itemsize == 0


def decode(request, *specs, **limits):
    return decode_request(request, specs or (X,), 1000, **limits).inputs


@pytest.mark.parametrize("content_type", ["application/x-npy", "application/octet-stream", "", "text/plain"])
def test_a_whole_body_is_viewed_not_copied(content_type):
    content = npy(VALUES)
    got = decode(body(content, content_type))["x"]
    numpy.testing.assert_array_equal(got, VALUES)
    assert is_view(got, content) and got.flags.carray


def test_parts_are_viewed_too():
    parts = {"x": Part(npy(VALUES)), "edges": Part(npz(any_name=INDICES))}
    got = decode(Request(parts), X, EDGES)
    for name, part in parts.items():
        assert is_view(got[name], part.content) == lies_on_its_boundary(got[name], part.content)
    numpy.testing.assert_array_equal(got["x"], VALUES)
    numpy.testing.assert_array_equal(got["edges"], INDICES)


@pytest.mark.parametrize("content_type", ["application/x-npz", "application/zip", ""])
def test_an_npz_holds_the_inputs_by_name(content_type):
    content = npz(edges=INDICES, x=VALUES)
    got = decode(body(content, content_type), X, EDGES)
    assert list(got) == ["x", "edges"]
    for array, expected in ((got["x"], VALUES), (got["edges"], INDICES)):
        numpy.testing.assert_array_equal(array, expected)
        assert is_view(array, content) == lies_on_its_boundary(array, content)
        assert array.flags.carray


@pytest.mark.parametrize("length", range(1, 9))
def test_an_aligned_array_in_an_npz_is_a_view(length):
    name = "abcdefgh"[:length]  # which moves the data
    content = npz(**{name: VALUES})
    got = decode(body(content), TensorSpec(name, X.dtype, X.shape))[name]
    numpy.testing.assert_array_equal(got, VALUES)
    assert is_view(got, content) == lies_on_its_boundary(got, content) == ((55 + length - 5) % 4 == 0)


def test_a_deflated_npz():
    got = decode(body(npz(compressed=True, x=VALUES, edges=INDICES)), X, EDGES)
    numpy.testing.assert_array_equal(got["x"], VALUES)
    assert got["x"].flags.carray


@pytest.mark.parametrize("shift", range(4))
def test_unaligned_arrays_are_copied(shift):
    room = bytearray(shift) + npy(VALUES)
    got = decode(body(memoryview(room)[shift:]))["x"]
    numpy.testing.assert_array_equal(got, VALUES)
    assert got.flags.carray
    assert is_view(got, room) == (shift == 0)


def test_read_only_bytes_are_copied_so_that_a_hook_may_write():
    got = decode(body(bytes(npy(VALUES))))["x"]
    got += 1
    numpy.testing.assert_array_equal(got, VALUES + 1)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", ">f8", "<i4", ">i2", "u1", "<u8", "<i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_other_dtypes_byte_orders_and_layouts_become_the_signatures(dtype, order):
    got = decode(body(npy(numpy.array(VALUES, dtype=dtype, order=order))))["x"]
    assert got.dtype == numpy.float32 and got.flags.carray
    numpy.testing.assert_array_equal(got, VALUES)


def test_widening_loses_nothing_and_narrowing_is_refused():
    assert decode(body(npy(numpy.int32([[1, 2], [3, 4]]))), EDGES)["edges"].dtype == numpy.int64
    with pytest.raises(RequestError, match="'edges' holds a number that int64 cannot hold"):
        decode(body(npy(numpy.float32([[1.5], [2]]))), EDGES)
    with pytest.raises(RequestError, match="'x' holds a number that float32 cannot hold"):
        decode(body(npy(numpy.array([[1e300]]))))


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_both_versions_of_plain_headers(version):
    numpy.testing.assert_array_equal(read_npy(npy(VALUES, version=version), "x"), VALUES)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0), (1,) * 32])
def test_shapes_of_every_rank(shape):
    assert read_npy(npy(numpy.zeros(shape)), "x").shape == shape


@pytest.mark.parametrize("descr", ["<f4", "=f4", "|f4", "f4", "float32"])
def test_the_ways_to_write_a_dtype(descr):
    content = npy_of(header(descr=f"'{descr}'", shape="(2, 3)"), VALUES.tobytes())
    numpy.testing.assert_array_equal(read_npy(content, "x"), VALUES, strict=True)


F4 = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }"


def header(descr="'<f4'", fortran_order="False", shape="(1,)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran_order}, 'shape': {shape}}}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(VALUES)[:-1], "needs 24 bytes, got 23"),
        (npy(VALUES) + b"\0", "needs 24 bytes, got 25"),
        (npy(VALUES)[:100], "truncated"),
        (npy(VALUES)[:9], "not an .npy file"),
        (npy_of(F4, b"1234", version=4), "version 4"),
        (npy_of(header(shape="(2**70,)")), "not readable|sizes"),
        (npy_of(header(shape=f"({2**62}, 4)")), "needs"),
        (npy_of(header(shape=f"(0, {2**62}, {2**62})")), "no array can have"),
        (npy_of(header(shape=f"({2**70},)")), "sizes"),
        (npy_of(header(shape="(-1,)")), "sizes"),
        (npy_of(header(shape="(True,)")), "sizes"),
        (npy_of(header(shape="[1]")), "sizes"),
        (npy_of(header(shape="(" + "1," * 40 + ")"), b"1234"), "sizes"),
        (npy_of(header(fortran_order="0")), "True or False"),
        (npy_of(header(descr="[('a', '<f4')]")), "plain dtype"),
        (npy_of(header(descr="'<f4,<f4'")), "not accepted"),
        (npy_of(header(descr="'3f4'")), "not accepted"),
        (npy_of(header(descr="'|O'")), "not accepted"),
        (npy_of(header(descr="'<c8'")), "not accepted"),
        (npy_of(header(descr="'<U4'")), "not accepted"),
        (npy_of(header(descr="'<f16'")), "not accepted"),
        (npy_of(header(descr="'<M8[s]'")), "not accepted"),
        (npy_of(header(descr="'no dtype'")), "'no dtype' is not accepted"),
        (npy_of(header(descr="'<f+4'")), "not accepted"),
        (npy_of(header(descr="'<\x0b'")), r"'<\\x0b' is not accepted"),
        (npy_of(header(descr="'1f4'")), "not accepted"),
        (npy_of(header(descr="''")), "not accepted"),
        (npy_of(header(descr="b'<f4'")), "plain dtype"),
        (npy_of("__import__('os').abort()"), "not readable"),
        (npy_of("(" * 900), "not readable"),
        (npy_of("-" * 1000 + "1"), "not readable|must hold"),
        (npy_of(header(descr="'\\f4'")), "backslash"),
        (npy_of("{'descr': '<f4'}"), "must hold"),
        (npy_of(F4 + " " * 2000, b"1234"), "longer than"),
        (npy_of("\x00\x00\x00\x00"), "not readable"),
        (bytearray(b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b"{" * 100), "truncated"),
    ],
)
def test_an_invalid_npy_file_is_refused(content, message):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RequestError, match=message) as caught:
            decode(body(content))
    assert (caught.value.field, caught.value.status) == ("x", 400)


def test_python_objects_are_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("owned").touch, ())

    objects = numpy.array([Bomb()], dtype=object)
    for content in (npy(objects), npz(x=objects)):
        with pytest.raises(RequestError, match="not accepted") as caught:
            decode(body(content))
        assert caught.value.field == "x"
    assert not (tmp_path / "owned").exists()


def test_a_bool_is_0_or_1():
    mask = TensorSpec("mask", numpy.dtype("bool"), (-1,))
    content = npy(numpy.array([True, False]))
    assert decode(body(content), mask)["mask"].tolist() == [True, False]
    content[-1] = 2
    with pytest.raises(RequestError, match="neither 0 nor 1"):
        decode(body(content), mask)


def zipped(*members: tuple[str, bytes], method=zipfile.ZIP_STORED) -> bytearray:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about names that occur twice
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, content in members:
                archive.writestr(name, content)
    return bytearray(buffer.getvalue())


def patched(content: bytearray, signature: bytes, offset: int, layout: str, value: int) -> bytearray:
    """A zip archive with one number changed, at `offset` after the first `signature`."""
    changed = bytearray(content)
    struct.pack_into(layout, changed, changed.index(signature) + offset, value)
    return changed


GOOD = npz(x=VALUES)
ENTRY, LOCAL = b"PK\x01\x02", b"PK\x03\x04"


@pytest.mark.parametrize(
    ("content", "field", "message"),
    [
        (GOOD[:-1], None, "truncated or not a plain zip"),
        (GOOD[:30], None, "truncated or not a plain zip"),
        (GOOD[:10], None, "truncated"),
        (bytearray(b"PK\x05\x06" + bytes(18)), "x", "'x' is missing"),
        (zipped(("x.npy", npy(VALUES)), ("x.npy", npy(VALUES))), "x", "twice"),
        (zipped(("x.npy", npy(VALUES)), ("y.npy", npy(VALUES))), "y", "not an input"),
        (zipped(("x.txt", b"1")), None, "'x.txt', which is not an .npy"),
        (zipped(("../x.npy", npy(VALUES))), "x", "'x' is missing"),
        (zipped(("x.npy", b"no array")), "x", "not an .npy file"),
        (zipped(("x.npy", npy(VALUES)), method=zipfile.ZIP_LZMA), "x", "stored or deflated"),
        (patched(GOOD, ENTRY, 8, "<H", 1), "x", "without encryption"),
        (patched(GOOD, ENTRY, 42, "<L", 0xFFFFFFFF), "x", "zip64"),
        (patched(GOOD, ENTRY, 42, "<L", 0xFFFFFFF0), "x", "truncated"),
        (patched(GOOD, ENTRY, 42, "<L", 1), "x", "truncated"),
        (patched(GOOD, ENTRY, 20, "<L", 100_000), "x", "truncated"),
        (patched(GOOD, ENTRY, 16, "<L", 0), "x", "checksum"),
        (patched(GOOD, ENTRY, 24, "<L", 5), "x", "checksum"),
        (patched(GOOD, b"PK\x05\x06", 10, "<H", 2), None, "truncated"),
        (patched(GOOD, b"PK\x05\x06", 8, "<L", 0x00020002), None, "directory"),
        (patched(GOOD, b"PK\x05\x06", 20, "<H", 1), None, "truncated"),
    ],
)
def test_an_invalid_npz_file_is_refused(content, field, message):
    with pytest.raises(RequestError, match=message) as caught:
        decode(body(content))
    assert caught.value.field == field


def test_a_changed_byte_of_the_data_does_not_match_its_checksum():
    for packed in (GOOD, npz(compressed=True, x=numpy.arange(1000.0).reshape(10, 100))):
        damaged = bytearray(packed)
        damaged[len(packed) // 2 if len(packed) > 1000 else packed.index(VALUES.tobytes()) + 5] ^= 1
        with pytest.raises(RequestError, match="checksum"):
            decode(body(damaged))


def test_bombs_are_refused_before_they_are_unpacked():
    content = npz(compressed=True, x=numpy.zeros((1000, 1000), numpy.float32))
    assert len(content) < 10_000
    with pytest.raises(RequestError, match="unpacks to 4000128 bytes; at most 1000000") as caught:
        decode(body(content), max_npz_bytes=1_000_000)
    assert caught.value.status == 413


def test_a_bomb_with_a_false_size_stops_at_that_size():
    honest = npz(compressed=True, x=numpy.zeros((1000, 1000), numpy.float32))
    liar = patched(honest, ENTRY, 24, "<L", 200)
    with pytest.raises(RequestError, match="checksum"):
        decode(body(liar))
    member = list_npz(liar, None)["x"]
    tracemalloc.start()
    with pytest.raises(RequestError, match="checksum"):
        read_member(liar, member, "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert member.size == 200 and peak < 100_000


def test_members_share_one_bound():
    content = zipped(*((f"a{index}.npy", bytes(1000)) for index in range(5)), method=zipfile.ZIP_DEFLATED)
    assert len(list_npz(content, None, 5000)) == 5
    with pytest.raises(RequestError, match="unpacks to 5000"):
        list_npz(content, None, 4999)


def test_files_of_other_writers():
    streamed = io.BytesIO()

    class Unseekable(io.RawIOBase):  # makes zipfile write sizes behind the data, as servers do
        def writable(self):
            return True

        def write(self, data):
            return streamed.write(data)

    numpy.savez(Unseekable(), x=VALUES)
    numpy.testing.assert_array_equal(decode(body(bytearray(streamed.getvalue())))["x"], VALUES)
    tight = npy_of("{'shape':(2,3),'fortran_order':False,'descr':'<f4'}\n", VALUES.tobytes())
    numpy.testing.assert_array_equal(decode(body(tight))["x"], VALUES)


def test_numpy_reads_what_is_written():
    names = {"x": VALUES, "file": INDICES, "args": numpy.float64(3)}
    content = write_npz({name: numpy.asarray(value) for name, value in names.items()})
    with numpy.load(io.BytesIO(content), allow_pickle=False) as archive:
        assert list(archive) == list(names)
        for name, value in names.items():
            numpy.testing.assert_array_equal(archive[name], value)
    assert zlib.crc32(content) == zlib.crc32(write_npz({k: numpy.asarray(v) for k, v in names.items()}))


def test_several_inputs_need_names():
    with pytest.raises(RequestError, match=r"or all in an \.npz"):
        decode(body(npy(VALUES)), X, EDGES)
    with pytest.raises(RequestError, match=r"an \.npz file of 2 arrays; send one of a single") as caught:
        decode(Request({"x": Part(npz(a=VALUES, b=VALUES)), "edges": Part(npy(INDICES))}), X, EDGES)
    assert caught.value.field == "x"
