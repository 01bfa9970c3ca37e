"""Finds and loads the operator libraries."""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import torch

from ._operator import OPERATORS

_PACKAGE = Path(__file__).resolve().parent
_NAME = "libopserve_torch.so"
_CUDA_NAME = "libopserve_torch_cuda.so"
# For one version of PyTorch, unlike the others; a library built for another version is ignored.
_AUTOGRAD_NAME = f"libopserve_autograd_torch{'.'.join(torch.__version__.split('.')[:2])}.so"
_ENVIRONMENT = "OPSERVE_LIBRARY_DIR"

_loaded: Path | None = None
_cuda_loaded: Path | None = None
_cuda_missing: Path | None = None
_autograd_loaded: Path | None = None
# Its registrations last as long as it does.
_without_cuda: torch.library.Library | None = None


def _folders() -> list[Path]:
    """Returns where a library may be. A folder named by the environment is the only one searched."""
    named = os.environ.get(_ENVIRONMENT)
    if named:
        return [Path(named).resolve()]
    return [_PACKAGE / "lib", _PACKAGE.parents[1] / "build" / "lib"]


def find(name: str = _NAME) -> Path:
    """Returns the path of one of the libraries.

    Raises:
        ImportError: It is in none of the folders.
    """
    folders = _folders()
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    looked = ", ".join(str(folder) for folder in folders)
    raise ImportError(f"opserve_ops: {name} not found in {looked}. Build it with: make ext")


def _is_complete(path: Path) -> bool:
    """Returns whether an ELF file is as long as its header says. Loading a truncated one kills the process."""
    with path.open("rb") as file:
        header = file.read(64)
    if len(header) < 64 or header[:6] != b"\x7fELF\x02\x01":
        return False
    (section_offset,) = struct.unpack_from("<Q", header, 40)
    entry_size, entries = struct.unpack_from("<HH", header, 58)
    return path.stat().st_size >= section_offset + entry_size * entries


def _open(path: Path) -> None:
    try:
        if not _is_complete(path):
            raise OSError("not a complete 64-bit ELF file")
        torch.ops.load_library(str(path))
    except (OSError, RuntimeError) as error:
        # PyTorch only says that it failed; the reason is in the exception that it caught.
        reason = error.__cause__ or error
        raise ImportError(f"opserve_ops: cannot load {path}: {reason}. Build it again with: make ext") from error


def _cuda_is_available() -> bool:
    # By NVML. Otherwise PyTorch initializes the driver, and a process forked after that cannot use the GPU.
    name = "PYTORCH_NVML_BASED_CUDA_CHECK"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        return torch.cuda.is_available()
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def load() -> None:
    """Loads the operator library, once, and if there is a GPU the library with the CUDA kernels.

    Without the latter, the operators raise an error on CUDA tensors. The gradients are loaded if they were built for
    this version of PyTorch; otherwise they are registered in Python.

    Raises:
        ImportError: A library does not load, or the first one is missing; the message names the file, the cause and
            the fix.
    """
    global _loaded, _cuda_loaded, _cuda_missing, _autograd_loaded  # noqa: PLW0603
    if _loaded is not None:
        return
    path = find()
    _open(path)
    if _cuda_is_available():
        cuda_path = path.with_name(_CUDA_NAME)
        if cuda_path.is_file():
            _open(cuda_path)
            _cuda_loaded = cuda_path
        else:
            _cuda_missing = cuda_path
    autograd_path = path.with_name(_AUTOGRAD_NAME)
    if autograd_path.is_file():
        _open(autograd_path)
        _autograd_loaded = autograd_path
    _loaded = path


def library_path() -> Path:
    """Returns the file that the operators were loaded from, to pack with a saved model."""
    assert _loaded is not None
    return _loaded


def cuda_library_path() -> Path | None:
    """Returns the file that the CUDA kernels were loaded from; none without a GPU, or if they were not built."""
    return _cuda_loaded


def autograd_library_path() -> Path | None:
    """Returns the file that the gradients were loaded from; none if they are registered in Python."""
    return _autograd_loaded


def explain_missing_cuda() -> None:
    """Makes the operators explain on CUDA tensors how to build the kernels, if there is a GPU but no library."""
    global _without_cuda  # noqa: PLW0603
    if _cuda_missing is None:
        return
    _without_cuda = torch.library.Library("opserve", "IMPL", "CUDA")

    def explain(op: str) -> Callable[..., NoReturn]:
        def fail(*_: object, **__: object) -> NoReturn:
            raise RuntimeError(
                f"opserve::{op}: no kernels for CUDA: {_cuda_missing} was not built. Build it with: make ext CUDA=on"
            )

        return fail

    for operator in OPERATORS:
        _without_cuda.impl(operator.name, explain(operator.name))


def cpu_capability() -> str:
    """Returns the instruction set that the CPU kernels use: "default", "avx2" or "avx512"."""
    return torch.ops.opserve.cpu_capability.default()
