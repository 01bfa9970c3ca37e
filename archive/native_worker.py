"""The native worker in this environment: where TorchServe looks for it, and what it can run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

# In the folder of the package `ts`.
FOLDER, PROGRAM = "cpp", "bin/model_worker_socket"
# The library that runs artifacts of each format.
TORCH_ENGINE, ONNX_ENGINE = "lib/libopserve_engine_torch.so", "lib/libopserve_engine_onnxruntime.so"
ENGINES = {".pt": TORCH_ENGINE, ".pt2": TORCH_ENGINE, ".onnx": ONNX_ENGINE}
NOT_BUILT = "which is not built here; `make ext` builds it, or says what it needs"


def worker_folder() -> Path | None:
    """The folder in which TorchServe looks for the worker, whether or not it exists; `None` without TorchServe."""
    spec = importlib.util.find_spec("ts")
    return Path(spec.origin).resolve().parent / FOLDER if spec and spec.origin else None


def find_worker(*formats: str) -> Path | None:
    """The worker's program, if it is there and can run artifacts of these formats (`.pt`, `.pt2`, `.onnx`)."""
    folder = worker_folder()
    if folder is None or not all((folder / ENGINES[each]).is_file() for each in formats):
        return None
    program = folder / PROGRAM
    return program if program.is_file() else None
