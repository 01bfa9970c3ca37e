"""The library file itself: that it travels, and that failing to load it is explained."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import opserve_ops
from archive.repository import ROOT
from tests.extensions.library_file import assert_holds_no_path, assert_needs_only, read_tool

LIBRARY = opserve_ops.library_path()


def run_python(code: str, *args: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LD_", "OPSERVE_"))}
    environment["PYTHONPATH"] = str(ROOT / "extensions")
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        env=environment | (env or {}),
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_loads_from_any_folder_without_a_search_path(tmp_path: Path) -> None:
    copy = shutil.copy(LIBRARY, tmp_path / "renamed.so")
    code = "import sys, torch; torch.ops.load_library(sys.argv[1]); print(torch.ops.opserve.cpu_capability())"
    result = run_python(code, copy)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() in ("default", "avx2", "avx512")


def test_has_no_search_path_and_needs_only_pytorch_and_the_system() -> None:
    assert "libtorch_cpu.so" in assert_needs_only(LIBRARY, "torch_cpu")


def test_uses_the_stable_abi_only() -> None:
    symbols = read_tool("nm", "-DC", "--undefined-only", LIBRARY)
    unstable = [line for line in symbols.splitlines() if re.search(r"\b(at|c10|caffe2|torch)::", line)]
    assert unstable == []
    assert "aoti_torch_library_def" in symbols


def test_exports_nothing() -> None:
    symbols = read_tool("nm", "-DC", "--defined-only", LIBRARY)
    names = {line.split(maxsplit=2)[2] for line in symbols.splitlines()}
    assert names <= {"__bss_start", "_edata", "_end", "_init", "_fini"}


def test_holds_no_path_of_the_machine_that_built_it() -> None:
    assert_holds_no_path(LIBRARY)


@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_every_instruction_set_gives_the_same_result(capability: str) -> None:
    """To rounding: only the fusing of multiplications and additions differs."""
    code = """
import sys, torch, opserve_ops
g = torch.Generator().manual_seed(0)
a, x, w = (torch.rand(s, generator=g) for s in ((61, 61), (61, 37), (37, 21)))
rowptr, col = torch.arange(62) * 2, torch.arange(122) % 61
torch.testing.assert_close(opserve_ops.graph_conv(a, x, w), a @ x @ w)
torch.testing.assert_close(opserve_ops.scaled_add(a, a), 3 * a)
torch.testing.assert_close(
    opserve_ops.graph_conv_csr(rowptr, col, None, x, w),
    opserve_ops.reference.graph_conv_csr(rowptr, col, None, x, w))
m = torch.tensor([[1.1, 0.1, 2], [0, 0.9, 1], [0.001, 0, 1]])
torch.testing.assert_close(
    opserve_ops.warp_perspective(a, m, (40, 50)), opserve_ops.reference.warp_perspective(a, m, (40, 50)))
print(opserve_ops.cpu_capability())
"""
    result = run_python("import opserve_ops.reference\n" + code, env={"OPSERVE_CPU_CAPABILITY": capability})
    assert result.returncode == 0, result.stderr
    order = ["default", "avx2", "avx512"]
    assert order.index(result.stdout.strip()) <= order.index(capability)


def test_a_missing_library_is_an_error_with_the_fix(tmp_path: Path) -> None:
    result = run_python("import opserve_ops", env={"OPSERVE_LIBRARY_DIR": str(tmp_path)})
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last == (f"ImportError: opserve_ops: libopserve_torch.so not found in {tmp_path}. Build it with: make ext")


def no_pytorch(content: bytes) -> bytes:
    """The library, but for a PyTorch that is not there."""
    return content.replace(b"libtorch_cpu.so", b"libtorch_xyz.so")


@pytest.mark.parametrize(
    "damage", [lambda content: content[:1000], lambda _: b"", lambda _: b"#!/bin/sh\n" * 99, no_pytorch]
)
def test_a_library_that_does_not_load_is_an_error_with_the_fix(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    broken = tmp_path / "libopserve_torch.so"
    broken.write_bytes(damage(LIBRARY.read_bytes()))
    result = run_python("import opserve_ops", env={"OPSERVE_LIBRARY_DIR": str(tmp_path)})
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: opserve_ops: cannot load {broken}: ")
    assert last.endswith("Build it again with: make ext")


def test_the_environment_names_the_folder(tmp_path: Path) -> None:
    shutil.copy(LIBRARY, tmp_path)
    code = "import opserve_ops; print(opserve_ops.library_path())"
    result = run_python(code, env={"OPSERVE_LIBRARY_DIR": str(tmp_path)})
    assert result.stdout.strip() == str(tmp_path / LIBRARY.name), result.stderr


def test_a_second_copy_of_the_library_is_harmless(tmp_path: Path) -> None:
    """An archive brings its own copy into a process that may have imported the package."""
    copy = shutil.copy(LIBRARY, tmp_path / "copy.so")
    code = """
import sys, torch
for path in sys.argv[1:]:
    torch.ops.load_library(path)
print(torch.ops.opserve.scaled_add(torch.ones(2), torch.ones(2)).tolist())
"""
    done = run_python(code, LIBRARY, copy)
    assert (done.returncode, done.stdout.strip()) == (0, "[3.0, 3.0]"), done.stderr
