"""Any bytes are decoded or refused: the parsers raise nothing but RequestError."""

import io
import json
import random

import numpy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from handlers.codecs import json_arrays
from handlers.codecs.datatypes import DATATYPES
from handlers.codecs.decode import decode_request
from handlers.codecs.encode import encode_outputs
from handlers.codecs.image_file import read_orientation
from handlers.codecs.npy import read_npy, write_npz
from handlers.codecs.oip import JSON_LENGTH_HEADER
from handlers.codecs.request import Part, Request
from handlers.errors import RequestError
from handlers.signature import TensorSpec
from tests.support import hostile_images

# The same examples every time: a test that fails only sometimes is of no use.
fuzz = settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

X = TensorSpec("x", numpy.dtype("float32"), (-1, -1))
Y = TensorSpec("y", numpy.dtype("int64"), (-1,))

dtypes = st.one_of(
    hnp.boolean_dtypes(), hnp.integer_dtypes(endianness="?"), hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64))
)
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))


def npy(array: numpy.ndarray) -> bytes:
    buffer = io.BytesIO()
    numpy.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def npz(compressed, **members: numpy.ndarray) -> bytes:
    buffer = io.BytesIO()
    (numpy.savez_compressed if compressed else numpy.savez)(buffer, **members)
    return buffer.getvalue()


@st.composite
def damaged(draw, sound: st.SearchStrategy[bytes]) -> bytes:
    """A valid file with bytes changed, inserted or removed, or its end cut off."""
    content = bytearray(draw(sound))
    for _ in range(draw(st.integers(1, 4))):
        # Headers are where the interesting bytes are: the ends of a file more often than its middle.
        near = draw(st.sampled_from([0, max(0, len(content) - 120), draw(st.integers(0, len(content)))]))
        at = min(len(content), near + draw(st.integers(0, 120)))
        length = draw(st.sampled_from([0, 1, 1, 2, 4, 8]))
        content[at : at + length] = draw(st.binary(max_size=8))
    if draw(st.booleans()):
        del content[draw(st.integers(0, len(content))) :]
    return bytes(content)


def outcomes(request: Request, *specs: TensorSpec) -> list:
    """The outcome of a request with either JSON parser: a `DecodedRequest` or an error, twice."""
    found = []
    threshold = json_arrays.SMALL
    try:
        for json_arrays.SMALL in (0, 10**9):
            try:
                found.append(decode_request(request, specs, 10_000, 1 << 20))
            except RequestError as error:
                assert 400 <= error.status < 500 and error.message
                found.append(json.dumps(error.as_dict()))
    finally:
        json_arrays.SMALL = threshold
    return found


def survives(request: Request, *specs: TensorSpec) -> None:
    """Decodes or refuses the same with either JSON parser; the result fits the signature."""
    decoded, other = outcomes(request, *specs)
    if isinstance(decoded, str):
        assert decoded == other
        return
    assert repr(decoded.inputs) == repr(other.inputs) and decoded.response_format == other.response_format
    for spec in specs:
        array = decoded.inputs[spec.name]
        assert array.dtype == spec.dtype and spec.matches(array.shape) and array.flags.carray
        array.sum()  # reads all of it
    encode_outputs({"z": 1.0}, decoded.response_format._replace(infer_request=None))


def body(content: bytes, **headers: str) -> Request:
    return Request({"body": Part(bytearray(content))}, headers)


@fuzz
@given(arrays)
def test_every_npy_file_of_numpy_is_read(array):
    got = read_npy(bytearray(npy(array)), "x")
    assert got.dtype == array.dtype
    numpy.testing.assert_array_equal(got, array)


@fuzz
@given(st.dictionaries(st.text("abcdefgh_", min_size=1, max_size=8), arrays, max_size=4), st.booleans())
def test_every_npz_file_of_numpy_is_read_and_ours_by_numpy(members, compressed):
    specs = [
        TensorSpec(name, array.dtype.newbyteorder("="), (-1,) * array.ndim)
        for name, array in members.items()
        if array.dtype.kind != "u"
    ]
    named = {spec.name: members[spec.name] for spec in specs}
    if specs:
        got = decode_request(body(npz(compressed, **named)), specs, 1).inputs
        for name, array in named.items():
            numpy.testing.assert_array_equal(got[name], array)
    with numpy.load(io.BytesIO(write_npz(members)), allow_pickle=False) as archive:
        assert set(archive) == set(members)
        for name, array in members.items():
            numpy.testing.assert_array_equal(archive[name], array)


@fuzz
@given(damaged(arrays.map(npy)))
def test_damaged_npy(content):
    survives(body(content), X)
    survives(Request({"x": Part(bytearray(content)), "y": Part(bytearray(content))}), X, Y)


