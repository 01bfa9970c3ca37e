"""What CMake builds beside the library: the kernels' own tests; and what it says when it cannot build."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from archive.repository import ROOT
from tests.extensions.native_build import assert_without_runtime, cmake_build, configure, tool


def test_kernels_without_any_runtime() -> None:
    """test_fuzz builds the same test where neither PyTorch nor ONNX Runtime may be looked for."""
    output = cmake_build()
    tested = subprocess.run(
        [tool("ctest"), "--test-dir", str(ROOT / "build" / "cmake-tests"), "--output-on-failure"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert tested.returncode == 0, tested.stdout
    assert_without_runtime(output / "bin" / "kernels_test")


@pytest.mark.parametrize("linked", [False, True], ids=["direct", "through a link"])
def test_the_same_sources_give_the_same_bytes_in_another_folder(linked: bool, tmp_path: Path) -> None:
    elsewhere = tmp_path / "another folder"
    shutil.copytree(ROOT / "extensions", elsewhere / "extensions", ignore=shutil.ignore_patterns("__pycache__"))
    torch_root = Path(torch.__file__).parent
    if linked:
        (elsewhere / "torch").symlink_to(torch_root)
        torch_root = elsewhere / "torch"
    files = []
    for repository, root in ((ROOT, Path(torch.__file__).parent), (elsewhere, torch_root)):
        # One source of each target: that of the binding holds paths, if any does.
        build = tmp_path / f"build {len(files)}"
        configured = configure(
            build,
            f"-DTorch_DIR={root}/share/cmake/Torch",
            "-DOPSERVE_BUILD_ONNXRUNTIME=OFF",
            f"-DOPSERVE_OUTPUT_DIR={build}",
            source=repository / "extensions",
        )
        assert configured.returncode == 0, configured.stderr
        targets = [
            f"CMakeFiles/opserve_{name}.cpp.o"
            for name in (
                "torch.dir/bindings/torch/library_torch",
                "kernels.dir/kernels/cpu/graph_conv_csr_cpu",
            )
        ]
        built = subprocess.run([tool("ninja"), "-C", str(build), *targets], check=False, capture_output=True, text=True)
        assert built.returncode == 0, built.stdout
        files.append([(build / target).read_bytes() for target in targets])
    assert files[0] == files[1]


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_no_python_is_explained(tmp_path: Path) -> None:
    result = configure(tmp_path / "build")
    assert result.returncode != 0
    assert "Add -DPython_EXECUTABLE=.venv/bin/python" in one_line(result.stderr)


def test_python_without_pytorch_is_explained(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\n")
    fake.chmod(0o755)
    result = configure(tmp_path / "build", f"-DPython_EXECUTABLE={fake}")
    assert result.returncode != 0
    assert f"'{fake} -m pip install torch'" in one_line(result.stderr)


def test_an_old_pytorch_is_explained(tmp_path: Path) -> None:
    header = tmp_path / "torch" / "include" / "torch" / "headeronly" / "version.h"
    header.parent.mkdir(parents=True)
    header.write_text("#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 9\n")
    result = configure(tmp_path / "build", f"-DTorch_DIR={tmp_path}/torch/share/cmake/Torch")
    assert result.returncode != 0
    assert "is 2.9, but 2.10 or newer is needed: pip install 'torch>=2.10'" in one_line(result.stderr)
