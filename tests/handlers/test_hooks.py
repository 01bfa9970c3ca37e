"""A model's hooks are loaded from a file, get arrays, and may refuse a request."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn

from archive.building.export import quiet_torchscript, save_torchscript
from archive.repository import ROOT
from handlers.codecs.request import Part
from handlers.errors import ModelError, RequestError
from handlers.hooks import Hooks, load_hooks
from handlers.model import ServableModel

VECTOR = [{"name": "x", "dtype": "float32", "shape": [-1]}]
VECTOR_OUT = [{"name": "y", "dtype": "float32", "shape": [-1]}]


class Same(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def body(value) -> dict:
    return {"body": Part(json.dumps({"x": value}).encode(), "application/json")}


def contents(answer):
    return answer.status, json.loads(answer.body)


def test_hooks_see_arrays_and_may_refuse(unpacked_archive):
    hooks = """
        from handlers.errors import RequestError

        def preprocess(inputs):
            if inputs["x"].size == 0:
                raise RequestError("'x' is empty", field="x", status=422)
            return {"x": inputs["x"] * 2}

        def postprocess(outputs):
            return {"total": float(outputs["y"].sum())}
    """
    folder = unpacked_archive(Same(), VECTOR, VECTOR_OUT, hooks=textwrap.dedent(hooks))
    answers = [contents(answer) for answer in ServableModel(folder).answer([body([1, 2]), body([])])]
    assert answers[0] == (200, {"total": 6})
    assert answers[1] == (422, {"error": {"code": 422, "field": "x", "message": "'x' is empty"}})


def test_hooks_that_do_not_import_or_define_nothing(unpacked_archive):
    folder = unpacked_archive(Same(), VECTOR, VECTOR_OUT, hooks="import no_such_module")
    with pytest.raises(ModelError, match="hooks do not import: ModuleNotFoundError"):
        ServableModel(folder)
    (folder / "hooks.py").write_text("x = 1")
    with pytest.raises(ModelError, match="defines neither preprocess"):
        ServableModel(folder)


def test_a_module_may_define_some_of_the_hooks(tmp_path):
    (tmp_path / "hooks.py").write_text("def explain(inputs, predict):\n    return {'why': 1}\n")
    hooks = load_hooks(tmp_path / "hooks.py")
    assert hooks.explain is not None and hooks == Hooks(explain=hooks.explain)
    with pytest.raises(ModelError, match=r"absent\.py: the hooks are not in "):
        load_hooks(tmp_path / "absent.py")


class Scripted(nn.Module):
    """What TorchScript can do to a request, by the number of its elements."""

    @torch.jit.export
    def preprocess(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        x = inputs["x"]
        count = x.numel()
        if count == 0:
            raise ValueError(f"'x' has {count} elements")
        if count == 1:
            raise ValueError("'y' is not an input\nat all")
        if count == 2:
            raise RuntimeError("'x' is the model's fault")
        if count == 3:
            assert count > 3, "never"
        if count == 4:
            return {"x": x + torch.zeros(7)}
        if count == 5:
            return {"z": x}
        if count == 6:
            return {"x": x.to(torch.bfloat16)}
        return {"x": x * 2}

    @torch.jit.export
    def postprocess(self, outputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        y = outputs["y"]
        if y[0] < 0:
            raise ValueError("'x' leads to nothing")
        return {"total": y.sum(), "transposed": y[:4].reshape(2, 2).t()}


@pytest.fixture
def scripted(unpacked_archive) -> Path:
    """An archive with these hooks."""
    folder = unpacked_archive(Same(), VECTOR, VECTOR_OUT, hooks="x = 1")
    save_torchscript(Scripted(), folder / "hooks.pt")
    config = folder / "model-config.yaml"
    config.write_text(config.read_text().replace("hooks.py", "hooks.pt"))
    return folder


def test_scripted_hooks_change_and_refuse_requests(scripted):
    model = ServableModel(scripted)
    sound = (200, {"total": 56, "transposed": [[2, 6], [4, 8]]})
    expected = {
        0: (400, "x", "'x' has 0 elements"),
        1: (400, None, "'y' is not an input\\nat all"),
        2: (500, None, "preparing the request failed: builtins.RuntimeError: 'x' is the model's fault"),
        3: (500, None, "preparing the request failed: RuntimeError: AssertionError: never"),
        4: (500, None, "preparing the request failed: RuntimeError: The size of tensor a (4) must match the size of "),
        5: (500, None, "preprocess must return a dictionary with the keys x"),
        6: (500, None, "preprocess returned a tensor of bfloat16 for 'x', which no array can be"),
    }
    # More often than TorchScript's executor needs to optimize what it has profiled.
    for _ in range(4):
        assert contents(model.answer([body([*range(1, 8)])])[0]) == sound
        for count, (status, field, message) in expected.items():
            answer = contents(model.answer([body([1] * count)])[0])
            error = answer[1]["error"]
            assert (answer[0], error["code"], error["field"]) == (status, status, field), count
            assert error["message"].startswith(message), count
        refused = contents(model.answer([body([-1] * 7)])[0])
        assert refused == (400, {"error": {"code": 400, "field": "x", "message": "'x' leads to nothing"}})


def test_a_refusal_by_scripted_hooks_costs_no_other_request(scripted):
    answers = ServableModel(scripted).answer([body([1] * 8), body([]), body([2] * 8)])
    assert [answer.status for answer in answers] == [200, 400, 200]
    assert [json.loads(answers[index].body)["total"] for index in (0, 2)] == [16, 32]


def test_scripted_hooks_take_arrays_of_any_kind(scripted):
    preprocess = load_hooks(scripted / "hooks.pt", ["x"]).preprocess
    fixed = numpy.arange(8, dtype=numpy.float32)
    fixed.flags.writeable = False
    assert preprocess({"x": fixed})["x"].tolist() == [*range(0, 16, 2)]
    empty = numpy.zeros((0, 3), numpy.int64)
    with pytest.raises(RequestError, match="'x' has 0 elements"):
        preprocess({"x": empty, "other": numpy.array(True)})


def test_scripted_hooks_that_do_not_fit_are_refused_when_they_load(tmp_path):
    class Nothing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    class Other(nn.Module):
        @torch.jit.export
        def postprocess(self, outputs: dict[str, torch.Tensor]) -> torch.Tensor:
            return outputs["y"]

    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.preprocess = 3

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.preprocess

    refusals = {
        Nothing: "hooks.pt: defines neither preprocess(inputs) nor postprocess(outputs)",
        Counts: "hooks.pt: defines neither preprocess(inputs) nor postprocess(outputs)",
        Other: "hooks.pt: postprocess must take a Dict[str, Tensor] and return one",
    }
    for module, message in refusals.items():
        save_torchscript(module(), tmp_path / "hooks.pt")
        with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
            load_hooks(tmp_path / "hooks.pt")
    for content in (b"", b"def preprocess(inputs): return inputs", (tmp_path / "hooks.pt").read_bytes()[:300]):
        (tmp_path / "hooks.pt").write_bytes(content)
        with pytest.raises(ModelError, match=r"^hooks\.pt: not hooks in TorchScript that can be read: .+$"):
            load_hooks(tmp_path / "hooks.pt")


def test_scripted_hooks_may_use_the_operators_of_the_archive(unpacked_archive):
    """They are loaded after the operator libraries, in a process in which nothing else has registered them."""
    import opserve_ops  # registers the operator here, where the module is written

    class Adds(nn.Module):
        @torch.jit.export
        def preprocess(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {"x": torch.ops.opserve.scaled_add(inputs["x"], inputs["x"], 2.0)}

    folder = unpacked_archive(Same(), VECTOR, VECTOR_OUT, hooks="", op_libraries=["libopserve_torch.so"])
    (folder / "libopserve_torch.so").symlink_to(opserve_ops.library_path())
    with quiet_torchscript():
        torch.jit.script(Adds()).save(folder / "hooks.pt")
    config = folder / "model-config.yaml"
    config.write_text(config.read_text().replace("hooks.py", "hooks.pt"))
    code = """
        import sys
        from pathlib import Path
        from handlers.codecs.request import Part
        from handlers.model import ServableModel
        print(ServableModel(Path(sys.argv[1])).answer([{"body": Part(b'{"x": [1]}', "application/json")}])[0].body)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "b'{\"y\":[3.0]}'\n", done.stderr


def test_hooks_in_python_do_not_import_pytorch(tmp_path):
    (tmp_path / "hooks.py").write_text("def preprocess(inputs):\n    return inputs\n")
    code = "import sys; from pathlib import Path; from handlers.hooks import load_hooks; "
    code += "load_hooks(Path(sys.argv[1])); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, tmp_path / "hooks.py"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "False\n"
