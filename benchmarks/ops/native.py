"""Compiles the C++ that operators are compared with, unless it is up to date."""

import os
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import sources
from torch.utils import cpp_extension

from archive.repository import BUILD


def _load(name: str, files: list[Path], options: list[str], *, is_python_module: bool) -> ModuleType:
    folder = BUILD / "benchmarks" / name
    folder.mkdir(parents=True, exist_ok=True)
    # Where ninja is if the environment is not activated.
    path = os.environ.get("PATH", "")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{path}"
    try:
        return cpp_extension.load(
            name=name,
            sources=[str(file) for file in files],
            extra_include_paths=[str(sources.FOLDER / "include")],
            extra_cflags=options,
            build_directory=str(folder),
            is_python_module=is_python_module,
        )
    finally:
        os.environ["PATH"] = path


@cache
def register_unstable_operators() -> None:
    """Registers the operators of unstable_scaled_add.cpp as torch.ops.opserve_unstable."""
    _load("opserve_unstable", [Path(__file__).with_name("unstable_scaled_add.cpp")], ["-O3"], is_python_module=False)


@cache
def load_pybind_module() -> ModuleType:
    """Loads the module opserve_pybind, built as extensions/setup.py builds it."""
    files = [sources.FOLDER / file for file in sources.read("check", "cpu", "pybind")]
    return _load("opserve_pybind", files, [*sources.read("compile"), "-DNDEBUG"], is_python_module=True)
