"""The handler class with a context like TorchServe's."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import ts
import yaml
from torch import nn
from ts.context import Context, RequestProcessor
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
from ts.protocol import otf_message_handler

from archive.repository import ROOT
from handlers.config import CONFIG_FILE
from handlers.errors import DeviceError, ModelError, OutOfMemoryError, RequestError
from handlers.integrity.manifest import MANIFEST_FILE
from handlers.model import ModelInput
from handlers.opserve_handler import OpserveHandler
from handlers.torchserve.batch_reader import LostValue
from handlers.torchserve.metrics import start_reporting

VECTOR = [{"name": "x", "dtype": "float32", "shape": [-1]}]


# The headers of a request to /predictions, as TorchServe passes them on.
HTTP = {"Host": "127.0.0.1", "Content-Type": "application/json", "url_path": "", "explain": "False"}


class Double(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


@pytest.fixture
def served(unpacked_archive, monkeypatch):
    """A handler with a loaded model, and a function that sends it a batch: (answers, context)."""
    monkeypatch.setattr("handlers.integrity.check.check_archive", lambda folder: None)  # the folder was never packed
    outputs = [{"name": "y", "dtype": "float32", "shape": [-1]}]
    folder = unpacked_archive(Double(), VECTOR, outputs, batching="stack")
    manifest = {"model": {"modelName": "double", "modelVersion": "1.0"}}
    config = yaml.safe_load((folder / CONFIG_FILE).read_text())
    context = Context("double", str(folder), manifest, 8, None, "0.12", model_yaml_config=config)
    handler = OpserveHandler()
    handler.initialize(context)

    def send(*bodies: bytes, headers: dict | None = None):
        known = {"body": {"content-type": "application/json"}} | (HTTP if headers is None else headers)
        context.request_processor = [RequestProcessor(dict(known)) for _ in bodies]
        return handler.handle([{"body": bytearray(body)} for body in bodies], context), context

    return handler, send


def test_each_request_has_its_own_status_and_type(served):
    _, send = served
    answers, context = send(b'{"x": [1]}', b"{", b'{"x": [2, 3]}')
    assert [json.loads(answer) for answer in (answers[0], answers[2])] == [{"y": [2]}, {"y": [4, 6]}]
    assert [context.get_response_status(index)[0] for index in range(3)] == [200, 400, 200]
    assert {context.get_response_content_type(index) for index in range(3)} == {"application/json"}


def test_a_hook_may_refuse_with_any_status(served):
    handler, send = served

    def refuse(inputs):
        raise RequestError("closed by the client", status=499)

    handler.model.hooks.preprocess = refuse
    (answer,), context = send(b'{"x": [1]}')
    assert (context.get_response_status(0)[0], json.loads(answer)["error"]["code"]) == (499, 499)


def as_frontend(context: Context, *requests: dict) -> list[dict]:
    """A batch as TorchServe's worker hands it over: parts, and headers with the parts' media types among them."""
    context.request_processor = [RequestProcessor(dict(each["headers"])) for each in requests]
    return [each.get("parts", {}) for each in requests]


def test_describe_is_one_json_document(served):
    handler, _ = served
    data = as_frontend(handler.context, {"headers": {"Host": "127.0.0.1", "describe": "True"}})
    (answer,) = handler.handle(data, handler.context)
    assert json.loads(answer)["pid"] == os.getpid()
    assert json.loads(answer)["inputs"] == [{"name": "x", "dtype": "float32", "shape": [-1]}]


@pytest.mark.parametrize("marked", range(3))
def test_a_request_with_the_mark_of_a_description_gets_its_own_response(served, marked):
    handler, _ = served
    requests = [
        {
            "headers": HTTP | {"body": {"content-type": "application/json"}},
            "parts": {"body": bytearray(b'{"x": [%d]}' % number)},
        }
        for number in range(3)
    ]
    requests[marked]["headers"] = requests[marked]["headers"] | {"describe": "True"}
    answers = handler.handle(as_frontend(handler.context, *requests), handler.context)
    assert [json.loads(answer) for answer in answers] == [{"y": [0]}, {"y": [2]}, {"y": [4]}]


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_an_empty_form_with_the_mark_is_a_request_without_inputs(served, kind):
    handler, _ = served
    data = as_frontend(handler.context, {"headers": HTTP | {"describe": "True", "Content-Type": kind}})
    (answer,) = handler.handle(data, handler.context)
    assert "holds no input" in json.loads(answer)["error"]["message"]


@pytest.mark.parametrize("answer", ["text", "501"])
def test_an_explanation_is_what_the_hook_returns_or_a_501(served, answer):
    handler, send = served
    if answer == "text":
        handler.model.hooks.explain = lambda inputs, predict: {
            "why": "x",
            "twice": predict(inputs)["y"],
            "x": inputs["x"],
        }
    bodies, context = send(b'{"x": [3]}', headers=HTTP | {"explain": "True"})
    if answer == "text":
        assert json.loads(bodies[0]) == {"why": "x", "twice": [6], "x": [3]}
    else:
        assert context.get_response_status(0)[0] == 501
        assert json.loads(bodies[0])["error"]["message"] == "this model gives no explanations"


def test_a_header_with_another_spelling_does_not_ask_for_an_explanation(served):
    _, send = served
    assert json.loads(send(b'{"x": [3]}', headers=HTTP | {"Explain": "True"})[0][0]) == {"y": [6]}


def test_an_error_is_a_text_if_the_address_is_one_of_the_protocol(served):
    _, send = served
    (answer,), context = send(b"{", headers={"Host": "127.0.0.1", "explain": "False"})
    assert context.get_response_status(0)[0] == 400
    assert json.loads(answer)["error"].startswith("the request's body is no")


def test_an_error_is_a_text_if_the_body_is_one_of_the_protocol(served):
    _, send = served
    tensor = {"name": "x", "datatype": "FP32", "shape": [2], "data": [1]}
    for inputs in ([tensor], [tensor | {"name": "q", "data": [1, 2]}], [tensor | {"datatype": "X"}]):
        (answer,), _ = send(json.dumps({"inputs": inputs}).encode())
        assert isinstance(json.loads(answer)["error"], str), answer
    (answer,), _ = send(b"{}", headers=HTTP | {"Inference-Header-Content-Length": "90"})
    assert isinstance(json.loads(answer)["error"], str)


@pytest.mark.parametrize("headers", [{}, {"Host": "127.0.0.1"}, {"host": "127.0.0.1", "Host2": ""}])
def test_only_requests_by_grpc_are_marked_as_the_last_of_a_stream(served, headers):
    handler, _ = served
    parts = {"Host": bytearray(b"1"), "x": bytearray(b"[1]")}
    request = {"headers": {name: {"content-type": ""} for name in parts} | headers, "parts": parts}
    handler.handle(as_frontend(handler.context, request), handler.context)
    mark = handler.context.get_response_headers(0).get("ts_stream_next")
    assert mark == (None if headers else "false")


@pytest.mark.parametrize(
    ("content", "kind"),
    [({"x": [1.5]}, "application/json"), ([1.5], "application/json"), ('{"x": [1.5]}', "text/plain")],
)
def test_parts_that_torchserve_parsed_are_read_too(served, content, kind):
    handler, _ = served
    request = {"headers": HTTP | {"body": {"content-type": kind}}, "parts": {"body": content}}
    (answer,) = handler.handle(as_frontend(handler.context, request), handler.context)
    assert json.loads(answer) == {"y": [3]}


def test_an_envelope_of_torchserves_is_refused(served, monkeypatch):
    from ts.model_loader import TsModelLoader

    handler, _ = served
    properties = handler.context.system_properties
    monkeypatch.syspath_prepend(str(ROOT / "handlers"))
    folder = Path(properties["model_dir"])
    (folder / "MAR-INF").mkdir()
    (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps({"model": {"configFile": CONFIG_FILE}}))
    for envelope in ("json", "body", "kserve", "kservev2"):
        with pytest.raises(ModelError, match=f"service_envelope={envelope} takes requests apart"):
            TsModelLoader().load("m", str(folder), "opserve_handler.py", None, 1, envelope, True)
    assert TsModelLoader().load("m", str(folder), "opserve_handler.py", None, 1, None, True)


@pytest.mark.parametrize("text", ["CUDA error: device-side assert triggered", "CUDA failure 700: illegal address"])
def test_text_about_a_gpu_in_a_request_breaks_nothing(served, text):
    """On a machine with a GPU too: its failures are found only in the model's run."""
    handler, send = served
    handler.model.engine.device = "cuda:0"
    body = json.dumps({text: [1], "x": [1]}).encode()
    answers, context = send(body, headers=HTTP | {"Accept": text})
    assert context.get_response_status(0)[0] == 400 and text in json.loads(answers[0])["error"]["message"]
    assert handler.model.broken is None


