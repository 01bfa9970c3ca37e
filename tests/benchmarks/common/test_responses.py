"""Whether a response is the expected one, in every format."""

import json

import numpy
import pytest

from benchmarks.common import workloads
from benchmarks.common.payloads import oip_binary, shared_region
from benchmarks.common.responses import WrongResponse, check_response
from benchmarks.common.workloads import Workload
from handlers.codecs.oip import JSON_LENGTH_HEADER


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (503, b"busy", "status 503: busy"),
        (200, b"[1, 2]", "unreadable response"),
        (200, b"<html>", "unreadable response"),
        (200, b'{"y": [2.5, 4.25, 0]}', "outputs ['y'], expected ['z']"),
        (200, b'{"z": [2.5, 4.25]}', "z has the shape (2,), expected (3,)"),
        (200, b'{"z": [2.5, 4.25, 0.01]}', "z has other values than expected"),
    ],
)
def test_a_wrong_response_is_refused(status: int, body: bytes, message: str) -> None:
    with pytest.raises(WrongResponse) as error:
        check_response(workloads.tiny(), status, body, {})
    assert message in str(error.value)


@pytest.mark.parametrize("kind", ["json", "oip", "npz"])
def test_a_response_is_read_as_it_was_sent(kind: str) -> None:
    outputs = {"label": numpy.array([3, 1], "int64"), "probabilities": numpy.array([[0.25, 0.75]], "float32")}
    body = workloads.ENCODERS[kind](outputs).body.replace(b'"inputs"', b'"outputs"')
    check_response(Workload("graph_op", kind, {}, outputs), 200, body, {})


def test_binary_tensors_follow_the_json() -> None:
    outputs = {"label": numpy.array([3, 1], "int64"), "x": numpy.array([[0.25], [0.75]], "float32")}
    payload = oip_binary(outputs)
    length = int(payload.headers[JSON_LENGTH_HEADER])
    head = payload.body[:length].replace(b'"inputs"', b'"outputs"')
    headers = {JSON_LENGTH_HEADER: str(len(head))}
    check_response(Workload("graph_op", "npz", {}, outputs), 200, head + payload.body[length:], headers)


def test_a_response_in_shared_memory_is_what_was_written_there() -> None:
    inputs, outputs = {"x": numpy.arange(4, dtype="float32")}, {"label": numpy.array([3, 1], "int64")}
    with shared_region(4096) as region:
        sent = Workload("graph_op", workloads.SHARED_MEMORY, inputs, outputs, region=region)
        document = json.loads(sent.payload().body)
        numpy.testing.assert_array_equal(numpy.frombuffer(region.buf[:16], "float32"), inputs["x"])
        (output,) = document["outputs"]
        body = json.dumps({"outputs": [output | {"datatype": "INT64", "shape": [2]}]}).encode()
        with pytest.raises(WrongResponse, match="label has other values than expected"):
            check_response(sent, 200, body, {})
        start = output["parameters"]["shared_memory_offset"]
        region.buf[start : start + 16] = outputs["label"].tobytes()
        check_response(sent, 200, body, {})
        sent.payload()  # zeroes the response
        with pytest.raises(WrongResponse, match="label has other values than expected"):
            check_response(sent, 200, body, {})
    with pytest.raises(WrongResponse, match="No such file"):
        check_response(sent, 200, body, {})
