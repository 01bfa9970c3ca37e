"""Compiles the C++ that operators are measured against; what is up to date is not compiled again."""

import os
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from torch.utils import cpp_extension

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "extensions"))

import sources  # noqa: E402


def _load(name: str, files: list[Path], options: list[str], is_python_module: bool) -> ModuleType | str:
    folder = ROOT / "build" / "benchmarks" / name
    folder.mkdir(parents=True, exist_ok=True)
    # Where ninja lies if the environment is not activated.
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
def unstable_operators() -> None:
    """Registers unstable_scaled_add.cpp: torch.ops.opserve_unstable."""
    _load("opserve_unstable", [Path(__file__).with_name("unstable_scaled_add.cpp")], ["-O3"], False)


@cache
def pybind_module() -> ModuleType:
    """The module opserve_pybind, as extensions/setup.py builds it."""
    files = [sources.FOLDER / file for file in sources.read("check", "cpu", "pybind")]
    return _load("opserve_pybind", files, [*sources.read("compile"), "-DNDEBUG"], True)
