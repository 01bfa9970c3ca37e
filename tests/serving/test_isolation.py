"""No request of one client costs a worker, or another client its answer."""

import io
import json
import math
import time

import numpy
import pytest

from archive.packer.mar_manifest import PYTHON
from archive.repository import ROOT
from handlers.codecs.npy import NPZ_TYPE
from tests.support import archives, open_inference
from tests.support.runtimes import packed_for
from tests.support.torchserve import TIMEOUT_S, TorchServe, until

pytestmark = pytest.mark.server

JSON = {"Content-Type": "application/json"}


def workers(server: TorchServe, model: str) -> list[int]:
    """Returns the process ids of a model's workers."""
    return [worker["pid"] for worker in server.describe(model)["workers"]]


@pytest.fixture
def unharmed(shipped):
    """The server of all models; `scaled_add` has the same worker afterwards, and it answers."""
    before = workers(shipped, "scaled_add")
    yield shipped
    assert shipped.predict("scaled_add", json={"x": [1], "y": [1]}).json() == {"z": [3]}
    assert workers(shipped, "scaled_add") == before


@pytest.mark.parametrize("words", ["CUDA error", "CUDA failure", "cudaError", "opserve::x: the GPU reports"])
def test_words_about_a_gpu_are_words(unharmed, words):
    for request in (
        {"json": {words: [1]}},
        {"json": {"x": [1], "y": [1]}, "headers": {"Accept": words}},
        {"files": {words: (words, b"1", words)}},
        {"data": b"1", "headers": {"Content-Type": words}},
        {"json": {"inputs": [{"name": "x", "datatype": words, "shape": [1], "data": [1]}]}},
    ):
        assert unharmed.predict("scaled_add", **request).status_code in (400, 406, 415)


def test_a_clients_mark_of_a_description_is_ignored(unharmed):
    answer = unharmed.predict("scaled_add", json={"x": [1], "y": [1]}, headers={"describe": "True"})
    assert answer.json() == {"z": [3]}
    empty = unharmed.predict(
        "scaled_add", headers={"describe": "True", "Content-Type": "multipart/form-data; boundary=b"}
    )
    assert "op_libraries" not in empty.text


def test_an_answer_that_is_too_large_is_refused_with_a_smaller_format(unharmed):
    """36 MB of numbers in 70 kB, whose sum takes 90 MB as JSON."""
    body = io.BytesIO()
    array = numpy.full(9_000_000, 0.3, numpy.float32)
    numpy.savez_compressed(body, x=array, y=array)
    headers = {"Content-Type": NPZ_TYPE}
    refused = unharmed.predict("scaled_add", data=body.getvalue(), headers=headers)
    assert refused.status_code == 413
    assert "application/x-npz" in refused.json()["error"]["message"]
    answer = unharmed.predict("scaled_add", data=body.getvalue(), headers=headers | {"Accept": NPZ_TYPE})
    assert answer.status_code == 200
    assert numpy.load(io.BytesIO(answer.content))["z"].size == 9_000_000


def test_quotes_in_an_error_are_bounded(unharmed):
    answer = unharmed.predict("scaled_add", json={"k" * 3_000_000: [1], "x": [1], "y": [2]})
    assert answer.status_code == 400 and len(answer.content) < 5000
    assert answer.json()["error"]["field"] is None


@pytest.mark.parametrize("text", [r'{"x":[1],"y":[2],"\ud800":1}', r'{"id":"\ud800","inputs":[]}'])
def test_half_of_a_surrogate_pair_is_refused(unharmed, text):
    assert unharmed.predict("scaled_add", data=text, headers=JSON).status_code == 400


def test_a_quote_cannot_forge_a_line_to_the_server(unharmed):
    lie = "x\n[PID]99999999999999999999\n[METRICS]Requests2XX.Count:1|#Level:Host|#hostname:lied,1"
    assert unharmed.predict("scaled_add", json={lie: [1]}).status_code == 400
    assert "lied" not in unharmed.metrics().text


class TestAddresses:
    """The addresses that TorchServe has in addition to /predictions."""

    @staticmethod
    def post(server: TorchServe, path: str, **options):
        return server.server.request("inference", "POST", path, TIMEOUT_S, **options)

    def tensors(self, **changes) -> dict:
        tensor = {"shape": [2], "datatype": "FP32", "data": [1, 2]}
        return {"id": "7", "inputs": [{"name": name} | tensor | changes for name in "xy"]}

    def test_of_the_open_inference_protocol(self, unharmed):
        answer = self.post(unharmed, "/v2/models/scaled_add/infer", json=self.tensors())
        assert answer.json()["outputs"][0]["data"] == [3, 6]
        for body in (b"{", json.dumps(self.tensors(datatype="TEXT")).encode()):
            refused = self.post(unharmed, "/v2/models/scaled_add/infer", data=body, headers=JSON)
            assert refused.status_code == 400 and isinstance(refused.json()["error"], str)

    def test_of_kserves_first_protocol(self, unharmed):
        answer = self.post(unharmed, "/v1/models/scaled_add:predict", json={"x": [1], "y": [2]})
        assert answer.json() == {"z": [4]}
        refused = self.post(unharmed, "/v1/models/scaled_add:predict", data=b"{", headers=JSON)
        assert refused.status_code == 400 and isinstance(refused.json()["error"], str)

    def test_an_open_inference_request_to_predictions_is_refused_with_a_text(self, unharmed):
        refused = unharmed.predict("scaled_add", json=self.tensors(shape=[3]))
        assert refused.status_code == 400 and isinstance(refused.json()["error"], str)

    @pytest.mark.parametrize(
        "path", ["/explanations/scaled_add", "/v1/models/scaled_add:explain", "/v2/models/scaled_add/explain"]
    )
    def test_of_explanations(self, unharmed, path):
        answer = self.post(unharmed, path, json={"x": [1], "y": [2]})
        assert answer.status_code == 501
        error = answer.json()["error"]
        assert (error if path.startswith("/v") else error["message"]) == "this model gives no explanations"


