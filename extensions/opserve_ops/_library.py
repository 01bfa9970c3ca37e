"""Finds and loads the operator libraries."""

import os
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
        torch.ops.load_library(str(path))
    except (OSError, RuntimeError) as error:
        raise ImportError(
            f"opserve_ops: cannot load {path}: {error}. Build it again with: make ext"
        ) from error
    _loaded = path


def library_path() -> Path:
    """The file the operators were loaded from, to be packed beside a saved model."""
    assert _loaded is not None
    return _loaded
