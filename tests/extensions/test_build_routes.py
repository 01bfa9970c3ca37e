"""The library file of each build route needs no more than PyTorch; test_parity has the results."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.extensions.library_file import assert_holds_no_path, assert_needs_only, read_tool
from tests.extensions.native_build import cmake_library, jit_library, setuptools_build, setuptools_library, wheel

# The first run compiles for one to three minutes.
pytestmark = pytest.mark.slow


@pytest.fixture(
    scope="module", params=[cmake_library, setuptools_library, jit_library], ids=lambda route: route.__name__
)
def library(request: pytest.FixtureRequest) -> Path:
    route: Callable[[], Path] = request.param
    return route()


def test_needs_only_pytorch_and_the_system(library: Path) -> None:
    assert_needs_only(library, "torch_cpu")


def test_undefined_symbols_are_stable_ones(library: Path) -> None:
    symbols = read_tool("nm", "-DC", "--undefined-only", library)
    assert [line for line in symbols.splitlines() if re.search(r"\b(at|c10|caffe2|torch)::", line)] == []
    assert "aoti_torch_library_def" in symbols


def test_holds_no_path_of_the_machine_that_built_it(library: Path) -> None:
    assert_holds_no_path(library)


def audit(path: Path) -> dict:
    """What torch-abi-audit finds in one library."""
    if importlib.util.find_spec("torch_abi_audit") is None:
        pytest.skip("torch-abi-audit is not installed")
    code = "import sys; from torch_abi_audit.cli import main; sys.exit(main())"
    output = subprocess.run(
        [sys.executable, "-c", code, "--json", path], check=True, capture_output=True, text=True
    ).stdout
    report = json.loads(output)
    (found,) = report["extensions"] + report["bundled_libs"]
    assert found["error"] is None
    return found["torch"]


def assert_stable(library: Path) -> None:
    found = audit(library)
    assert found["uses_torch"]
    assert found["stable"]
    assert found["unstable_symbols"] == []
    assert found["unknown_shim_symbols"] == []
    assert found["min_torch_version"] == "2.10.0"


def test_audit_of_the_abi(library: Path) -> None:
    assert_stable(library)


def test_audit_sees_an_unstable_module() -> None:
    (module,) = setuptools_build().glob("opserve_pybind.*.so")
    found = audit(module)
    assert not found["stable"]
    assert found["unstable_symbols"]


INSTALLED = """
import pathlib, sys
import torch, opserve_ops, opserve_pybind
x = torch.ones(3)
assert opserve_ops.library_path().is_relative_to(sys.prefix), opserve_ops.library_path()
assert torch.equal(opserve_ops.scaled_add(x, x), 3 * x)
assert torch.equal(opserve_pybind.scaled_add_forward(x, x), 3 * x)
"""


def test_the_wheel_works_outside_the_repository(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # PyTorch and pip are those of this environment.
    packages = tmp_path / "venv" / "lib" / version / "site-packages"
    (packages / "torch.pth").write_text(str(Path(torch.__file__).parents[1]) + "\n")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "OPSERVE_"))}
    for command in (
        ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", packages, wheel()),
        ("-c", INSTALLED),
    ):
        done = subprocess.run(
            [python, *command], check=False, capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
