"""What the engines that run on PyTorch share: the device, the conversion of arrays, the names of outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy
import torch

from handlers.config import ModelConfig
from handlers.engines import Arrays, artifact_path, meaning_of, no_gpu
from handlers.engines.op_library import for_device, load_op_library
from handlers.errors import ModelError


class PyTorchEngine:
    """Runs a callable of tensors on one device; subclasses say how the artifact becomes that callable.

    Raises:
        ModelError: a library or the artifact does not load, or the wanted device is not there.
    """

    format: str

    def __init__(self, folder: Path, config: ModelConfig, device_index: int | None = None):
        self.config = config
        self._device = select_device(config.device, device_index)
        torch.set_num_threads(config.threads)
        for library in for_device(config.op_libraries, gpu=self._device.type == "cuda", instead=False):
            load_op_library(folder / library)
        self._model = self._load(artifact_path(folder, config))

    def _load(self, path: Path) -> Callable[..., Any]:
        raise NotImplementedError

    @property
    def device(self) -> str:
        return str(self._device)

    @property
    def lends_outputs(self) -> bool:
        """A tensor on the processor is handed out as it is, also one that the model keeps."""
        return self._device.type == "cpu"

    def run(self, inputs: Mapping[str, numpy.ndarray]) -> Arrays:
        """Calls the model with the inputs in the signature's order; an absent optional one is None."""
        try:
            return self._run(inputs)
        except Exception as error:
            meaning = meaning_of(error, self.device, self._probe)
            if meaning is error:
                raise
            raise meaning from error

    def _probe(self) -> None:
        torch.cuda.synchronize(self._device)

    def _run(self, inputs: Mapping[str, numpy.ndarray]) -> Arrays:
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
        # PyTorch has no read-only tensors. TorchServe's bodies are bytearrays, so nothing is copied there.
        return torch.from_numpy(array if array.flags.writeable else array.copy()).to(self._device)

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
        ModelError: `cuda` is wanted and PyTorch sees no GPU, or the server gave this worker none.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available() and device_index is not None:
        return torch.device("cuda", device_index)
    if wanted == "cuda":
        raise no_gpu("the server gave this worker no GPU" if torch.cuda.is_available() else "PyTorch sees no GPU")
    return torch.device("cpu")


def _describe(returned: object) -> str:
    if isinstance(returned, Mapping):
        return "a dictionary of " + ", ".join(map(str, returned))
    if isinstance(returned, tuple | list):
        return f"{len(returned)} value(s): " + ", ".join(type(value).__name__ for value in returned)
    return type(returned).__name__
