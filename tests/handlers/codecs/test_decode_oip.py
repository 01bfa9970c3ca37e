"""Requests of the Open Inference Protocol: tensors as JSON and as binary data."""

import json

import numpy
import pytest

from handlers.codecs.datatypes import DATATYPES
from handlers.codecs.decode import decode_request
from handlers.codecs.negotiation import OIP_TYPE, ResponseFormat
from handlers.codecs.oip import JSON_LENGTH_HEADER, InferRequest
from handlers.codecs.request import Part, Request
from handlers.errors import RequestError
from handlers.signature import TensorSpec

X = TensorSpec("x", numpy.dtype("float32"), (-1, -1))
Y = TensorSpec("y", numpy.dtype("int64"), (-1,))
VALUES = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)


def tensor(name="x", shape=(2, 3), datatype="FP32", **more) -> dict:
    return {"name": name, "shape": list(shape), "datatype": datatype} | more


def request(document: dict, *tails: bytes, header: str | None = None, **headers: str) -> Request:
    head = json.dumps(document).encode()
    if tails or header is not None:
        headers[JSON_LENGTH_HEADER] = str(len(head)) if header is None else header
    return Request({"body": Part(bytearray(b"".join([head, *tails])), "application/json")}, headers)


def binary(array: numpy.ndarray, name="x", datatype="FP32", padding: str = "") -> Request:
    """A request with one tensor as binary data; `padding` moves it."""
    described = tensor(name, array.shape, datatype, parameters={"binary_data_size": array.nbytes})
    return request({"id": padding, "inputs": [described]}, array.tobytes())


def decode(request_, *specs):
    return decode_request(request_, specs or (X,), 1000)


@pytest.mark.parametrize("data", [[0, 1, 2, 3, 4, 5], [[0, 1, 2], [3.0, 4, 5]]])
def test_data_flat_or_nested(data):
    got = decode(request({"inputs": [tensor(data=data)]}))
    numpy.testing.assert_array_equal(got.inputs["x"], VALUES)
    assert got.response_format == ResponseFormat(infer_request=InferRequest())


def test_the_wanted_response_is_read():
    outputs = [{"name": "a", "parameters": {"binary_data": True}}, {"name": "b"}]
    document = {"id": "42", "inputs": [tensor(data=[0] * 6)], "outputs": outputs}
    assert decode(request(document)).response_format.infer_request == InferRequest(
        "42", (("a", True), ("b", False)), False
    )
    document |= {"parameters": {"binary_data_output": True}}
    call = decode(request(document)).response_format.infer_request
    assert call == InferRequest("42", (("a", True), ("b", True)), True) and call.wants_binary
    assert decode(request(document, Accept=OIP_TYPE)).response_format.content_type == OIP_TYPE


@pytest.mark.parametrize("datatype", sorted(DATATYPES))
def test_every_datatype_as_json_and_as_binary(datatype):
    spec = TensorSpec("x", numpy.dtype("bool" if datatype == "BOOL" else "float64"), (-1,))
    numbers = [True, False] if datatype == "BOOL" else [1, 2]
    got = decode(request({"inputs": [tensor(shape=[2], datatype=datatype, data=numbers)]}), spec)
    assert got.inputs["x"].tolist() == numbers
    content = numpy.array(numbers, DATATYPES[datatype])
    if datatype == "BF16":
        content = (content.view(numpy.uint32) >> 16).astype(numpy.uint16)
    assert decode(binary(content, datatype=datatype), spec).inputs["x"].tolist() == numbers


@pytest.mark.parametrize("identifier", ["", "a" * 1024, "é" * 512, "\U0001f600", "a\0b"])
def test_an_id_of_up_to_a_kilobyte_is_kept(identifier):
    assert (
        decode(request({"id": identifier, "inputs": [tensor(data=[0] * 6)]})).response_format.infer_request.id
        == identifier
    )


def test_bfloat16_is_the_upper_half_of_a_float():
    values = numpy.array([1.0, -2.5, numpy.inf, 3e38, 0], numpy.float32)
    halves = (values.view(numpy.uint32) >> 16).astype("<u2")
    got = decode(binary(halves, datatype="BF16"), TensorSpec("x", X.dtype, (5,))).inputs["x"]
    numpy.testing.assert_allclose(got, values, rtol=2**-7)