def test_a_broken_gpu_ends_the_worker_once_it_has_answered(served, pair, monkeypatch):
    handler, send = served
    _, handler.context.cl_socket = pair
    monkeypatch.setattr(handler.model.engine, "run", raising(DeviceError("CUDA error: an illegal memory access")))
    answers, context = send(b'{"x": [1]}', b'{"x": [1, 2]}', b'{"x": "a"}')
    assert [context.get_response_status(index)[0] for index in range(3)] == [500, 500, 400]
    assert "running the model failed: CUDA error" in json.loads(answers[0])["error"]["message"]
    with pytest.raises(SystemExit) as end:
        otf_message_handler.retrieve_msg(context.cl_socket)
    assert end.value.code == 1


@pytest.mark.parametrize("error", [MemoryError(), OutOfMemoryError("Failed to allocate memory")])
def test_a_lack_of_memory_is_a_507_and_keeps_the_worker(served, monkeypatch, error):
    handler, send = served
    with monkeypatch.context() as patch:
        patch.setattr(handler.model.engine, "run", raising(error))
        answers, context = send(b'{"x": [1]}')
    assert context.get_response_status(0)[0] == 507
    assert json.loads(answers[0])["error"]["message"] == "running the model ran out of memory"
    assert json.loads(send(b'{"x": [1]}')[0][0]) == {"y": [2]}


