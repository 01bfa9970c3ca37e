"""No request changes the other responses of its batch, whatever it makes the model or a hook do."""

import gc
import json
import subprocess
import sys
import textwrap
import weakref

import numpy
import pytest
import torch
from torch import nn

from archive.repository import ROOT
from handlers import errors
from handlers import model as model_module
from handlers.codecs.npy import NPZ_TYPE
from handlers.codecs.request import Part, Request
from handlers.errors import RequestError
from handlers.model import ServableModel

VECTOR = [{"name": "x", "dtype": "float32", "shape": [-1]}]
VECTOR_OUT = [{"name": "y", "dtype": "float32", "shape": [-1]}]
SCALAR_OUT = [{"name": "y", "dtype": "float32", "shape": []}]
OK = {"y": [1, 4]}


class InPlace(nn.Module):
    """Writes to its input before it refuses it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.mul_(2)
        if bool((x < 0).any()):
            raise ValueError("a negative number")
        return x


class Same(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Running(nn.Module):
    """Returns the memory that contains its sum."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total.add_(x.sum())
        return self.total


class Outer(nn.Module):
    """The products of any two numbers of a request: a response of the square of its size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, None] * x[None, :]).flatten()


def body(value, **headers) -> Request:
    parts = {"body": Part(json.dumps({"x": value}).encode(), "application/json")}
    return Request(parts, {name.replace("_", "-"): text for name, text in headers.items()})


def contents(answer):
    return answer.status, json.loads(answer.body)


@pytest.mark.parametrize("batching", ["stack", "none"])
@pytest.mark.parametrize("culprits", [[0], [3], [1, 4], [0, 1, 2, 3, 4]])
def test_a_model_that_writes_to_its_inputs_answers_each_request_from_its_own(unpacked_archive, batching, culprits):
    model = ServableModel(unpacked_archive(InPlace(), VECTOR, VECTOR_OUT, batching=batching))
    answers = model.answer([body([-1, 1] if index in culprits else [index, 1]) for index in range(5)])
    for index, answer in enumerate(answers):
        if index in culprits:
            assert answer.status == 500
        else:
            assert contents(answer) == (200, {"y": [2 * index, 2]})


def test_a_request_that_is_alone_in_its_batch_is_not_copied(unpacked_archive, monkeypatch):
    monkeypatch.setattr(model_module, "_copied", None)
    model = ServableModel(unpacked_archive(InPlace(), VECTOR, VECTOR_OUT, batching="stack"))
    assert contents(model.answer([body([1, 1])])[0]) == (200, {"y": [2, 2]})
    assert [answer.status for answer in model.answer([body([1, 1])] * 3)] == [200] * 3


def test_a_response_is_not_overwritten_by_the_next_run(unpacked_archive):
    model = ServableModel(unpacked_archive(Running(), VECTOR, SCALAR_OUT))
    assert [contents(answer)[1]["y"] for answer in model.answer([body([1])] * 4)] == [1, 2, 3, 4]


@pytest.mark.parametrize("batching", ["stack", "none"])
@pytest.mark.parametrize(
    "odd",
    [
        "return None",
        "return 5",
        "return {}",
        "return {'x': [1, 2]}",
        "return {'x': None}",
        "return {'\\ud800': inputs['x'], 'x': inputs['x'], 'extra': inputs['x']}",
        "return SHARED",
        "return {'x': inputs['x'].astype('float64')}",
        "return {'x': inputs['x'][:, None, None]}",
        "return {'x': numpy.array(['a', None])}",
        "raise SystemExit(1)",
        "raise GeneratorExit",
        "raise Panic",
        "raise MemoryError",
        "raise Unspeakable",
        "raise RequestError('\\ud800', field='\\ud800', status=7)",
        "return preprocess(inputs)",
        "raise ModelError('x' * 1_000_000)",
        "raise RuntimeError('CUDA error: device-side assert triggered')",
        "raise RuntimeError('opserve::scaled_add: the GPU reports x')",
    ],
)
def test_a_preprocess_hook_that_goes_wrong_for_one_request(unpacked_archive, batching, odd):
    hooks = f"""
import numpy
from handlers.errors import ModelError, RequestError
SHARED = {{"x": numpy.ones(2, "float32")}}
class Panic(BaseException): pass
class Unspeakable(Exception):
    def __str__(self): raise ValueError
