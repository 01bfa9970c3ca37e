"""Responses as JSON, `.npz` and in the Open Inference Protocol, and which of them a request gets."""

import io
import json

import numpy
import pytest

from handlers.codecs.datatypes import DATATYPES
from handlers.codecs.encode import encode_error, encode_outputs
from handlers.codecs.negotiation import (
    BINARY_TYPE,
    JSON_TYPE,
    OIP_TYPE,
    PLAIN_JSON,
    ResponseFormat,
    choose,
    choose_format,
)
from handlers.codecs.npy import NPZ_TYPE
from handlers.codecs.oip import JSON_LENGTH_HEADER, InferRequest
from handlers.errors import RequestError

OUTPUTS = {"label": numpy.int64(7), "p": numpy.array([[0.5, numpy.nan], [numpy.inf, 1]], numpy.float32)}
OFFERS = (JSON_TYPE, NPZ_TYPE, OIP_TYPE)


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        ("", JSON_TYPE),
        ("  ", JSON_TYPE),
        ("*/*", JSON_TYPE),
        ("application/*", JSON_TYPE),
        ("application/x-npz", NPZ_TYPE),
        ("APPLICATION/X-NPZ", NPZ_TYPE),
        ("application/json; charset=utf-8", JSON_TYPE),
        ("application/x-npz, */*", NPZ_TYPE),
        ("application/x-npz;q=0.5, application/json", JSON_TYPE),
        ("application/x-npz;q=0.5, */*;q=0.8", JSON_TYPE),
        ("application/json;q=0.2, application/x-npz;q=0.3", NPZ_TYPE),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON_TYPE),
        ("application/json;q=0, */*", NPZ_TYPE),
        ("application/json;q=0, application/x-npz;q=0, application/*", OIP_TYPE),
        ("application/json ; q=0.1 , application/vnd.oip+json ; q=0.2", OIP_TYPE),
        ("application/x-npz;q=high, application/json", JSON_TYPE),
        ("application/json;q=0.1, application/x-npz;q=0.\u0663", JSON_TYPE),  # digits of other scripts
        ("nonsense, application/x-npz", NPZ_TYPE),
        ("text/html, application/x-npz;q=0.001", NPZ_TYPE),
        ("application/x-npz;q=1.0;ext=1", NPZ_TYPE),
    ],
)
def test_the_preferred_type_is_chosen(header, chosen):
    assert choose(header, OFFERS) == chosen
    assert choose_format(header).content_type == chosen


def test_a_header_of_any_length_is_not_kept():
    assert choose("text/html," * 200 + "*/*", ("application/json",)) == "application/json"
    with pytest.raises(RequestError, match="the header Accept has 2049 characters; at most 2048") as caught:
        choose("a" * 2049, ("application/json",))
    assert caught.value.status == 400


@pytest.mark.parametrize("header", ["text/html", "image/*", "*/*;q=0", "application/json;q=0", "nonsense", ",,"])
def test_nothing_acceptable_is_a_406_with_the_list(header):
    with pytest.raises(RequestError, match=f"{JSON_TYPE}, {NPZ_TYPE}") as caught:
        choose(header, (JSON_TYPE, NPZ_TYPE))
    assert caught.value.status == 406


def test_a_request_in_the_protocol_is_answered_in_it():
    call = InferRequest("1")
    assert choose_format("", call) == ResponseFormat(JSON_TYPE, call)
    assert choose_format(OIP_TYPE, call) == ResponseFormat(OIP_TYPE, call)
    assert choose_format(NPZ_TYPE, call) == ResponseFormat(NPZ_TYPE, call)
    binary = InferRequest(binary=True)
    assert choose_format(BINARY_TYPE, binary) == choose_format("application/json", binary)
    assert choose_format("application/json", binary) == ResponseFormat(JSON_TYPE, binary)
    with pytest.raises(RequestError):
        choose_format(BINARY_TYPE, call)


def test_json_has_null_for_what_it_cannot_express():
    answer = encode_outputs(OUTPUTS)
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert answer.body == b'{"label":7,"p":[[0.5,null],[null,1.0]]}'