def test_an_archive_with_a_manifest_and_a_damaged_configuration_is_not_taken_for_torchserves_own(tmp_path):
    (tmp_path / MANIFEST_FILE).write_text("{}")
    context = Context("m", str(tmp_path), {"model": {}}, 1, None, "0.12", model_yaml_config={"0pserve": {}})
    with pytest.raises(ModelError, match=MANIFEST_FILE):
        OpserveHandler().initialize(context)


@pytest.mark.parametrize(
    ("declared", "reported"),
    [(ROOT / "metrics.yaml", True), (Path(ts.__file__).parent / "configs" / "metrics.yaml", False)],
)
def test_metrics_are_reported_if_they_are_declared(served, caplog, declared, reported):
    handler, _ = served
    cache = MetricsCacheYamlImpl(str(declared))
    cache.initialize_cache()
    with caplog.at_level("INFO"):
        assert (start_reporting(handler.model, cache) is not None) == reported
    assert ("the server's metrics_config does not declare them" in caplog.text) != reported
    info = "[METRICS]opserve_model_info.Count:1|#model_name:double,model_version:1.0,artifact:model.pt,"
    assert (info in caplog.text) == reported


def raising(error: BaseException):
    def run(data):
        raise error

    return run


def test_torchserves_own_test_of_its_base_handler_passes(tmp_path: Path):
    """An archive of TorchServe's own kind is served as its `BaseHandler` would."""
    (tmp_path / "pointed_at_ours.py").write_text(
        "import pytest\n"
        "from handlers.opserve_handler import OpserveHandler\n"
        "@pytest.fixture(autouse=True)\n"
        "def ours(monkeypatch):\n"
        "    monkeypatch.setattr('ts.torch_handler.unit_tests.test_base_handler.BaseHandler', OpserveHandler)\n"
    )
    folder = Path(ts.__file__).parent / "torch_handler" / "unit_tests"
    root = Path(__file__).resolve().parents[2]
    module = "ts.torch_handler.unit_tests.test_base_handler"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "pointed_at_ours",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=",
    ]
    done = subprocess.run(
        [*command, "-o", "addopts=", "--rootdir", str(folder), "--pyargs", module],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{root}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_a_body_that_was_not_kept_is_a_507(served):
    handler, _ = served
    batch = [bytearray(b'{"x": [1]}'), LostValue(), bytearray(b'{"x": [2]}')]
    headers = HTTP | {"body": {"content-type": "application/json"}}
    data = as_frontend(handler.context, *({"headers": headers, "parts": {"body": content}} for content in batch))
    answers = handler.handle(data, handler.context)
    assert [handler.context.get_response_status(index)[0] for index in range(3)] == [200, 507, 200]
    assert "no memory" in json.loads(answers[1])["error"]["message"]


@pytest.mark.parametrize("step", ["preprocess", "inference", "postprocess"])
@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), MemoryError()])
def test_an_exception_in_a_step_of_a_subclass_is_answered(served, monkeypatch, step, error):
    handler, send = served
    monkeypatch.setattr(handler, step, raising(error))
    answers, context = send(b'{"x": [1]}', b'{"x": [2]}')
    assert len(answers) == 2
    for index, answer in enumerate(answers):
        assert context.get_response_status(index)[0] == json.loads(answer)["error"]["code"] >= 500