@pytest.mark.parametrize(("datatype", "size"), [("BF16", 2**61), ("UINT8", 2**62), ("FP64", 2**61)])
def test_an_empty_tensor_may_have_no_impossible_shape(datatype, size):
    described = tensor(shape=[0, size], datatype=datatype, parameters={"binary_data_size": 0})
    with pytest.raises(RequestError, match="no array can have"):
        decode(request({"inputs": [described]}, b""))


@pytest.mark.parametrize("padding", ["", "a", "ab", "abc"])
def test_aligned_binary_data_are_viewed(padding):
    sent = binary(VALUES, padding=padding)
    got = decode(sent).inputs["x"]
    numpy.testing.assert_array_equal(got, VALUES)
    body = numpy.frombuffer(sent["body"].content, numpy.uint8)
    aligned = (body.ctypes.data + len(body) - VALUES.nbytes) % 4 == 0
    assert numpy.shares_memory(got, body) == aligned
    assert got.flags.carray


def test_binary_and_json_tensors_in_one_request():
    document = {
        "inputs": [
            tensor("y", [2], "INT32", parameters={"binary_data_size": 8}),
            tensor(data=[0, 1, 2, 3, 4, 5]),
            tensor("z", [1], "UINT8", parameters={"binary_data_size": 1}),
        ]
    }
    sent = request(document, numpy.int32([7, 8]).tobytes(), b"\x09")
    got = decode(sent, X, Y, TensorSpec("z", numpy.dtype("uint8"), (1,))).inputs
    assert got["y"].tolist() == [7, 8] and got["y"].dtype == numpy.int64 and got["z"] == [9]


def test_a_model_may_have_an_input_called_inputs():
    spec = TensorSpec("inputs", numpy.dtype("float32"), (-1,))
    assert decode(request({"inputs": [1, 2]}), spec).inputs["inputs"].tolist() == [1, 2]
    document = {"inputs": [tensor("inputs", [2], data=[3, 4])]}
    assert decode(request(document), spec).inputs["inputs"].tolist() == [3, 4]
    for padding in ("", " " * 2000):
        sent = Request({"body": Part(f'{{"inputs": []{padding}}}'.encode())})
        assert decode(sent, spec).inputs["inputs"].tolist() == []


def parameters(**values) -> dict:
    return tensor(parameters=values)


@pytest.mark.parametrize(
    ("inputs", "field", "message"),
    [
        (["x"], "inputs", "list of {name"),
        ([{"shape": [1]}], "inputs", "list of {name"),
        ([tensor(data=[0] * 6), tensor(data=[0] * 6)], "x", "twice"),
        ([tensor(datatype="FP128")], "x", "datatype 'FP128'; known are BOOL"),
        ([tensor(datatype="BYTES", data=["a"])], "x", "datatype 'BYTES'"),
        ([tensor(datatype=["FP32"])], "x", "datatype"),
        ([tensor(datatype=[[[]]] * 2000)], "x", "datatype that is not a string; known are BOOL"),
        ([tensor(datatype="F" * 2000)], "x", "datatype 'F{80}'; known are BOOL"),
        ([tensor("y" * 1025)], "inputs", "list of {name"),
        ([tensor(f"y{index}", data=[0]) for index in range(300)] + [tensor(data=[0] * 6)], "y0", "is not an input of"),
        ([tensor(shape=[-1, 3], data=[])], "x", "no shape"),
        ([tensor(shape=[2.0, 3], data=[])], "x", "no shape"),
        ([tensor(shape=[2**64], data=[])], "x", "no shape"),
        ([{"name": "x", "datatype": "FP32", "shape": 3, "data": []}], "x", "no shape"),
        ([tensor(shape=[0, 2**62, 2**62], data=[])], "x", "no array can have"),
        ([tensor()], "x", "no data"),
        ([tensor(data="AAAA")], "x", "no data"),
        ([tensor(data=[1, 2, 3])], "x", r"3 values for the shape \[2, 3\]"),
        ([tensor(data=[[1, 2], [3, 4]])], "x", r"got shape \[2, 2\]"),
        ([tensor(data=[[1, 2], [3]])], "x", "different lengths"),
        ([tensor(data=[1, 2, 3, 4, 5, [6]])], "x", "different lengths"),
        ([tensor(data=[1, 2, 3, 4, 5, "6"])], "x", "got text"),
        ([tensor(datatype="INT32", data=[1, 2, 3, 4, 5, 6.5])], "x", "int32 cannot hold"),
        ([tensor(datatype="FP16", data=[1, 2, 3, 4, 5, 70000])], "x", "float16 cannot hold"),
        ([tensor(datatype="BOOL", data=[1] * 6)], "x", "int64 values"),
        ([tensor(datatype="BOOL", data=[True] * 6)], "x", "bool values"),
        ([tensor(shape=[6], data=[0] * 6)], "x", r"must be float32 \[\?, \?\], got shape \[6\]"),
        ([tensor("z", data=[0] * 6)], "x", "'x' is missing"),
        ([tensor(data=[0] * 6), tensor("z", data=[0] * 6)], "z", "not an input"),
        ([], "x", "'x' is missing"),
        ([tensor(parameters=[])], "parameters", "must be an object"),
        ([parameters(binary_data_size=24)], "x", "within the 0 bytes"),
    ],
)
def test_a_wrong_tensor_is_refused_by_name(inputs, field, message):
    with pytest.raises(RequestError, match=message) as caught:
        decode(request({"inputs": inputs}))
    assert (caught.value.field, caught.value.status) == (field, 400)


