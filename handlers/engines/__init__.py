"""One engine per artifact format, behind one interface: arrays in, arrays out."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy

from handlers.config import ModelConfig
from handlers.errors import DeviceError, ModelError, OutOfMemoryError, RequestError, last_line, safe_str
from handlers.signature import Arrays


class Engine(ABC):
    """A loaded model.

    Attributes:
        device: where it runs: `cpu`, `cuda:0`.
        lends_outputs: whether an output may be memory that the next run overwrites.
    """

    device: str
    lends_outputs: bool

    def run(self, inputs: Mapping[str, numpy.ndarray]) -> Arrays:
        """Calls the model; an optional input may be absent.

        Raises:
            ModelError: it returned something other than the outputs of its signature.
            RequestError: one of our operators refuses these inputs.
            OutOfMemoryError: these inputs need more memory than there is.
            DeviceError: the GPU has failed, and nothing more can run in this process.
            Exception: anything else that the runtime raises for these inputs.
        """
        try:
            return self._run(inputs)
        except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
            classified = classify_error(error, self.device, self._probe)
            if classified is error:
                raise
            raise classified from error

    @abstractmethod
    def _run(self, inputs: Mapping[str, numpy.ndarray]) -> Arrays:
        """Calls the model by its runtime."""

    @abstractmethod
    def _probe(self) -> None:
        """Makes a small use of the GPU, and raises if that fails."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Format, runtime with its version, device and threads, as JSON can hold them."""


def load_engine(folder: Path, config: ModelConfig, device_index: int | None = None) -> Engine:
    """Loads the operator libraries, then the artifact, with the engine for its format.

    Args:
        folder: contains the artifact and the libraries.
        config: the model's configuration.
        device_index: the GPU the server gave this worker, or `None`.

    Raises:
        ModelError: the format is unknown, a library or the artifact does not load, or there is no such device.
    """
    # Runtimes are large: each is imported only by the workers that use it.
    suffix = Path(config.artifact).suffix
    if suffix == ".pt":
        from handlers.engines.torchscript import TorchScriptEngine

        return TorchScriptEngine(folder, config, device_index)
    if suffix == ".onnx":
        from handlers.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(folder, config, device_index)
    if suffix == ".pt2":
        from handlers.engines.exported import ExportedEngine

        return ExportedEngine(folder, config, device_index)
    raise ModelError(f"{config.artifact}: no engine for this format; there are .pt, .pt2 and .onnx")


# An operator's own error about its arguments, which only the values of a request can have caused.
_OPERATOR_ERROR = re.compile(r"opserve::\w+: .*")
_GPU_REPORTS = re.compile(r"opserve::\w+: the GPU reports")
_DEVICE_FAILURE = re.compile(r"CUDA error|CUDA failure|cudaError|opserve::\w+: the GPU reports")
_OUT_OF_MEMORY = re.compile(
    r"opserve::\w+: (the GPU reports:? )?out of memory"
    r"|CUDA ((error|failure \d+): )?out of memory"
    r"|\w+_STATUS_ALLOC_FAILED"
    r"|can't allocate memory|Storage size calculation overflowed"  # PyTorch, about the processor's
    r"|Failed to allocate memory|bad_alloc|bad allocation"  # ONNX Runtime
)


def classify_error(error: Exception, device: str, probe: Callable[[], None]) -> Exception:
    """The error of our tree that matches an exception from a model's run.

    Runtimes distinguish a lack of memory, a lost GPU and a refusal by an operator only by their messages. They are
    parsed here, where the text is certainly the runtime's own, and nowhere else.

    Args:
        error: raised by the runtime.
        device: where the model runs; only a GPU can be lost.
        probe: makes a small use of the GPU, and raises if that fails.

    Returns:
        A `RequestError`, an `OutOfMemoryError`, a `DeviceError`, or `error` itself.
    """
    if isinstance(error, ModelError | RequestError):
        return error
    text = safe_str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _OUT_OF_MEMORY.search(text):
        return OutOfMemoryError(last_line(error))
    if device != "cpu":
        if type(error).__name__ == "AcceleratorError" or _DEVICE_FAILURE.search(text):
            return DeviceError(last_line(error))
        try:
            probe()
        except Exception as failure:
            return DeviceError(last_line(failure))
    refusal = _OPERATOR_ERROR.search(text)
    if refusal and not _GPU_REPORTS.search(text):
        return RequestError(refusal[0].strip())
    return error


def artifact_path(folder: Path, config: ModelConfig) -> Path:
    """The path of the artifact.

    Raises:
        ModelError: there is no such file.
    """
    path = folder / config.artifact
    if not path.is_file():
        raise ModelError(f"{path.name}: the artifact is not in {path.parent}")
    return path


def missing_gpu_error(cause: str) -> ModelError:
    """The error for `device: cuda` without a GPU to run on."""
    return ModelError(f"device: cuda is asked for and {cause}; use device: auto or cpu to run on the processor")
