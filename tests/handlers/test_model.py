"""A loaded archive answers requests one by one, whatever else their batch contains."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn

from archive.repository import ROOT
from handlers.codecs.request import Part
from handlers.errors import ModelError
from handlers.model import ServableModel

VECTOR = [{"name": "x", "dtype": "float32", "shape": [-1]}]
VECTOR_OUT = [{"name": "y", "dtype": "float32", "shape": [-1]}]


class Root(nn.Module):
    """Square roots of stacked vectors; a vector that starts with -1 breaks the call it is in."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool((x[:, 0] == -1).any()):
            raise ValueError("a vector starts with -1")
        return x.sqrt()


class Sign(nn.Module):
    """Control flow that depends on the data of one request."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x.sum() > 0):
            return x
        return -x


def body(value) -> dict:
    return {"body": Part(json.dumps({"x": value}).encode(), "application/json")}


def contents(answer):
    return answer.status, json.loads(answer.body)


def test_batching_none_calls_the_model_once_per_request(unpacked_archive):
    model = ServableModel(unpacked_archive(Sign(), VECTOR, VECTOR_OUT))
    answers = [contents(answer) for answer in model.answer([body([1, 2]), body([-3]), body([])])]
    assert answers == [(200, {"y": [1, 2]}), (200, {"y": [3]}), (200, {"y": []})]


def test_stack_groups_by_shape_and_keeps_the_order(unpacked_archive):
    model = ServableModel(unpacked_archive(Root(), VECTOR, VECTOR_OUT, batching="stack"))
    answers = model.answer([body([4]), body([9, 16]), body([25]), body([1, 0])])
    assert [contents(answer)[1]["y"] for answer in answers] == [[2], [3, 4], [5], [1, 0]]


@pytest.mark.parametrize("position", range(8))
@pytest.mark.parametrize(
    ("bad", "status"),
    [
        ({"body": Part(b"{", "application/json")}, 400),
        (body("text"), 400),
        ({}, 400),
        ({"z": Part(b"1")}, 400),
        (body([-1, 2]), 500),
    ],
    ids=["not-json", "text", "empty", "unknown", "breaks-the-model"],
)
def test_one_bad_request_costs_only_its_sender(unpacked_archive, position, bad, status):
    model = ServableModel(unpacked_archive(Root(), VECTOR, VECTOR_OUT, batching="stack"))
    good = [body([float(index), 2.0]) for index in range(7)]
    without = model.answer(good)
    answers = model.answer([*good[:position], bad, *good[position:]])
    assert answers.pop(position).status == status
    assert [answer.body for answer in answers] == [answer.body for answer in without]


def test_the_configuration_bounds_what_an_npz_unpacks_to(unpacked_archive):
    model = ServableModel(unpacked_archive(Sign(), VECTOR, VECTOR_OUT, max_npz_bytes=400))
    for numbers, status in ((60, 200), (100, 413)):
        buffer = io.BytesIO()
        numpy.savez_compressed(buffer, x=numpy.zeros(numbers, numpy.float32))
        answer = model.answer([{"body": Part(buffer.getvalue())}])[0]
        assert answer.status == status, answer.body
    assert b"400" in answer.body


def test_nan_never_makes_invalid_json(unpacked_archive):
    model = ServableModel(unpacked_archive(Root(), VECTOR, VECTOR_OUT, batching="stack"))
    assert contents(model.answer([body([-4, 4])])[0]) == (200, {"y": [None, 2]})


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([{"name": "y", "dtype": "float64", "shape": [-1]}], r"output 'y' is float32 \[1\]"),
        ([{"name": "y", "dtype": "float32", "shape": [2]}], r"its signature promises float32 \[2\]"),
        ([*VECTOR_OUT, {"name": "z", "dtype": "float32", "shape": []}], "returned Tensor; .* the tensors y, z"),
    ],
)
def test_a_response_that_violates_the_signature_is_our_fault(unpacked_archive, outputs, message):
    answer = ServableModel(unpacked_archive(Sign(), VECTOR, outputs)).answer([body([1])])[0]
    status, content = contents(answer)
    assert status == 500
    assert re.search(message, content["error"]["message"])


def test_a_stacked_model_without_the_first_dimension_is_reported(unpacked_archive):
    class Total(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum()

    folder = unpacked_archive(Total(), VECTOR, [{"name": "y", "dtype": "float32", "shape": []}], batching="stack")
    status, content = contents(ServableModel(folder).answer([body([1])])[0])
    assert status == 500 and "first dimension is the request" in content["error"]["message"]


def test_dictionaries_are_matched_by_name(unpacked_archive):
    class Both(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"big": x * 2, "small": x / 2}

    outputs = [{"name": name, "dtype": "float32", "shape": [-1]} for name in ("small", "big")]
    answer = ServableModel(unpacked_archive(Both(), VECTOR, outputs)).answer([body([4])])[0]
    assert contents(answer) == (200, {"small": [2], "big": [8]})


class TestLoading:
    """Every reason not to load is one line that names the file."""

    def test_cuda_never_falls_back(self, unpacked_archive, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(ModelError, match="device: cuda is asked for and PyTorch sees no GPU"):
            ServableModel(unpacked_archive(Sign(), VECTOR, VECTOR_OUT, device="cuda"))

    def test_an_absent_library(self, unpacked_archive):
        with pytest.raises(ModelError, match=r"libx\.so: the operator library is not in"):
            ServableModel(unpacked_archive(Sign(), VECTOR, VECTOR_OUT, op_libraries=["libx.so"]))

    @pytest.mark.parametrize(
        "content", [b"", b"not a library", b"\x7fELF", None], ids=["empty", "text", "short", "cut"]
    )
    def test_a_library_that_does_not_load(self, unpacked_archive, content):
        folder = unpacked_archive(Sign(), VECTOR, VECTOR_OUT, op_libraries=["libx.so"])
        cut = Path(torch._C.__file__).read_bytes()[:1000]
        (folder / "libx.so").write_bytes(cut if content is None else content)
        with pytest.raises(ModelError, match=r"libx\.so: the operator library does not load: it is (not a|truncated)"):
            ServableModel(folder)

    def test_a_library_with_an_undefined_symbol(self, unpacked_archive):
        folder = unpacked_archive(Sign(), VECTOR, VECTOR_OUT, op_libraries=["libx.so"])
        source = folder / "x.cpp"
        source.write_text("void nobody_defines_this();\nvoid call() { nobody_defines_this(); }\n")
        subprocess.run(["g++", "-shared", "-fPIC", "-o", str(folder / "libx.so"), str(source)], check=True)
        with pytest.raises(ModelError, match=r"libx\.so: .* undefined symbol: \w*nobody_defines_this"):
            ServableModel(folder)

    def test_an_artifact_that_is_not_torchscript(self, unpacked_archive):
        folder = unpacked_archive(Sign(), VECTOR, VECTOR_OUT)
        (folder / "model.pt").write_bytes(b"PK\x03\x04 truncated")
        with pytest.raises(ModelError, match=r"model\.pt: not a TorchScript model") as caught:
            ServableModel(folder)
        assert "\n" not in str(caught.value)


def test_a_worker_without_images_does_not_import_the_image_library() -> None:
    code = "import sys, handlers.model; print('PIL' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
