"""ONNX (`.onnx`) on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import onnxruntime

from handlers.config import ModelConfig
from handlers.engines import Engine, artifact_path, missing_gpu_error
from handlers.engines.op_library import check_library, load_error, select_libraries
from handlers.errors import ModelError
from handlers.signature import Arrays

_OPTIMIZATION = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
# ONNX Runtime's name for the element type of an input.
_ELEMENT = {
    "bool": "tensor(bool)",
    "uint8": "tensor(uint8)",
    "int8": "tensor(int8)",
    "int16": "tensor(int16)",
    "int32": "tensor(int32)",
    "int64": "tensor(int64)",
    "float32": "tensor(float)",
    "float64": "tensor(double)",
}


class OnnxRuntimeEngine(Engine):
    """An ONNX model in one session.

    Raises:
        ModelError: a library or the artifact does not load, there is no such device, or the model's inputs and outputs
            differ from the signature.
    """

    # A session allocates new memory for every output.
    lends_outputs = False

    def __init__(self, folder: Path, config: ModelConfig, device_index: int | None = None):
        self.config = config
        self._device_index = device_index
        providers = self._providers()
        options = self._options(folder, gpu=providers != [_CPU])
        path = artifact_path(folder, config)
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # its exceptions have no common base but Exception
            raise ModelError(f"{path.name}: ONNX Runtime does not load it: {_reason(error)}") from error
        # A provider that fails to start is only logged, and left out.
        got = self._session.get_providers()
        if config.device == "cuda" and _CUDA not in got:
            raise ModelError(f"device: cuda is asked for and ONNX Runtime could not start on it; it offers {got}")
        self.device = f"cuda:{device_index}" if _CUDA in got else "cpu"
        self._check_signature(path.name)

    def _options(self, folder: Path, *, gpu: bool) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.config.threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = _OPTIMIZATION[self.config.graph_optimization]
        options.log_severity_level = 3
        if self.config.device == "cuda":
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        # A session takes one library per domain; the one for CUDA also has the operators for the CPU.
        for library in select_libraries(self.config.op_libraries, gpu=gpu, cuda_replaces=True):
            path = folder / library
            check_library(path)
            try:
                options.register_custom_ops_library(str(path.resolve()))
            except Exception as error:
                raise load_error(path, _reason(error)) from error
        return options

    def _providers(self) -> list:
        wanted = self.config.device
        if wanted == "cpu" or (wanted == "auto" and self._device_index is None):
            return [_CPU]
        if _CUDA not in onnxruntime.get_available_providers() or self._device_index is None:
            if wanted == "auto":
                return [_CPU]
            cause = (
                "this ONNX Runtime has no CUDA"
                if self._device_index is not None
                else "the server gave this worker no GPU"
            )
            raise missing_gpu_error(cause)
        # ONNX Runtime does not find CUDA and cuDNN by itself among the packages that PyTorch installs.
        onnxruntime.preload_dlls()
        cuda = (_CUDA, {"device_id": self._device_index, **self.config.provider_options})
        return [cuda] if wanted == "cuda" else [cuda, _CPU]

    def _check_signature(self, artifact: str) -> None:
        for kind, specs, nodes in (
            ("input", self.config.inputs, self._session.get_inputs()),
            ("output", self.config.outputs, self._session.get_outputs()),
        ):
            names, given = [spec.name for spec in specs], {node.name: node.type for node in nodes}
            if set(names) != given.keys():
                raise ModelError(f"{artifact}: its {kind}s are {sorted(given)}, the configuration says {sorted(names)}")
            for spec in specs:
                if given[spec.name] != _ELEMENT[str(spec.dtype)]:
                    raise ModelError(f"{artifact}: {kind} '{spec.name}' is {given[spec.name]}, not {spec.dtype}")

    def _probe(self) -> None:
        onnxruntime.OrtValue.ortvalue_from_numpy(numpy.zeros(1, numpy.float32), "cuda", self._device_index).numpy()

    def _run(self, inputs: Mapping[str, numpy.ndarray]) -> Arrays:
        names = [spec.name for spec in self.config.outputs]
        if self.device == "cpu":
            return self._named(self._session.run(names, dict(inputs)))
        # The arrays are bound, so that each is transferred once.
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(
                name, onnxruntime.OrtValue.ortvalue_from_numpy(value, "cuda", self._device_index)
            )
        for name in names:
            binding.bind_output(name, "cuda", self._device_index)
        self._session.run_with_iobinding(binding)
        return self._named(binding.copy_outputs_to_cpu())

    def _named(self, values: list[numpy.ndarray]) -> Arrays:
        # ONNX Runtime's int64 is C's long long: equal to NumPy's int64, but a different type to a JSON writer.
        pairs = zip(self.config.outputs, values, strict=True)
        return {spec.name: value.view(spec.dtype) if value.dtype == spec.dtype else value for spec, value in pairs}

    def describe(self) -> dict[str, Any]:
        """Format, runtime, device, threads and execution providers, as JSON can hold them."""
        return {
            "format": "ONNX",
            "runtime": f"ONNX Runtime {onnxruntime.__version__}",
            "device": self.device,
            "threads": self.config.threads,
            "providers": self._session.get_providers(),
        }


def _reason(error: Exception) -> str:
    """The runtime's message in one line, without its code name."""
    text = " ".join(str(error).split())
    return text.partition("] : ")[2] or text