@pytest.mark.parametrize(
    ("inputs", "tail", "message"),
    [
        ([parameters(binary_data_size=24)], bytes(23), "within the 23 bytes"),
        ([parameters(binary_data_size=24)], bytes(25), "1 bytes of binary data belong to no input"),
        ([parameters(binary_data_size=20)], bytes(20), "needs 24 bytes, got 20"),
        ([parameters(binary_data_size=-1)], bytes(24), "binary_data_size"),
        ([parameters(binary_data_size=True)], bytes(1), "binary_data_size"),
        ([parameters(binary_data_size="24")], bytes(24), "binary_data_size"),
        ([parameters(binary_data_size=24) | {"data": [0] * 6}], bytes(24), "either data, or"),
        ([tensor(shape=[2, 3], datatype="BOOL", parameters={"binary_data_size": 6})], b"\x02" * 6, "neither 0 nor 1"),
    ],
)
def test_wrong_binary_data_are_refused(inputs, tail, message):
    with pytest.raises(RequestError, match=message):
        decode(request({"inputs": inputs}, tail))


@pytest.mark.parametrize("length", ["", "-1", "+5", "1e1", "1_0", "\u0661", "99999", "9" * 30, "2.0"])
def test_a_wrong_length_of_the_json_is_refused(length):
    with pytest.raises(RequestError, match=f"{JSON_LENGTH_HEADER} is '"):
        decode(request({"inputs": [tensor(data=[0] * 6)]}, header=length))


def test_the_length_cuts_the_json_off():
    with pytest.raises(RequestError, match="not valid JSON"):
        decode(request({"inputs": [tensor(data=[0] * 6)]}, header="10"))
    with pytest.raises(RequestError, match="is for an Open Inference Protocol request"):
        decode(request({"x": [[1]]}, header=str(len('{"x": [[1]]}'))))


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"id": 7}, "id"),
        ({"id": "a" * 1025}, "id"),
        ({"id": "é" * 513}, "id"),
        ({"outputs": [{"name": "y" * 1025}]}, "outputs"),
        ({"outputs": [{"name": str(index)} for index in range(1025)]}, "outputs"),
        ({"outputs": "y"}, "outputs"),
        ({"outputs": {}}, "outputs"),
        ({"outputs": ["y"]}, "outputs"),
        ({"outputs": [{"name": "y"}, {"name": "y"}]}, "outputs"),
        ({"outputs": [{"name": "y", "parameters": {"binary_data": 1}}]}, "parameters"),
        ({"parameters": {"binary_data_output": "yes"}}, "parameters"),
        ({"parameters": 3}, "parameters"),
    ],
)
def test_wrong_outputs_and_parameters_are_refused(more, field):
    with pytest.raises(RequestError) as caught:
        decode(request({"inputs": [tensor(data=[0] * 6)]} | more))
    assert (caught.value.field, caught.value.status) == (field, 400)
