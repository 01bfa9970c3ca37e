"""The handler class under a context as TorchServe makes it."""

import json
import os
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

from archive.contents import ROOT
from handlers import seal
from handlers.config import CONFIG_FILE
from handlers.errors import ModelError, RequestError
from handlers.opserve_handler import OpserveHandler, _start_metrics

VECTOR = [{"name": "x", "dtype": "float32", "shape": [-1]}]


class Double(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


@pytest.fixture
def served(unpacked_archive, monkeypatch):
    """A handler with a loaded model, and a function that sends it a batch: (answers, context)."""
    monkeypatch.setattr(seal, "check", lambda folder, gpu: None)  # the folder was never packed
    outputs = [{"name": "y", "dtype": "float32", "shape": [-1]}]
    folder = unpacked_archive(Double(), VECTOR, outputs, batching="stack")
    manifest = {"model": {"modelName": "double", "modelVersion": "1.0"}}
    config = yaml.safe_load((folder / CONFIG_FILE).read_text())
    context = Context("double", str(folder), manifest, 8, None, "0.12", model_yaml_config=config)
    handler = OpserveHandler()
    handler.initialize(context)

    def send(*bodies: bytes, headers: dict | None = None):
        known = {"body": {"content-type": "application/json"}} | (headers or {})
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

    handler.model.preprocess = refuse
    (answer,), context = send(b'{"x": [1]}')
    assert (context.get_response_status(0)[0], json.loads(answer)["error"]["code"]) == (499, 499)


def test_describe_is_one_json_document(served):
    _, send = served
    (answer,), _ = send(b"", headers={"describe": "True"})
    assert json.loads(answer)["pid"] == os.getpid()
    assert json.loads(answer)["inputs"] == [{"name": "x", "dtype": "float32", "shape": [-1]}]


@pytest.mark.parametrize("text", ["CUDA error: device-side assert triggered", "CUDA failure 700: illegal address"])
def test_a_broken_gpu_ends_the_worker(served, monkeypatch, text):
    handler, send = served
    monkeypatch.setattr(handler.model.engine, "run", raising(RuntimeError(text)))
    with pytest.raises(SystemExit):
        send(b'{"x": [1]}')


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")])
def test_a_lack_of_memory_is_a_507_and_keeps_the_worker(served, monkeypatch, error):
    handler, send = served
    with monkeypatch.context() as patch:
        patch.setattr(handler.model.engine, "run", raising(error))
        answers, context = send(b'{"x": [1]}')
    assert context.get_response_status(0)[0] == 507
    assert json.loads(answers[0])["error"]["message"] == "running the model ran out of memory"
    assert json.loads(send(b'{"x": [1]}')[0][0]) == {"y": [2]}


def test_a_sealed_archive_with_a_damaged_configuration_is_not_taken_for_torchserves_own(tmp_path):
    (tmp_path / seal.SEAL_FILE).write_text("{}")
    context = Context("m", str(tmp_path), {"model": {}}, 1, None, "0.12", model_yaml_config={"0pserve": {}})
    with pytest.raises(ModelError, match=seal.SEAL_FILE):
        OpserveHandler().initialize(context)


@pytest.mark.parametrize(
    ("declared", "told"),
    [(ROOT / "metrics.yaml", True), (Path(ts.__file__).parent / "configs" / "metrics.yaml", False)],
)
def test_metrics_are_told_where_they_are_declared(served, caplog, declared, told):
    handler, _ = served
    cache = MetricsCacheYamlImpl(str(declared))
    cache.initialize_cache()
    with caplog.at_level("INFO"):
        assert (_start_metrics(handler.model, cache) is not None) == told
    assert ("the server's metrics_config does not declare them" in caplog.text) != told
    info = "[METRICS]opserve_model_info.Count:1|#model_name:double,model_version:1.0,artifact:model.pt,"
    assert (info in caplog.text) == told


def raising(error: Exception):
    def run(inputs):
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