def preprocess(inputs):
    if inputs["x"][0] == 7:
        {odd}
    return inputs
"""
    model = ServableModel(unpacked_archive(Same(), VECTOR, VECTOR_OUT, batching=batching, hooks=hooks))
    answers = model.answer([body([1, 4]), body([7, 0]), body([7, 1]), body([1, 4])])
    assert [contents(answers[index]) for index in (0, 3)] == [(200, OK), (200, OK)]
    for answer in answers[1:3]:
        json.loads(answer.body)
        assert len(answer.body) < 5000
    assert model.broken is None


@pytest.mark.parametrize(
    "odd",
    [
        "return None",
        "return [1, 2]",
        "return {'y': {1, 2}}",
        "return {'y': object()}",
        "return {'y': b'bytes'}",
        "return {'y': '\\ud800'}",
        "return {'\\ud800': 1}",
        "return {float('nan'): 1}",
        "return {'y': 1 << 80}",
        "loop = []; loop.append(loop); return {'y': loop}",
        "deep = []; \n        for _ in range(100_000): deep = [deep]\n        return {'y': deep}",
        "return {'y': numpy.array([object()])}",
        "return {'y': numpy.array([1j])}",
        "return {'y': numpy.array(['\\ud800'])}",
        "raise SystemExit",
    ],
)
def test_a_postprocess_hook_that_goes_wrong_for_one_request(unpacked_archive, odd):
    hooks = f"""
import numpy
def postprocess(outputs):
    if outputs["y"][0] == 7:
        {odd}
    return outputs
