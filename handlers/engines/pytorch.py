"""The base of the engines that run on PyTorch: the device, the conversion of arrays, the names of outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy
import torch

from handlers.config import ModelConfig
from handlers.engines import Engine, artifact_path, missing_gpu_error
from handlers.engines.op_library import load_op_library, select_libraries
from handlers.errors import ModelError
from handlers.signature import Arrays


class PyTorchEngine(Engine):
    """Runs a callable of tensors on one device; subclasses load the artifact as that callable.

    Raises:
        ModelError: a library or the artifact does not load, or there is no such device.
    """

    format: str

    def __init__(self, folder: Path, config: ModelConfig, device_index: int | None = None):
        self.config = config
        self._device = select_device(config.device, device_index)
        torch.set_num_threads(config.threads)
        self.device = str(self._device)
        # On the processor a tensor is returned as it is, even if the model keeps it.
        self.lends_outputs = self._on_cpu = self._device.type == "cpu"
        for library in select_libraries(config.op_libraries, gpu=not self._on_cpu, cuda_replaces=False):
            load_op_library(folder / library)
        self._model = self._load(artifact_path(folder, config))

    def _load(self, path: Path) -> Callable[..., Any]:
        raise NotImplementedError

    def _probe(self) -> None:
        torch.cuda.synchronize(self._device)

    def _run(self, inputs: Mapping[str, numpy.ndarray]) -> Arrays:
        # In the order of the signature; an absent optional input is None.
        tensors = [self._tensor(inputs.get(spec.name)) for spec in self.config.inputs]
        with torch.inference_mode():
            returned = self._model(*tensors)
        return self._named_outputs(returned)

    def describe(self) -> dict[str, Any]:
        """Format, runtime, device and threads."""
        runtime = f"PyTorch {torch.__version__}"
        return {"format": self.format, "runtime": runtime, "device": self.device, "threads": torch.get_num_threads()}

    def _tensor(self, array: numpy.ndarray | None) -> torch.Tensor | None:
        if array is None:
            return None
        # PyTorch has no read-only tensors; bodies from TorchServe are writable.
        tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
        return tensor if self._on_cpu else tensor.to(self._device)

    def _named_outputs(self, returned: object) -> Arrays:
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
        ModelError: `cuda` is required, and PyTorch sees no GPU or the server gave this worker none.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available() and device_index is not None:
        return torch.device("cuda", device_index)
    if wanted == "cuda":
        raise missing_gpu_error(
            "the server gave this worker no GPU" if torch.cuda.is_available() else "PyTorch sees no GPU"
        )
    return torch.device("cpu")


def _describe(returned: object) -> str:
    if isinstance(returned, Mapping):
        return "a dictionary of " + ", ".join(map(str, returned))
    if isinstance(returned, tuple | list):
        return f"{len(returned)} value(s): " + ", ".join(type(value).__name__ for value in returned)
    return type(returned).__name__
