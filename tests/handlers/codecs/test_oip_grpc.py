"""Responses for the Open Inference Protocol's gRPC have every name, and strings for numbers that JSON does not have."""

import json

import numpy
import pytest

from handlers.codecs.encode import encode_error, encode_outputs
from handlers.codecs.negotiation import ResponseFormat
from handlers.codecs.oip import InferRequest
from handlers.errors import RequestError

REPLY = ResponseFormat(infer_request=InferRequest(), grpc_infer=True)


def test_every_name_is_there():
    answer = encode_outputs({"y": numpy.float32([[1, 2]])}, REPLY, model_name="m")
    output = {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}
    assert json.loads(answer.body) == {"id": "", "model_name": "m", "model_version": "", "outputs": [output]}


def test_an_id_is_returned():
    answer = encode_outputs(
        {}, ResponseFormat(infer_request=InferRequest("a-7"), grpc_infer=True), model_name="m", model_version="2.0"
    )
    assert json.loads(answer.body) == {"id": "a-7", "model_name": "m", "model_version": "2.0", "outputs": []}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numbers_that_are_not_finite_are_strings(dtype):
    array = numpy.array([1.5, numpy.nan, numpy.inf, -numpy.inf], dtype)
    (output,) = json.loads(encode_outputs({"y": array}, REPLY).body)["outputs"]
    assert output["data"] == [1.5, "NaN", "Infinity", "-Infinity"]
    assert output["datatype"] == ("FP64" if dtype == "float64" else "FP32")


def test_an_error_is_an_output():
    answer = encode_error(RequestError("'y' is missing", field="y"), REPLY, model_name="m", model_version="1.0")
    error = {"name": "error", "datatype": "BYTES", "shape": [1], "data": ["'y' is missing"]}
    assert json.loads(answer.body) == {"id": "", "model_name": "m", "model_version": "1.0", "outputs": [error]}


def test_it_is_bounded():
    with pytest.raises(RequestError) as caught:
        encode_outputs({"y": numpy.zeros(1000)}, REPLY, max_bytes=1000)
    assert caught.value.status == 413
