"""Shared libraries with operators: which of them a worker opens, what is wrong with a file, loading with PyTorch."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

from handlers.errors import ModelError

# Of a 64-bit little-endian ELF file: where the offset, entry size and count of the section headers stand.
_ELF_HEADER_BYTES = 64
_SECTION_OFFSET = struct.Struct("<Q"), 0x28
_SECTION_SIZE_AND_COUNT = struct.Struct("<HH"), 0x3A


def cuda_library(name: str) -> str:
    """The name of the library that has a library's operators for CUDA."""
    return name.removesuffix(".so") + "_cuda.so"


def for_device(libraries: Sequence[str], gpu: bool, instead: bool) -> list[str]:
    """Those of an archive's libraries that a worker opens.

    Where an archive holds both NAME.so and NAME_cuda.so, the second is for workers on a GPU only: it needs a runtime
    built for CUDA.

    Args:
        libraries: file names.
        gpu: the worker runs on a GPU.
        instead: there NAME_cuda.so is opened instead of NAME.so and not after it.
    """
    left_out = {cuda_library(name) for name in libraries} if not gpu else set()
    if gpu and instead:
        left_out = {name for name in libraries if cuda_library(name) in libraries}
    return [name for name in libraries if name not in left_out]


def load_op_library(path: Path) -> None:
    """Registers the operators of a shared library.

    Raises:
        ModelError: naming the library and the loader's reason.
    """
    check_library(path)
    import torch  # not by every worker: one of ONNX Runtime needs the checks only

    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        # PyTorch's own message names only the path; the loader's reason is its cause.
        reason = str(error.__cause__ or error).replace(f"{path}: ", "")
        raise unloadable(path, reason) from error


def check_library(path: Path) -> None:
    """Raises `ModelError` for a shared library that is not there, or whose file is damaged."""
    if not path.is_file():
        raise ModelError(f"{path.name}: the operator library is not in {path.parent}")
    problem = damage(path)
    if problem:
        raise unloadable(path, problem)


def unloadable(path: Path, reason: str) -> ModelError:
    """The error of a library that is there and does not load."""
    return ModelError(f"{path.name}: the operator library does not load: {reason}")


def damage(path: Path) -> str | None:
    """What is wrong with a shared library's file itself, or `None`.

    The system's loader maps a truncated one and dies of SIGBUS; so this is asked first.
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
