"""Finds and loads the operator libraries."""

import os
import struct
from pathlib import Path

import torch

_PACKAGE = Path(__file__).resolve().parent
_NAME = "libopserve_torch.so"
_ENVIRONMENT = "OPSERVE_LIBRARY_DIR"

_loaded: Path | None = None


def _folders() -> list[Path]:
    """Where a library may lie. A folder named by the environment is the only one looked into."""
    named = os.environ.get(_ENVIRONMENT)
    if named:
        return [Path(named).resolve()]
    return [_PACKAGE / "lib", _PACKAGE.parents[1] / "build" / "lib"]


def find(name: str = _NAME) -> Path:
    """The path of a library of this project.

    Raises:
        ImportError: it lies in none of the folders.
    """
    folders = _folders()
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    looked = ", ".join(str(folder) for folder in folders)
    raise ImportError(f"opserve_ops: {name} not found in {looked}. Build it with: make ext")


def _is_complete(path: Path) -> bool:
    """Whether an ELF file reaches as far as its header says. Loading one cut short kills the process."""
    with path.open("rb") as file:
        header = file.read(64)
    if len(header) < 64 or header[:6] != b"\x7fELF\x02\x01":
        return False
    (section_offset,) = struct.unpack_from("<Q", header, 40)
    entry_size, entries = struct.unpack_from("<HH", header, 58)
    return path.stat().st_size >= section_offset + entry_size * entries


def load() -> None:
    """Loads the operator library, once.

    Raises:
        ImportError: it is missing or does not load; the message names the file, the cause and the fix.
    """
    global _loaded  # noqa: PLW0603
    if _loaded is not None:
        return
    path = find()
    try:
        if not _is_complete(path):
            raise OSError("not a complete 64-bit ELF file")
        torch.ops.load_library(str(path))
    except (OSError, RuntimeError) as error:
        raise ImportError(f"opserve_ops: cannot load {path}: {error}. Build it again with: make ext") from error
    _loaded = path


def library_path() -> Path:
    """The file the operators were loaded from, to be packed beside a saved model."""
    assert _loaded is not None
    return _loaded
