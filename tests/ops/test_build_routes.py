"""The library of each build route, in Python and in C++: the same results, and no more needed than PyTorch."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import venv
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from native_build import programs, run_program, setuptools_build, wheel
from samples import HOMOGRAPHY, Sample, assert_matches_reference, csr, random
from test_library import read_tool
from torch import Tensor

import opserve_ops  # noqa: F401  the models are scripted with its operators

# The first run compiles for one to three minutes.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def cmake_library() -> Path:
    return programs() / "lib" / "libopserve_torch.so"


def setuptools_library() -> Path:
    return setuptools_build() / "opserve_ops" / "lib" / "libopserve_torch.so"


JIT = """
import sys
sys.path.insert(0, sys.argv[1])
import jit_build
print(jit_build.load(sys.argv[2]))
import torch
print(torch.ops.opserve.cpu_capability())
"""


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


@pytest.fixture(
    scope="module", params=[cmake_library, setuptools_library, jit_library], ids=lambda route: route.__name__
)
def library(request: pytest.FixtureRequest) -> Path:
    route: Callable[[], Path] = request.param
    return route()


class ScaledAdd(torch.nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.ops.opserve.scaled_add(x, y, -0.3)


class GraphConv(torch.nn.Module):
    def forward(self, a: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.ops.opserve.graph_conv(a, x, weight, bias)


class GraphConvCsr(torch.nn.Module):
    def forward(self, rowptr: Tensor, col: Tensor, value: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.ops.opserve.graph_conv_csr(rowptr, col, value, x, weight, bias)


class WarpPerspective(torch.nn.Module):
    def forward(self, image: Tensor, matrix: Tensor) -> Tensor:
        return torch.ops.opserve.warp_perspective(image, matrix, [33, 141])


# What the models above give beside their inputs.
OPTIONS = {"scaled_add": (-0.3,), "warp_perspective": ((33, 141),)}


def inputs() -> dict[str, tuple[torch.nn.Module, tuple[Tensor, ...]]]:
    """Of sizes that reach whole vectors, parts of them, and several threads."""
    rowptr, col = csr(1000, 8, torch.int32)
    f32 = torch.float32
    graph = (random(1000, 33, dtype=f32), random(33, 17, dtype=f32), random(17, dtype=f32))
    return {
        "scaled_add": (ScaledAdd(), (random(123_457, dtype=f32), random(123_457, dtype=f32, seed=1))),
        "graph_conv": (GraphConv(), (random(1000, 1000, dtype=f32), *graph)),
        "graph_conv_csr": (GraphConvCsr(), (rowptr, col, random(len(col), dtype=f32), *graph)),
        "warp_perspective": (WarpPerspective(), (random(2, 3, 60, 71, dtype=f32), HOMOGRAPHY)),
    }


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with NAME.pt, NAME/0.npy … and NAME.expected.npy, made by the library that Python imported here."""
    folder = tmp_path_factory.mktemp("models")
    for name, (module, tensors) in inputs().items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.script(module).save(folder / f"{name}.pt")
        (folder / name).mkdir()
        for i, tensor in enumerate(tensors):
            np.save(folder / name / f"{i}.npy", tensor.numpy())
        expected = module(*tensors)
        assert_matches_reference(name, expected, Sample(name, (*tensors, *OPTIONS.get(name, ())), roundings=1024))
        np.save(folder / f"{name}.expected.npy", expected.numpy())
    return folder


IN_PYTHON = """
import sys, warnings
from pathlib import Path
import numpy, torch
warnings.simplefilter("ignore", DeprecationWarning)
library, folder, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
torch.ops.load_library(library)
for model in folder.glob("*.pt"):
    files = sorted((folder / model.stem).iterdir())
    result = torch.jit.load(model)(*(torch.from_numpy(numpy.load(file)) for file in files))
    numpy.save(output / f"{model.stem}.npy", result.numpy())
assert "opserve_ops" not in sys.modules
"""


def assert_as_expected(models: Path, output: Path) -> None:
    for name in inputs():
        expected, got = np.load(models / f"{name}.expected.npy"), np.load(output / f"{name}.npy")
        np.testing.assert_array_equal(got, expected, err_msg=name, strict=True)


def test_in_a_fresh_python(library: Path, models: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", IN_PYTHON, library, models, tmp_path], check=True, timeout=120)
    assert_as_expected(models, tmp_path)


def test_in_a_cpp_program(library: Path, models: Path, tmp_path: Path) -> None:
    for name, (_, tensors) in inputs().items():
        files = [models / name / f"{i}.npy" for i in range(len(tensors))]
        result = run_program(
            "opserve_run", models / f"{name}.pt", "--ops", library, "--input", *files,
            "--output", tmp_path / f"{name}.npy",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
    assert_as_expected(models, tmp_path)


def test_linked_into_a_cpp_program(models: Path, tmp_path: Path) -> None:
    for name, (_, tensors) in inputs().items():
        files = [models / name / f"{i}.npy" for i in range(len(tensors))]
        result = run_program(
            "opserve_run_linked", models / f"{name}.pt", "--input", *files, "--output", tmp_path / f"{name}.npy"
        )
        assert result.returncode == 0, result.stderr
    assert_as_expected(models, tmp_path)


def test_needs_only_pytorch_and_the_system(library: Path) -> None:
    dynamic = read_tool("readelf", "-d", library)
    assert "RPATH" not in dynamic
    assert "RUNPATH" not in dynamic
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
    allowed = r"lib(torch_cpu|stdc\+\+|gcc_s|m|c|pthread|dl)\.so(\.\d+)?|ld-linux.*"
    assert {name for name in needed if not re.fullmatch(allowed, name)} == set()


def test_undefined_symbols_are_stable_ones(library: Path) -> None:
    symbols = read_tool("nm", "-DC", "--undefined-only", library)
    assert [line for line in symbols.splitlines() if re.search(r"\b(at|c10|caffe2|torch)::", line)] == []
    assert "aoti_torch_library_def" in symbols


def test_holds_no_path_of_the_machine_that_built_it(library: Path) -> None:
    content = library.read_bytes()
    for path in (str(REPOSITORY), sys.prefix, str(Path(torch.__file__).resolve().parent)):
        assert path.encode() not in content, path


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


def test_audit_of_the_abi(library: Path) -> None:
    found = audit(library)
    assert found["uses_torch"]
    assert found["stable"]
    assert found["unstable_symbols"] == []
    assert found["unknown_shim_symbols"] == []
    assert found["min_torch_version"] == "2.10.0"


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