@fuzz
@given(st.one_of(st.text(max_size=80), st.recursive(st.sampled_from("{}()[],:-'<f4>O1\\ "), st.lists).map(str)))
@example("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 500 + ",)}")
@example("{'descr': ',', 'fortran_order': False, 'shape': ()}")
@example("{'descr': '(2,)f4', 'fortran_order': False, 'shape': ()}")
@example("{" * 900)
@example("not " * 250 + "1")
@example("1" + "+1j" * 300)
@example("{[]: 1}")
def test_any_npy_header(text):
    header = text.encode()
    survives(body(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(8)), X)


@fuzz
@given(st.text("<>|=fiubOSUVMmcgdl0123456789,()[] ", max_size=12))
def test_any_npy_dtype(descr):
    header = repr({"descr": descr, "fortran_order": False, "shape": (1, 1)}).encode()
    survives(body(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(8)), X)


@fuzz
@given(damaged(st.builds(npz, st.booleans(), x=arrays, y=arrays)))
def test_damaged_npz(content):
    survives(body(content), X, Y)
    survives(Request({"x": Part(bytearray(content))}), X)


def test_damaged_photographs():
    generator = random.Random(7)
    photographs, exif = hostile_images.photographs(), hostile_images.exif_that_cannot_be_written()
    read = 0
    for turn in range(3000):
        content = hostile_images.mutated(generator.choice(photographs), generator)
        if turn % 5 == 0:
            content = hostile_images.mutated(hostile_images.with_exif(content, generator.choice(exif)), generator)
        spec = TensorSpec("x", numpy.dtype("uint8"), generator.choice([(-1, -1), (3, -1, -1), (-1, -1, 1)]))
        try:
            array = decode_request(body(content), (spec,), 10**6, 1 << 24).inputs["x"]
        except RequestError as error:
            assert error.status in (400, 413) and error.field in ("x", None)
        else:
            assert array.dtype == spec.dtype and spec.matches(array.shape) and array.flags.carray
            read += 1
    assert read > 300


@fuzz
@given(st.binary(max_size=40), st.sampled_from(["", "Exif\0\0"]), st.sampled_from(["II*\0", "MM\0*", ""]))
def test_any_exif(data, name, order):
    assert 1 <= read_orientation(name.encode() + order.encode() + data) <= 8


@fuzz
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06", b"\x89PNG\r\n\x1a\n", b"{"]),
)
def test_any_bytes_after_any_magic(content, magic):
    survives(body(magic + content), X)
    survives(body(magic + content, **{JSON_LENGTH_HEADER: str(len(magic))}), X)


sizes = st.one_of(st.integers(0, 4), st.sampled_from([-1, 2**31, 2**62, 2**63, 2**70, True, 1.5, "2", None]))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 2**64), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=8,
)
parameters = st.one_of(
    values, st.fixed_dictionaries({}, optional={"binary_data_size": st.one_of(st.integers(-1, 40), values)})
)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.one_of(st.sampled_from("xyz"), values),
        "shape": st.one_of(st.lists(sizes, max_size=4), values),
        "datatype": st.one_of(st.sampled_from(sorted(DATATYPES)), values),
        "data": st.one_of(st.lists(st.one_of(st.integers(0, 3), st.floats(), values), max_size=8), values),
        "parameters": parameters,
    },
)
calls = st.fixed_dictionaries(
    {"inputs": st.one_of(st.lists(tensors, max_size=3), values)},
    optional={"outputs": st.one_of(st.lists(tensors, max_size=2), values), "id": values, "parameters": parameters},
)


@fuzz
@given(calls, st.binary(max_size=40), st.one_of(st.none(), st.integers(-10, 10), st.text(max_size=4)))
def test_any_call_of_the_open_inference_protocol(document, tail, shift):
    head = json.dumps(document).encode()
    length = str(len(head) + shift) if isinstance(shift, int) else shift
    headers = {} if length is None else {JSON_LENGTH_HEADER: length}
    survives(body(head + tail, **headers), X)
    survives(body(head + tail, **headers), X, Y)


sound_tensors = st.tuples(st.sampled_from(sorted(DATATYPES)), hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))


@fuzz
@given(sound_tensors, st.data())
def test_damaged_binary_data(tensor, data):
    datatype, shape = tensor
    size = int(numpy.prod(shape)) * (2 if datatype == "BF16" else DATATYPES[datatype].itemsize)
    described = {"name": "x", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [described]}).encode()
    sound = head + bytes(size)
    spec = TensorSpec("x", numpy.dtype("bool" if datatype == "BOOL" else "float64"), (-1,) * len(shape))
    headers = {JSON_LENGTH_HEADER: str(len(head))}
    assert decode_request(body(sound, **headers), (spec,), 1).inputs["x"].shape == shape
    survives(body(data.draw(damaged(st.just(sound))), **headers), spec)


@fuzz
@given(st.one_of(values, st.lists(st.lists(st.floats(allow_nan=False), min_size=2, max_size=2), max_size=6)))
def test_any_json(value):
    survives(body(json.dumps({"x": value}).encode()), X)
    survives(body(json.dumps({"x": value, "y": value}).encode()), X, Y)
    survives(body(json.dumps(value).encode()), X)
