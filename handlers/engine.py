"""Loads a TorchScript artifact with its operator libraries and runs it on arrays."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy
import torch

from handlers.config import ModelConfig
from handlers.errors import ModelError
from handlers.op_library import load_op_library


class TorchScriptEngine:
    """A TorchScript model on one device.

    Args:
        folder: where the artifact and the libraries lie.
        config: the model's configuration.
        device_index: the GPU the server gave this worker, or `None`.

    Raises:
        ModelError: a library or the artifact does not load, or the wanted device is not there.
    """

    def __init__(self, folder: Path, config: ModelConfig, device_index: int | None = None):
        self.config = config
        self.device = select_device(config.device, device_index)
        torch.set_num_threads(config.threads)
        for library in config.op_libraries:
            load_op_library(folder / library)
        self.model = load_script_module(folder / config.artifact, self.device)

    def run(self, inputs: Mapping[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
        """Calls the model with the inputs in the signature's order.

        Raises:
            ModelError: the model returned something else than its signature's outputs.
        """
        tensors = [torch.from_numpy(inputs[spec.name]).to(self.device) for spec in self.config.inputs]
        with torch.inference_mode():
            returned = self.model(*tensors)
        return self._named_outputs(returned)

    def _named_outputs(self, returned: object) -> dict[str, numpy.ndarray]:
        names = [spec.name for spec in self.config.outputs]
        if isinstance(returned, torch.Tensor):
            values = [returned]
        elif isinstance(returned, Mapping):
            values = [returned.get(name) for name in names] if len(returned) == len(names) else []
        else:
            values = list(returned) if isinstance(returned, tuple | list) else []
        if len(values) != len(names) or not all(isinstance(value, torch.Tensor) for value in values):
            raise ModelError(
                f"{self.config.artifact} returned {_describe(returned)}; its signature promises the tensors "
                + ", ".join(names)
            )
        return {name: value.cpu().numpy() for name, value in zip(names, values, strict=True)}


def select_device(wanted: str, device_index: int | None) -> torch.device:
    """The device for `auto`, `cpu` or `cuda`.

    Raises:
        ModelError: `cuda` is wanted and PyTorch sees no GPU, or the server gave this worker none.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available() and device_index is not None:
        return torch.device("cuda", device_index)
    if wanted == "cuda":
        cause = "PyTorch sees no GPU" if not torch.cuda.is_available() else "the server gave this worker no GPU"
        raise ModelError(f"device: cuda is asked for and {cause}; use device: auto or cpu to run on the processor")
    return torch.device("cpu")


def load_script_module(path: Path, device: torch.device) -> torch.jit.ScriptModule:
    """Loads a TorchScript file.

    Raises:
        ModelError: naming the file and whether it is absent, no TorchScript, or needs an operator nobody registered.
    """
    if not path.is_file():
        raise ModelError(f"{path.name}: the artifact is not in {path.parent}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript's own, on every load
            return torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError, OSError) as error:
        text = str(error)
        missing = re.search(r"[Uu]nknown builtin op: ([\w:.]+?)\.?\s", text)
        if missing:
            raise ModelError(
                f"{path.name}: it needs the operator {missing[1]}, which no library under op_libraries registers; "
                "add the library that does"
            ) from error
        raise ModelError(
            f"{path.name}: not a TorchScript model that can be read: {text.strip().splitlines()[0]}"
        ) from error


def _describe(returned: object) -> str:
    if isinstance(returned, Mapping):
        return "a dictionary of " + ", ".join(map(str, returned))
    if isinstance(returned, tuple | list):
        return f"{len(returned)} value(s): " + ", ".join(type(value).__name__ for value in returned)
    return type(returned).__name__
