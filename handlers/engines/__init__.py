"""One engine per artifact format behind one interface: arrays in, arrays out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy

from handlers.config import ModelConfig
from handlers.errors import DeviceError, ModelError, OutOfMemoryError, RequestError, error_lines, safe_str

Arrays = dict[str, numpy.ndarray]


class Engine(Protocol):
    """A loaded model.

    Attributes:
        device: where it runs, as a person would write it: `cpu`, `cuda:0`.
        lends_outputs: whether an output may be memory that the next run writes to.
    """

    device: str
    lends_outputs: bool

    def run(self, inputs: Mapping[str, numpy.ndarray]) -> Arrays:
        """Calls the model; an optional input may be absent.

        Raises:
            ModelError: it returned something else than its signature's outputs.
            RequestError: an operator of ours refuses these inputs.
            OutOfMemoryError: these inputs need more memory than there is.
            DeviceError: the GPU has failed, and this process can run nothing more.
            Exception: whatever else the runtime raises for these inputs.
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


# An operator's own complaint about its arguments, which only the request's values can have caused.
_COMPLAINT = re.compile(r"opserve::\w+: .*")
_GPU_REPORTS = re.compile(r"opserve::\w+: the GPU reports")
_DEVICE_FAILURE = re.compile(r"CUDA error|CUDA failure|cudaError|opserve::\w+: the GPU reports")
_OUT_OF_MEMORY = re.compile(
    r"opserve::\w+: (the GPU reports:? )?out of memory"
    r"|CUDA ((error|failure \d+): )?out of memory"
    r"|\w+_STATUS_ALLOC_FAILED"
    r"|can't allocate memory|Storage size calculation overflowed"  # PyTorch, of the processor's
    r"|Failed to allocate memory|bad_alloc|bad allocation"  # ONNX Runtime
)


def meaning_of(error: Exception, device: str, probe: Callable[[], None]) -> Exception:
    """What an exception that came out of a model's run means for its sender and for this process.

    Runtimes tell a lack of memory, a lost GPU and a refusal by an operator apart in words only: those are read here,
    where no text but the runtime's own can be, and nowhere else.

    Args:
        error: what the runtime raised.
        device: where the model runs; only a GPU can be lost.
        probe: uses the GPU a little, and raises if it cannot be used.

    Returns:
        A `RequestError`, an `OutOfMemoryError`, a `DeviceError`, or `error` itself.
    """
    if isinstance(error, ModelError | RequestError):
        return error
    text = safe_str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _OUT_OF_MEMORY.search(text):
        return OutOfMemoryError(error_lines(error)[-1])
    if device != "cpu":
        if type(error).__name__ == "AcceleratorError" or _DEVICE_FAILURE.search(text):
            return DeviceError(error_lines(error)[-1])
        try:
            probe()
        except Exception as failure:
            return DeviceError(error_lines(failure)[-1])
    complaint = _COMPLAINT.search(text)
    if complaint and not _GPU_REPORTS.search(text):
        return RequestError(complaint[0].strip())
    return error


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
