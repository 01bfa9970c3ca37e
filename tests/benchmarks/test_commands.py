"""Every benchmark is started in one way, and says what it measures."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import benchmarks
from archive.repository import ROOT
from benchmarks.ops.__main__ import GROUPS

BENCHMARKS = sorted(path.parent.name for path in (ROOT / "benchmarks").glob("*/__main__.py"))


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=300)


def test_the_list_of_benchmarks_is_complete() -> None:
    assert sorted(re.findall(r"^\| `(\w+)` \|", benchmarks.__doc__, re.MULTILINE)) == BENCHMARKS


@pytest.mark.parametrize("name", BENCHMARKS)
def test_help_names_units_and_the_common_options(name: str) -> None:
    result = run(name, "--help")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"usage: python -m benchmarks.{name} [-h] [--quick] [--output FOLDER]")
    assert re.search(r"µs|ms|requests per second", result.stdout)


def test_a_gpu_that_is_missing_is_an_error_in_one_line() -> None:
    if (ROOT / "build" / "lib" / "libopserve_torch_cuda.so").exists() and Path("/dev/nvidia0").exists():
        pytest.skip("there is a GPU")
    result = run("ops_cuda", "--quick")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("error: there is no GPU, or no CUDA library")


def test_operators_are_measured(tmp_path: Path) -> None:
    """Runs those whose baselines need no compiler; results are compared before they are measured."""
    names = ["graph_conv", "graph_conv_csr", "scaled_add", "warp_perspective"]
    assert set(names) < set(GROUPS)
    result = run("ops", "--quick", "--only", f"^({'|'.join(names)})$", "--output", str(tmp_path))
    assert result.returncode == 0, result.stderr
    measurements = json.loads((tmp_path / "ops.json").read_text())["measurements"]
    assert {found["subject"] for found in measurements} == set(names)
    counted = re.findall(r"^ *(\d+) of (\d+)  ", result.stdout, re.MULTILINE)
    assert counted == [(str(i + 1), str(len(measurements))) for i in range(len(measurements))]


def test_codecs_are_measured(tmp_path: Path) -> None:
    result = run("codec", "--quick", "--only", "json|responses", "--output", str(tmp_path))
    assert result.returncode == 0, result.stderr
    measurements = json.loads((tmp_path / "codec.json").read_text())["measurements"]
    assert {"decode JSON", "encode JSON", "encode .npz"} < {found["subject"] for found in measurements}