@pytest.fixture(scope="module")
def switched(serve, runtime, tmp_path_factory) -> TorchServe:
    """A server that parses JSON itself, and speaks the Open Inference Protocol by gRPC."""
    folder = tmp_path_factory.mktemp("switched")
    archive = packed_for(ROOT / "model_store" / "scaled_add.mar", runtime, folder)
    return serve([archive], decode_input_request="true", ts_open_inference_protocol="true")


class TestSwitches:
    """TorchServe's own, which change what a handler is given."""

    def test_json_that_torchserve_parsed(self, switched):
        pids = workers(switched, "scaled_add")
        assert switched.predict("scaled_add", json={"x": [1.5], "y": [2]}).json() == {"z": [5]}
        assert switched.predict(
            "scaled_add", data='{"x": [1], "y": [2]}', headers={"Content-Type": "text/plain"}
        ).json() == {"z": [4]}
        for body in ("[1]", "null", '"text"', "5", "{", r'{"\ud800": 1}'):
            refused = switched.predict("scaled_add", data=body, headers=JSON)
            assert refused.status_code == 400, body
        files = {name: (name, f"[{number}]", "application/json") for name, number in (("x", 1), ("y", 2))}
        assert switched.predict("scaled_add", files=files).json() == {"z": [4]}
        assert workers(switched, "scaled_add") == pids

    def test_the_open_inference_protocol_by_grpc(self, switched):
        pids = workers(switched, "scaled_add")
        for _ in range(2):
            answer = open_inference.infer(switched.server, "scaled_add", {"x": [1, 2], "y": [0.5, 0]}, TIMEOUT_S, "a-7")
            (output,) = answer.outputs
            assert (answer.id, answer.model_name, answer.model_version) == ("a-7", "scaled_add", "1.0")
            assert (output.name, output.datatype, list(output.shape)) == ("z", "FP32", [2])
            assert list(output.contents.fp32_contents) == [2.5, 4]
            refused = open_inference.infer(switched.server, "scaled_add", {"x": [1]}, TIMEOUT_S)
            (output,) = refused.outputs
            assert (output.name, output.datatype) == ("error", "BYTES")
            assert b"'y' is missing" in output.contents.bytes_contents[0]
        assert workers(switched, "scaled_add") == pids

    def test_numbers_that_json_does_not_have(self, switched):
        large = [3e38, -3e38, 1]
        answer = open_inference.infer(switched.server, "scaled_add", {"x": large, "y": large}, TIMEOUT_S)
        first, second, third = answer.outputs[0].contents.fp32_contents
        assert (first, second, third) == (math.inf, -math.inf, 3)

    def test_an_envelope_is_refused_with_a_clear_line(self, tmp_path):
        archive = packed_for(ROOT / "model_store" / "scaled_add.mar", PYTHON, tmp_path)
        server = TorchServe(tmp_path / "home", [archive], service_envelope="json")
        try:
            started = server.start()
            output = started.stdout + started.stderr
            assert started.returncode != 0
            assert "service_envelope=json takes requests apart" in output, output
        finally:
            server.stop()


# Ends its worker as the handler does when it has lost its GPU.
ENDS = f"""
import sys
sys.path.append({str(ROOT)!r})
from handlers.torchserve.read_ahead import end_at_next_read


class Handler:
    def initialize(self, context):
        self.context = context

    def handle(self, data, context):
        if any(bytes(row["body"]) == b"end" for row in data):
            end_at_next_read(context.cl_socket)
        return ["answered" for _ in data]
"""


def test_a_worker_that_ends_answers_first_and_is_replaced(serve, tmp_path_factory):
    server = serve([archives.make(tmp_path_factory.mktemp("ends"), "ends", ENDS)])
    for _ in range(3):
        before = workers(server, "ends")
        answer = server.predict("ends", data=b"end")
        assert (answer.status_code, answer.text) == (200, "answered")
        until(lambda before=before: workers(server, "ends") not in (before, []), "the worker is not replaced")
        # TorchServe itself answers a request that it hands over while the worker ends; then the model is back.
        deadline = time.monotonic() + TIMEOUT_S
        while (answer := server.predict("ends", data=b"go on")).text != "answered":
            assert answer.status_code in (500, 503) and time.monotonic() < deadline, answer.text
