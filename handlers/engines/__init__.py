"""One engine per artifact format behind one interface: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy

from handlers.config import ModelConfig
from handlers.errors import ModelError

Arrays = dict[str, numpy.ndarray]


class Engine(Protocol):
    """A loaded model.

    Attributes:
        device: where it runs, as a person would write it: `cpu`, `cuda:0`.
    """

    device: str

    def run(self, inputs: Mapping[str, numpy.ndarray]) -> Arrays:
        """Calls the model; an optional input may be absent.

        Raises:
            ModelError: it returned something else than its signature's outputs.
            Exception: whatever the runtime raises for these inputs.
        """

    def describe(self) -> dict[str, Any]:
        """What a person wants to know of it: format, runtime and its version, device, threads."""


def load_engine(folder: Path, config: ModelConfig, device_index: int | None = None) -> Engine:
    """Loads the operator libraries, then the artifact, with the engine for its format.

    Args:
        folder: where the artifact and the libraries lie.
        config: the model's configuration.
        device_index: the GPU the server gave this worker, or `None`.

    Raises:
        ModelError: the format is not known, a library or the artifact does not load, or the device is not there.
    """
    # Each runtime is imported only by the worker that runs on it: they are large.
    suffix = Path(config.artifact).suffix
    if suffix == ".pt":
        from handlers.engines.torchscript import TorchScriptEngine as engine
    elif suffix == ".onnx":
        from handlers.engines.onnxruntime import OnnxRuntimeEngine as engine
    elif suffix == ".pt2":
        from handlers.engines.exported import ExportedEngine as engine
    else:
        raise ModelError(f"{config.artifact}: no engine for this format; there are .pt, .pt2 and .onnx")
    return engine(folder, config, device_index)


def artifact_path(folder: Path, config: ModelConfig) -> Path:
    """Where the artifact lies.

    Raises:
        ModelError: nowhere.
    """
    path = folder / config.artifact
    if not path.is_file():
        raise ModelError(f"{path.name}: the artifact is not in {path.parent}")
    return path


def no_gpu(cause: str) -> ModelError:
    """The error of `device: cuda` where there is no GPU to run on."""
    return ModelError(f"device: cuda is asked for and {cause}; use device: auto or cpu to run on the processor")