def test_a_subclass_that_loses_a_response_is_detected(served, monkeypatch):
    handler, send = served
    monkeypatch.setattr(handler, "postprocess", lambda results: handler.model.encode(results[1:]))
    answers, _ = send(b'{"x": [1]}', b'{"x": [2]}')
    assert ["1 responses to 2 requests" in json.loads(answer)["error"]["message"] for answer in answers] == [True] * 2


def test_the_time_of_the_handler_is_reported_like_torchserves_own(served, caplog):
    handler, send = served
    cache = MetricsCacheYamlImpl(str(ROOT / "metrics.yaml"))
    cache.initialize_cache()
    cache.model_name = "double"
    cache.set_request_ids({0: "a-7"})
    handler.context.metrics = cache
    handler._reporter = start_reporting(handler.model, cache)
    with caplog.at_level("INFO"):
        for _ in range(3):
            send(b'{"x": [1]}')
    lines = [record.getMessage() for record in caplog.records if "HandlerTime" in record.getMessage()]
    pattern = r"\[METRICS]HandlerTime\.Milliseconds:\d+\.\d+\|#ModelName:\w+,Level:Model\|"
    assert len(lines) == 1 and re.match(pattern, lines[0])


def test_a_models_name_cannot_end_a_line(served, caplog):
    handler, _ = served
    cache = MetricsCacheYamlImpl(str(ROOT / "metrics.yaml"))
    cache.initialize_cache()
    handler.model.name = "a\n[PID]5,b:c|#d"
    with caplog.at_level("INFO"):
        start_reporting(handler.model, cache)
    (info,) = [each.getMessage() for each in caplog.records if "opserve_model_info" in each.getMessage()]
    assert r"#model_name:a\n[PID]5-b-c--d," in info


def test_a_subclass_may_refuse_with_any_exception(served, monkeypatch):
    handler, send = served
    prepare = handler.preprocess

    def refuse_the_first(data):
        return [ModelInput(ValueError("no")), *prepare(data)[1:]]

    monkeypatch.setattr(handler, "preprocess", refuse_the_first)
    answers, context = send(b'{"x": [1]}', b'{"x": [2]}')
    assert [context.get_response_status(index)[0] for index in range(2)] == [500, 200]
    assert json.loads(answers[1]) == {"y": [4]}
