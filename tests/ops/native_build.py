"""Builds by every route, kept between test runs: only what changed is compiled again."""

import importlib.util
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from conftest import REPOSITORY
from test_build import configure, tool


def build(folder: Path, output: Path, *options: str) -> None:
    """Configures and builds extensions/ into `output`; a warning is a failure."""
    configured = configure(folder, f"-DOPSERVE_OUTPUT_DIR={output}", *options)
    assert configured.returncode == 0, configured.stderr
    built = subprocess.run([tool("ninja"), "-C", str(folder)], check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout
    assert "warning:" not in built.stdout, built.stdout


@cache
def programs() -> Path:
    """The folder with bin/opserve_run, bin/opserve_run_linked and lib/libopserve_torch.so, built by CMake."""
    output = REPOSITORY / "build" / "native"
    build(
        REPOSITORY / "build" / "cmake-native",
        output,
        "-DOPSERVE_BUILD_NATIVE=ON",
        f"-DPython_EXECUTABLE={sys.executable}",
    )
    return output


def cmake_library() -> Path:
    return programs() / "lib" / "libopserve_torch.so"


@cache
def wheel() -> Path:
    """The wheel of the setuptools route."""
    folder = REPOSITORY / "build" / "wheel"
    built = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index"),
            *("--disable-pip-version-check", "-w", str(folder), str(REPOSITORY / "extensions")),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return max(folder.glob("*.whl"), key=lambda path: path.stat().st_mtime)


@cache
def setuptools_build() -> Path:
    """The wheel's content, unpacked."""
    folder = REPOSITORY / "build" / "setuptools" / "unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.unpack_archive(wheel(), folder, "zip")
    return folder


def setuptools_library() -> Path:
    return setuptools_build() / "opserve_ops" / "lib" / "libopserve_torch.so"


@cache
def pybind_module() -> ModuleType:
    """The module of the setuptools route, imported."""
    (path,) = setuptools_build().glob("opserve_pybind.*.so")
    spec = importlib.util.spec_from_file_location("opserve_pybind", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


JIT = """
import sys
sys.path.insert(0, sys.argv[1])
import jit_build
print(jit_build.load(sys.argv[2]))
import torch
print(torch.ops.opserve.cpu_capability())
"""


@cache
def jit_library() -> Path:
    """By torch.utils.cpp_extension.load, in a process that has no other library."""
    built = subprocess.run(
        [sys.executable, "-c", JIT, REPOSITORY / "extensions", REPOSITORY / "build" / "jit"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    path, capability = built.stdout.split()
    assert capability in ("default", "avx2", "avx512")
    return Path(path)


def run_program(name: str, *arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LD_", "OPSERVE_", "PYTHON"))}
    return subprocess.run(
        [str(programs() / "bin" / name), *map(str, arguments)],
        env=environment | (env or {}),
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