@pytest.mark.parametrize(
    "value",
    [
        numpy.arange(6.0).reshape(2, 3).T,
        numpy.array(3.5),
        numpy.float16(0.5),
        numpy.array(["a", "b"]),
        [1, "a", {"b": numpy.arange(2)}],
        "text",
        None,
    ],
)
def test_json_takes_what_a_hook_may_return(value):
    got = json.loads(encode_outputs({"y": value}).body)["y"]
    plain = value.tolist() if isinstance(value, numpy.ndarray | numpy.generic) else value
    assert got == json.loads(json.dumps(plain, default=lambda array: array.tolist()))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_digits_of_a_float_depend_on_its_dtype_alone(dtype):
    array = numpy.array([[0.1, 0.7], [0.3, 1e-5]], dtype)
    numbers = encode_outputs({"y": array.copy()}).body
    assert encode_outputs({"y": numpy.asfortranarray(array)}).body == numbers
    assert encode_outputs({"y": array[0, 0]}).body == encode_outputs({"y": numpy.array(array[0, 0])}).body
    assert numbers.startswith(encode_outputs({"y": array[:1, :1]}).body.removesuffix(b"]]}"))


def test_npz_holds_the_arrays_as_they_are():
    answer = encode_outputs(OUTPUTS | {"file": [1, 2]}, ResponseFormat(NPZ_TYPE))
    assert answer.content_type == NPZ_TYPE
    with numpy.load(io.BytesIO(answer.body), allow_pickle=False) as archive:
        assert set(archive) == {"label", "p", "file"}
        numpy.testing.assert_array_equal(archive["p"], OUTPUTS["p"])
        assert archive["label"] == 7 and archive["label"].dtype == numpy.int64


def test_the_protocol_names_model_shape_and_datatype():
    answer = encode_outputs(
        OUTPUTS, ResponseFormat(infer_request=InferRequest("a-7")), model_name="digits", model_version="2.0"
    )
    assert answer.content_type == JSON_TYPE
    assert json.loads(answer.body) == {
        "model_name": "digits",
        "model_version": "2.0",
        "id": "a-7",
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [], "data": [7]},
            {"name": "p", "datatype": "FP32", "shape": [2, 2], "data": [0.5, None, None, 1.0]},
        ],
    }


def test_the_protocol_by_accept_alone():
    answer = encode_outputs(OUTPUTS, ResponseFormat(OIP_TYPE), model_name="digits")
    assert answer.content_type == OIP_TYPE
    assert json.loads(answer.body).keys() == {"model_name", "outputs"}


@pytest.mark.parametrize("datatype", sorted(DATATYPES.keys() - {"BF16"}))
def test_every_datatype_is_named(datatype):
    array = numpy.ones(2, DATATYPES[datatype]).astype(DATATYPES[datatype].newbyteorder(">"))
    (output,) = json.loads(encode_outputs({"y": array}, ResponseFormat(OIP_TYPE)).body)["outputs"]
    assert (output["datatype"], output["data"]) == (datatype, [1, 1])


def test_outputs_are_chosen_and_ordered_and_may_be_binary():
    call = InferRequest(outputs=(("p", True), ("label", False)))
    answer = encode_outputs(OUTPUTS | {"rest": [1]}, ResponseFormat(infer_request=call), model_name="digits")
    size = int(answer.headers[JSON_LENGTH_HEADER])
    p, label = json.loads(answer.body[:size])["outputs"]
    assert answer.content_type == BINARY_TYPE
    assert p == {"name": "p", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}}
    assert label["data"] == [7]
    assert answer.body[size:] == OUTPUTS["p"].tobytes()  # with NaN and infinity as they are


def test_all_outputs_binary():
    answer = encode_outputs(OUTPUTS, ResponseFormat(infer_request=InferRequest(binary=True)))
    size = int(answer.headers[JSON_LENGTH_HEADER])
    assert len(answer.body) - size == 8 + 16


def test_an_unknown_output_is_the_clients_fault():
    with pytest.raises(RequestError, match="'q' is not an output of this model; it has label, p") as caught:
        encode_outputs(OUTPUTS, ResponseFormat(infer_request=InferRequest(outputs=(("q", False),))))
    assert (caught.value.field, caught.value.status) == ("q", 400)


@pytest.mark.parametrize("value", ["text", None, {"a": 1}, [[1], [1, 2]], numpy.array(["a"]), 1j, numpy.longdouble(1)])
@pytest.mark.parametrize("content_type", [NPZ_TYPE, OIP_TYPE])
def test_other_values_than_tensors_are_only_available_as_json(value, content_type):
    with pytest.raises(RequestError, match="the output 'y' is not a tensor") as caught:
        encode_outputs({"y": value}, ResponseFormat(content_type))
    assert caught.value.status == 406


def test_errors_are_json_whatever_was_accepted():
    answer = encode_error(RequestError("'x' is empty", field="x", status=422))
    assert (answer.status, answer.content_type) == (422, JSON_TYPE)
    assert json.loads(answer.body) == {"error": {"code": 422, "field": "x", "message": "'x' is empty"}}


def test_plain_json_is_the_default():
    assert PLAIN_JSON == choose_format("") == ResponseFormat(JSON_TYPE, None)
