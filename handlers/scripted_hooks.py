"""Hooks in TorchScript: methods of a module that turn a dictionary of tensors into another.

A ValueError that one of them raises is its refusal of a request. Imported only where a model has such hooks: PyTorch is
large.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy
import torch

from handlers.errors import ModelError, RequestError, error_lines
from handlers.signature import Arrays

METHODS = ("preprocess", "postprocess")
_DICTIONARY = "Dict[str, Tensor]"
# The dtypes that an array can have, too.
_DTYPES = frozenset(
    getattr(torch, name)
    for name in "bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float16 float32 float64".split()
)
# As TorchScript writes the class of an exception that its code raises.
_REFUSAL = "builtins.ValueError"
_QUOTED = re.compile(r"'([^']+)'")


def load_scripted_hooks(path: Path, inputs: Collection[str]) -> dict[str, Callable[[Any], Arrays]]:
    """Loads the hooks that a TorchScript module defines, by their names.

    Args:
        path: the file.
        inputs: the names of the model's inputs; a refusal whose message begins with one of them in quotes is about it.

    Raises:
        ModelError: it is not TorchScript, or has neither hook, or one that takes or returns something else.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript warns on every load
        try:
            module = torch.jit.load(str(path), map_location="cpu").eval()
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelError(
                f"{path.name}: not hooks in TorchScript that can be read: {error_lines(error)[0]}"
            ) from error
    found = {name: getattr(module, name, None) for name in METHODS}
    methods = {name: method for name, method in found.items() if isinstance(method, torch._C.ScriptMethod)}
    if not methods:
        raise ModelError(f"{path.name}: defines neither preprocess(inputs) nor postprocess(outputs)")
    for name, method in methods.items():
        _check_schema(f"{path.name}: {name}", method.schema)
    return {name: _hook(name, method, frozenset(inputs)) for name, method in methods.items()}


def _check_schema(where: str, schema: torch._C.FunctionSchema) -> None:
    taken = [each.type.annotation_str for each in schema.arguments[1:]]
    returned = [each.type.annotation_str for each in schema.returns]
    if taken != [_DICTIONARY] or returned != [_DICTIONARY]:
        raise ModelError(f"{where} must take a {_DICTIONARY} and return one")


def _hook(name: str, method: Callable[..., Any], inputs: frozenset[str]) -> Callable[[Any], Arrays]:
    def run(arrays: Mapping[str, numpy.ndarray]) -> Arrays:
        # PyTorch has no read-only tensors; bodies from TorchServe are writable.
        tensors = {key: torch.from_numpy(each if each.flags.writeable else each.copy()) for key, each in arrays.items()}
        try:
            with torch.inference_mode():
                made = method(tensors)
        except torch.jit.Error as error:
            if torch._C._get_caught_jit_exception_class_name() == _REFUSAL:
                message = torch._C._get_caught_jit_exception_original_msg()
                raise RequestError(message, field=_find_field(message, inputs)) from error
            raise
        for key, tensor in made.items():
            if tensor.dtype not in _DTYPES:
                dtype = str(tensor.dtype).removeprefix("torch.")
                raise ModelError(f"{name} returned a tensor of {dtype} for '{key}', which no array can be")
        return {key: tensor.contiguous().numpy() for key, tensor in made.items()}

    return run


def _find_field(message: str, inputs: frozenset[str]) -> str | None:
    quoted = _QUOTED.match(message)
    return quoted[1] if quoted and quoted[1] in inputs else None
