"""The kernels for ARM, where a cross compiler is installed; run where an emulator is too."""

import shutil
import subprocess

import pytest

from archive.repository import ROOT
from tests.extensions.native_build import build, tool

COMPILER = "aarch64-linux-gnu-g++"
EMULATOR = "qemu-aarch64"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"{COMPILER} is not installed")
def test_kernels_compile_and_compute() -> None:
    folder = ROOT / "build" / "cmake-aarch64"
    build(
        folder,
        ROOT / "build" / "aarch64",
        *("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", f"-DCMAKE_CXX_COMPILER={COMPILER}"),
        *("-DOPSERVE_BUILD_TORCH=OFF", "-DOPSERVE_BUILD_TESTS=ON"),
        f"-DCMAKE_CROSSCOMPILING_EMULATOR={EMULATOR};-L;/usr/aarch64-linux-gnu",
    )
    if shutil.which(EMULATOR) is None:
        pytest.skip(f"compiled, but {EMULATOR} is not installed to run them")
    tested = subprocess.run(
        [tool("ctest"), "--test-dir", str(folder), "--output-on-failure", "-R", "kernels_default"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert tested.returncode == 0, tested.stdout
