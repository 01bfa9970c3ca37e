"""Loads a shared library that registers operators with PyTorch."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from handlers.errors import ModelError

# Of a 64-bit little-endian ELF file: where the offset, entry size and count of the section headers stand.
_ELF_HEADER_BYTES = 64
_SECTION_OFFSET = struct.Struct("<Q"), 0x28
_SECTION_SIZE_AND_COUNT = struct.Struct("<HH"), 0x3A


def load_op_library(path: Path) -> None:
    """Registers the operators of a shared library.

    Raises:
        ModelError: naming the library and the loader's reason.
    """
    if not path.is_file():
        raise ModelError(f"{path.name}: the operator library is not in {path.parent}")
    problem = damage(path)
    if problem:
        raise ModelError(f"{path.name}: the operator library does not load: {problem}")
    import torch  # not by every worker: one of ONNX Runtime needs `damage` only

    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        # PyTorch's own message names only the path; the loader's reason is its cause.
        reason = str(error.__cause__ or error).replace(f"{path}: ", "")
        raise ModelError(f"{path.name}: the operator library does not load: {reason}") from error


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
