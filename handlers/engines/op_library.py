"""Shared libraries with operators: selecting those that a worker opens, checking the files, loading with PyTorch."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

from handlers.errors import ModelError

# In a 64-bit little-endian ELF file: the positions of the offset, entry size and count of the section headers.
_ELF_HEADER_BYTES = 64
_SECTION_OFFSET = struct.Struct("<Q"), 0x28
_SECTION_SIZE_AND_COUNT = struct.Struct("<HH"), 0x3A


def cuda_library(name: str) -> str:
    """The name of the library with the same operators for CUDA."""
    return name.removesuffix(".so") + "_cuda.so"


def select_libraries(libraries: Sequence[str], *, gpu: bool, cuda_replaces: bool) -> list[str]:
    """The libraries of an archive that a worker opens.

    If an archive contains both NAME.so and NAME_cuda.so, the second is for workers on a GPU only: it needs a runtime
    built for CUDA.

    Args:
        libraries: file names.
        gpu: whether the worker runs on a GPU.
        cuda_replaces: whether NAME_cuda.so is then opened instead of NAME.so, not after it.
    """
    left_out = {cuda_library(name) for name in libraries} if not gpu else set()
    if gpu and cuda_replaces:
        left_out = {name for name in libraries if cuda_library(name) in libraries}
    return [name for name in libraries if name not in left_out]


def load_op_library(path: Path) -> None:
    """Registers the operators of a shared library.

    Raises:
        ModelError: the library does not load.
    """
    check_library(path)
    import torch  # not at the top: a worker of ONNX Runtime needs the checks only

    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        # PyTorch's own message names only the path; the loader's reason is its cause.
        reason = str(error.__cause__ or error).replace(f"{path}: ", "")
        raise load_error(path, reason) from error


def check_library(path: Path) -> None:
    """Raises `ModelError` for a shared library that is missing or damaged."""
    if not path.is_file():
        raise ModelError(f"{path.name}: the operator library is not in {path.parent}")
    problem = find_corruption(path)
    if problem:
        raise load_error(path, problem)


def load_error(path: Path, reason: str) -> ModelError:
    """The error for a library that exists and does not load."""
    return ModelError(f"{path.name}: the operator library does not load: {reason}")


def find_corruption(path: Path) -> str | None:
    """A reason why a file cannot be a whole shared library, or `None`.

    The system's loader maps a truncated one and dies of SIGBUS, so this is checked first.
    """
    with path.open("rb") as file:
        header = file.read(_ELF_HEADER_BYTES)
        size = os.fstat(file.fileno()).st_size
    if not header.startswith(b"\x7fELF"):
        return "it is not a shared library (no ELF header)"
    if len(header) < _ELF_HEADER_BYTES:
        return "it is truncated"
    layout, at = _SECTION_OFFSET
    (offset,) = layout.unpack_from(header, at)
    layout, at = _SECTION_SIZE_AND_COUNT
    entry_size, count = layout.unpack_from(header, at)
    return "it is truncated" if offset + entry_size * count > size else None
