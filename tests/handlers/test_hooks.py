"""A model's hooks are loaded from a file, get arrays, and may refuse a request."""

import json
import textwrap

import pytest
import torch
from torch import nn

from handlers.codecs.request import Part
from handlers.errors import ModelError
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
