"""Builds by every route, kept between test runs: only what changed is compiled again."""

import contextlib
import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from archive.repository import ROOT

TOOLS = Path(sys.prefix) / "bin"


def tool(name: str) -> str:
    path = shutil.which(name, path=str(TOOLS)) or shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def configure(build: Path, *options: str, source: Path = ROOT / "extensions") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            tool("cmake"),
            *("-S", str(source), "-B", str(build), "-G", "Ninja"),
            # Finding a CUDA compiler takes long; the tests of CUDA ask for it.
            *(f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}", "-DOPSERVE_CUDA=OFF", *options),
        ],
        check=False,
        capture_output=True,
        text=True,
    )


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keeps other processes that run tests out of a folder that is built in."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(folder: Path, output: Path, *options: str) -> None:
    """Configures and builds extensions/ into `output`; a warning is a failure."""
    with alone(folder):
        configured = configure(folder, f"-DOPSERVE_OUTPUT_DIR={output}", *options)
        assert configured.returncode == 0, configured.stderr
        built = subprocess.run([tool("ninja"), "-C", str(folder)], check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout
    assert "warning:" not in built.stdout, built.stdout


@cache
def cmake_build() -> Path:
    """The folder with lib/ and bin/ of all that CMake builds without CUDA, what only tests need included.

    One folder for all tests: compiling the kernels is what takes long.
    """
    output = ROOT / "build" / "tests"
    build(
        ROOT / "build" / "cmake-tests",
        output,
        "-DOPSERVE_BUILD_TORCH=ON",
        "-DOPSERVE_BUILD_NATIVE=ON",
        "-DOPSERVE_BUILD_TESTS=ON",
        f"-DPython_EXECUTABLE={sys.executable}",
    )
    return output


def cmake_library() -> Path:
    return cmake_build() / "lib" / "libopserve_torch.so"


@cache
def wheel() -> Path:
    """The wheel of the setuptools route."""
    with alone(ROOT / "build" / "setuptools"):
        return build_wheel(ROOT / "build" / "wheel")


def build_wheel(folder: Path) -> Path:
    built = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index"),
            *("--disable-pip-version-check", "-w", str(folder), str(ROOT / "extensions")),
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
    # One a test process: another one may have the module open.
    folder = ROOT / "build" / "setuptools" / f"unpacked{os.environ.get('PYTEST_XDIST_WORKER', '')}"
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
    folder = ROOT / "build" / "jit"
    with alone(folder):
        # PyTorch would wait for ever for a build that was killed.
        (folder / "lock").unlink(missing_ok=True)
        built = subprocess.run(
            [sys.executable, "-c", JIT, ROOT / "extensions", folder], check=False, capture_output=True, text=True
        )
    assert built.returncode == 0, built.stderr
    path, capability = built.stdout.split()
    assert capability in ("default", "avx2", "avx512")
    return Path(path)


def run_program(name: str, *arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LD_", "OPSERVE_", "PYTHON"))}
    return subprocess.run(
        [str(cmake_build() / "bin" / name), *map(str, arguments)],
        env=environment | (env or {}),
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def assert_without_runtime(program: Path) -> None:
    """Neither PyTorch nor ONNX Runtime is linked."""
    linked = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    assert "libstdc++" in linked
    assert "torch" not in linked
    assert "onnxruntime" not in linked
