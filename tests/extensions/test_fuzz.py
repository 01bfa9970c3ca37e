"""A short run of the fuzzers, and that they catch each mutant. `make fuzz` runs the long one."""

import re
import subprocess
import sys

import pytest

from archive.repository import ROOT
from tests.extensions.native_build import assert_without_runtime, build, tool


@pytest.mark.slow
def test_the_fuzzer_finds_nothing_but_the_mutants() -> None:
    folder, output = ROOT / "build" / "cmake-fuzz", ROOT / "build" / "fuzz"
    left_out = [f"-DOPSERVE_{part}=OFF" for part in ("BUILD_TORCH", "BUILD_ONNXRUNTIME", "CUDA")]
    worker = ["-DOPSERVE_BUILD_WORKER=AUTO", f"-DPython_EXECUTABLE={sys.executable}"]
    build(folder, output, *left_out, *worker, "-DOPSERVE_BUILD_TESTS=ON", "-DOPSERVE_SANITIZE=ON")
    assert_without_runtime(output / "bin" / "kernels_test")
    program = output / "bin" / "fuzz_kernels"
    fuzzed = subprocess.run([program, "--cases", "30000"], check=False, capture_output=True, text=True)
    assert fuzzed.returncode == 0, fuzzed.stderr
    assert fuzzed.stdout.endswith("30000 cases: no report\n")
    # Most cases reach a kernel, and many are refused before.
    for computed, refused in re.findall(r"(\d+) computed, (\d+) refused", fuzzed.stdout):
        assert int(computed) > 3000
        assert int(refused) > 2000
    if (native := output / "bin" / "fuzz_native").is_file():
        fuzzed = subprocess.run([native, "--cases", "60000"], check=False, capture_output=True, text=True)
        assert fuzzed.returncode == 0, fuzzed.stderr
        assert fuzzed.stdout.endswith("60000 cases: no report\n")
        for kind, accepted, refused in re.findall(
            r"^(.+?) +(\d+) accepted, (\d+) refused", fuzzed.stdout, re.MULTILINE
        ):
            assert int(refused) > 1000 and (int(accepted) > 1000 or kind == "junk"), fuzzed.stdout
    caught = subprocess.run(
        [tool("ctest"), "--test-dir", str(folder), "--output-on-failure", "-R", "mutant"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert caught.returncode == 0, caught.stdout
    assert int(re.search(r"tests passed out of (\d+)", caught.stdout)[1]) >= 9


def test_a_case_can_be_repeated() -> None:
    """Of what a report names: the seed and the number of the case."""
    mutant = ROOT / "build" / "fuzz" / "bin" / "fuzz_mutant_skip_col_check"
    environment = {"OPSERVE_CPU_CAPABILITY": "default"}

    def run(*arguments: str) -> str:
        return subprocess.run(
            [mutant, "--here", *arguments], check=False, capture_output=True, text=True, env=environment
        ).stderr

    case = re.search(r"in case (\d+) of seed 7", run("--seed", "7"))
    assert case
    assert f"in case {case[1]} of seed 7" in run("--seed", "7", "--first", case[1], "--cases", "1")
