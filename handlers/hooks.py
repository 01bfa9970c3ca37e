"""A model's own code around its runs: the functions of the file that `hooks:` in its configuration names.

A Python module (`.py`) may do anything. A TorchScript module (`.pt`) needs no Python, so every worker runs it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from handlers.errors import ModelError, safe_str
from handlers.signature import Arrays


@dataclass
class Hooks:
    """The functions that a model brings along; `None` for each that it does not have.

    Attributes:
        preprocess: turns the decoded inputs of one request into those of the model.
        postprocess: turns the outputs of one request into what is encoded.
        explain: called with the inputs of one request and a function that runs the model on such inputs; returns the
            explanation to encode. Only Python has it.
    """

    preprocess: Callable[[Arrays], Any] | None = None
    postprocess: Callable[[Any], Mapping[str, Any]] | None = None
    explain: Callable[[Arrays, Callable[[Arrays], Arrays]], Mapping[str, Any]] | None = None


def load_hooks(path: Path, inputs: Collection[str] = ()) -> Hooks:
    """Loads a model's hooks from a file.

    Args:
        path: a `.pt` file of TorchScript, or else a Python module.
        inputs: the names of the model's inputs, which the errors of TorchScript may be about.

    Raises:
        ModelError: the file is absent, does not load, or defines no hook.
    """
    if not path.is_file():
        raise ModelError(f"{path.name}: the hooks are not in {path.parent}")
    if path.suffix == ".pt":
        from handlers.scripted_hooks import load_scripted_hooks  # imports PyTorch, which ONNX models do without

        scripted = load_scripted_hooks(path, inputs)
        return Hooks(scripted.get("preprocess"), scripted.get("postprocess"))
    return _import_hooks(path)


def _import_hooks(path: Path) -> Hooks:
    spec = importlib.util.spec_from_file_location("opserve_model_hooks", path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path.name}: the hooks are not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ModelError(f"{path.name}: the hooks do not import: {type(error).__name__}: {error}") from error
    defined = {name: getattr(module, name) for name in Hooks.__dataclass_fields__ if hasattr(module, name)}
    if not defined:
        raise ModelError(
            f"{path.name}: defines neither preprocess(inputs) nor postprocess(outputs) nor explain(inputs, predict)"
        )
    return Hooks(**defined)


def check_inputs(made: Any, required: Collection[str]) -> Arrays:
    """Returns what `preprocess` made, if it is a dictionary of arrays that has the required inputs.

    Raises:
        ModelError: it is anything else.
    """
    if not isinstance(made, dict) or not made.keys() >= set(required):
        raise ModelError(f"preprocess must return a dictionary with the keys {', '.join(sorted(required))}")
    for name, value in made.items():
        if not isinstance(value, numpy.ndarray):
            raise ModelError(f"preprocess returned a {type(value).__name__} for '{safe_str(name)}', not an array")
    return made