"""
    model = ServableModel(unpacked_archive(Same(), VECTOR, VECTOR_OUT, batching="stack", hooks=hooks))
    for accept in ("application/json", NPZ_TYPE, "application/vnd.oip+json"):
        answers = model.answer([body([1, 4]), body([7, 0], Accept=accept), body([1, 4])])
        assert [contents(answers[index]) for index in (0, 2)] == [(200, OK), (200, OK)]
        assert answers[1].status >= 400 and json.loads(answers[1].body)["error"]["message"]


@pytest.mark.parametrize(
    "text",
    [
        b'{"x": [1], "\\ud800": 1}',
        b'{"inputs": [{"name": "\\ud800", "shape": [1], "datatype": "FP32", "data": [1]}]}',
        b'{"id": "\\ud800", "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}',
        b'{"outputs": [{"name": "\\udfff"}], "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}',
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "\\ud800", "data": [1]}]}',
        b'{"x": ["\\ud800"]}',
    ],
)
def test_half_of_a_surrogate_pair_costs_only_its_sender(unpacked_archive, text):
    model = ServableModel(unpacked_archive(Same(), VECTOR, VECTOR_OUT, batching="stack"))
    answers = model.answer([body([1, 4]), Request({"body": Part(text, "application/json")}), body([1, 4])])
    assert [contents(answers[index]) for index in (0, 2)] == [(200, OK), (200, OK)]
    assert 400 <= answers[1].status <= 500
    assert "error" in json.loads(answers[1].body)


def test_a_refused_request_is_gone_once_it_is_answered(unpacked_archive, monkeypatch):
    """Without the garbage collector: no cycle may keep a request alive."""
    model = ServableModel(unpacked_archive(InPlace(), VECTOR, VECTOR_OUT, batching="stack"))
    seen: list[weakref.ref] = []

    class Watched(bytearray):
        __slots__ = ("__weakref__",)

    decode = model_module.decode_request

    def watch(request, *rest):
        decoded = decode(request, *rest)
        seen.extend(weakref.ref(value) for value in decoded.inputs.values())
        return decoded

    monkeypatch.setattr(model_module, "decode_request", watch)

    def check(inputs):
        if inputs["x"].size == 3:
            raise RequestError("three")
        if inputs["x"].size == 4:
            raise ZeroDivisionError
        return inputs

    model.hooks.preprocess = check
    # pytest keeps every record of a log, and with it the traceback.
    monkeypatch.setattr(errors.logger, "disabled", True)
    gc.collect()
    gc.disable()
    try:
        requests = []
        for value in ([-1, 1], [1, 1], [1, 2, 3], [1, 2, 3, 4], "text", [[1], [1, 2]]):
            content = Watched(json.dumps({"x": value}).encode())
            seen.append(weakref.ref(content))
            requests.append(Request({"body": Part(content, "application/json")}))
        content = Watched(b'{"x": [1')
        seen.append(weakref.ref(content))
        requests.append(Request({"body": Part(content, "application/json")}))
        answers = model.answer(requests)
        assert [answer.status for answer in answers] == [500, 200, 400, 500, 400, 400, 400]
        del requests, content
        assert [watched() for watched in seen] == [None] * len(seen)
    finally:
        gc.enable()


class TestLargeResponses:
    """A response has a bound, and is refused before it is built if its size is known."""

    @pytest.fixture
    def model(self, unpacked_archive):
        return ServableModel(unpacked_archive(Outer(), VECTOR, VECTOR_OUT, max_response_bytes=100_000))

    @pytest.mark.parametrize("numbers", [100, 130, 300, 3000])
    @pytest.mark.parametrize("accept", ["application/json", NPZ_TYPE, "application/vnd.oip+json"])
    def test_no_response_is_larger_than_the_bound(self, model, numbers, accept):
        """100 x 100 numbers: 40 kB, and as much JSON; 130 x 130: 68 kB; beyond that no format is small enough."""
        (answer,) = model.answer([body([1] * numbers, Accept=accept)])
        assert len(answer.body) <= 100_000
        assert answer.status in (200, 413)
        assert (answer.status == 200) == (numbers <= 130)

    def test_the_refusal_names_a_format_that_fits(self, model):
        value = [1 / 3 + index for index in range(120)]
        refused, fits = model.answer([body(value), body(value, Accept=NPZ_TYPE)])
        assert (refused.status, fits.status) == (413, 200)
        assert "application/x-npz" in json.loads(refused.body)["error"]["message"]
        (hopeless,) = model.answer([body([1] * 300)])
        assert json.loads(hopeless.body)["error"]["message"].endswith("send less per request")

    def test_binary_data_of_the_protocol_is_bounded_too(self, model):
        tensor = {"name": "x", "shape": [200], "datatype": "FP32", "data": [1] * 200}
        document = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
        (answer,) = model.answer([{"body": Part(json.dumps(document).encode(), "application/json")}])
        assert answer.status == 413
        assert isinstance(json.loads(answer.body)["error"], str)

    def test_the_largest_of_a_batch_make_room_for_the_others(self, model):
        """Six responses of 40 kB and three of a few bytes are more than a message may have."""
        sizes = [2, 100, 100, 3, 100, 100, 100, 100, 1]
        answers = model.answer([body([1] * size) for size in sizes])
        assert sum(len(answer.body) for answer in answers) <= 100_000
        statuses = [answer.status for answer in answers]
        assert [status for status, size in zip(statuses, sizes, strict=True) if size < 100] == [200] * 3
        assert set(statuses) == {200, 503}
        assert "ask again" in json.loads(answers[statuses.index(503)].body)["error"]["message"]


def test_a_request_that_needs_too_much_memory_costs_only_itself(unpacked_archive):
    """In a process whose address space ends a gigabyte above the size of the loaded model."""
    folder = unpacked_archive(Outer(), VECTOR, VECTOR_OUT)
    code = f"""
        import json, resource
        from handlers.model import ServableModel
        from handlers.codecs.request import Part
        from pathlib import Path
        model = ServableModel(Path({str(folder)!r}))
        def ask(*counts):
            bodies = [json.dumps({{"x": [1] * count}}).encode() for count in counts]
            return [answer.status for answer in model.answer([{{"body": Part(each)}} for each in bodies])]
        assert ask(2) == [200]
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 30),) * 2)
        print(ask(2, 40_000, 3), ask(4))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "[200, 507, 200] [200]\n", done.stdout + done.stderr


def test_a_hook_that_returns_lists_is_refused(unpacked_archive):
    hooks = "def preprocess(inputs):\n    return {'x': inputs['x'].tolist()}\n"
    model = ServableModel(unpacked_archive(Same(), VECTOR, VECTOR_OUT, hooks=hooks))
    status, content = contents(model.answer([body([1])])[0])
    assert status == 500 and content["error"]["message"] == "preprocess returned a list for 'x', not an array"
    assert isinstance(numpy.ones(1), numpy.ndarray)
