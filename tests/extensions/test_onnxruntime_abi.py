"""What extensions/ declares of ONNX Runtime's C API, which it does without the runtime's headers for.

That the declarations are right shows wherever the operators run in the runtime; here they are held against its own
header, where one is installed: Debian's libonnxruntime-dev, or `include/` of a release in ONNXRUNTIME_INCLUDE_DIR.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from archive.repository import ROOT
from tests.extensions.native_build import tool

EXTENSIONS = ROOT / "extensions"
ABI = "bindings/onnxruntime/abi.h"
# What the operators declare, and what the engine of the native worker does: each with the file that compares it.
COMPARISONS = {
    ABI: "tests/onnxruntime_abi.cpp",
    "native/engines/onnxruntime/abi.h": "tests/onnxruntime_engine_abi.cpp",
}
COMMON = "tests/onnxruntime_abi.h"


@pytest.fixture(scope="module")
def headers() -> Path:
    named = os.environ.get("ONNXRUNTIME_INCLUDE_DIR")
    for folder in [Path(named)] if named else [Path("/usr/include/onnxruntime")]:
        if (folder / "onnxruntime_c_api.h").is_file():
            return folder
    pytest.skip("the header of ONNX Runtime is not installed; ONNXRUNTIME_INCLUDE_DIR can name its folder")


def compare(headers: Path, name: str, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Compiles the comparison with this text in place of the declarations `name`."""
    comparison = COMPARISONS[name]
    for file in (name, COMMON, comparison):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text if file == name else (EXTENSIONS / file).read_text())
    command = [tool("g++"), "-std=c++20", "-fsyntax-only", "-Wno-ignored-attributes", "-isystem", str(headers)]
    command.append(str(folder / comparison))
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("name", COMPARISONS)
def test_is_what_the_runtimes_header_declares(name: str, headers: Path, tmp_path: Path) -> None:
    result = compare(headers, name, (EXTENSIONS / name).read_text(), tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("unused_52[57 - 52]", "unused_52[58 - 52]"),
        ("size_t dim);", "int dim);"),
        ("ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16 = 16", "ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16 = 15"),
        ("void* unused_kernel_compute;", ""),
        ("ORT_EP_FAIL = 11", "ORT_EP_FAIL = 12"),
    ],
)
def test_the_comparison_sees_a_mistake(right: str, wrong: str, headers: Path, tmp_path: Path) -> None:
    text = (EXTENSIONS / ABI).read_text()
    assert right in text
    assert compare(headers, ABI, text.replace(right, wrong), tmp_path).returncode != 0


def test_no_source_wants_the_runtimes_headers() -> None:
    sources = [path for path in EXTENSIONS.rglob("*") if path.suffix in (".h", ".cpp", ".cu")]
    including = [path for path in sources if re.search(r"#include\s*[<\"]onnxruntime_(c|cxx)_", path.read_text())]
    assert including == [EXTENSIONS / COMMON]
