"""The CUDA library file, when it is loaded, and what CMake says where it cannot be built."""

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
import torch

import opserve_ops
from archive.repository import ROOT
from opserve_ops._operator import OPERATORS
from tests.extensions.library_file import assert_holds_no_path, assert_needs_only, read_tool
from tests.extensions.native_build import configure, tool
from tests.extensions.test_build import one_line
from tests.extensions.test_build_routes import assert_stable
from tests.extensions.test_library import LIBRARY, run_python

CUDA_LIBRARY = LIBRARY.with_name("libopserve_torch_cuda.so")

built = pytest.mark.skipif(
    not CUDA_LIBRARY.is_file() and shutil.which("nvcc") is None, reason="no CUDA compiler to build it with"
)
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")


def kernels_of(library: Path) -> set[tuple[str, int]]:
    """("program" or "intermediate", architecture) of each part of the CUDA binaries in a library."""
    content = library.read_bytes()
    found = set()
    at = content.find(b"\x50\xed\x55\xba")
    while at >= 0:
        header_size, size = struct.unpack_from("<HQ", content, at + 6)
        part, end = at + header_size, at + header_size + size
        while part < end:
            kind, part_header, part_size = struct.unpack_from("<H2xIQ", content, part)
            (architecture,) = struct.unpack_from("<I", content, part + 28)
            found.add(("intermediate" if kind == 1 else "program", architecture))
            part += part_header + part_size
        at = content.find(b"\x50\xed\x55\xba", end)
    return found


@built
def test_was_built() -> None:
    """With a CUDA compiler at hand the build includes it; nothing about a GPU."""
    assert CUDA_LIBRARY.is_file(), "a CUDA compiler is here, but the library was not built: make ext CUDA=on says why"


@built
def test_has_kernels_for_each_generation_and_for_those_to_come() -> None:
    parts = kernels_of(CUDA_LIBRARY)
    assert {kind for kind, _ in parts} == {"program", "intermediate"}
    # Intermediate code serves its architecture and every later one.
    assert ("intermediate", 90) in parts
    assert {("program", 80), ("program", 90)} <= parts


@built
def test_has_no_search_path_and_needs_only_pytorch_and_the_system() -> None:
    # Its own CUDA runtime; the driver is opened when it is used.
    assert {"libtorch_cpu.so", "libtorch_cuda.so"} <= assert_needs_only(CUDA_LIBRARY, "torch_cpu", "torch_cuda", "rt")


@built
def test_uses_the_stable_abi_only() -> None:
    undefined = read_tool("nm", "-DC", "--undefined-only", CUDA_LIBRARY)
    assert re.search(r"\b(at|c10|caffe2|torch)::", undefined) is None
    names = {line.split()[-1] for line in undefined.splitlines()}
    from_pytorch = {name for name in names if name.startswith(("aoti_torch", "torch_"))}
    # All but this one are in PyTorch builds without CUDA, too.
    assert {name for name in from_pytorch if "cuda" in name} == {
        "aoti_torch_device_type_cuda",
        "aoti_torch_get_current_cuda_stream",
    }
    assert not {name for name in names if name.startswith(("cuda", "__cuda", "cu"))}


@built
def test_audit_of_the_abi() -> None:
    assert_stable(CUDA_LIBRARY)


@built
def test_exports_nothing() -> None:
    assert read_tool("nm", "-DC", "--defined-only", CUDA_LIBRARY).strip() == ""


@built
def test_holds_no_path_of_the_machine_that_built_it() -> None:
    assert_holds_no_path(CUDA_LIBRARY, "tmpxft")


@built
def test_the_same_sources_give_the_same_kernels_in_another_folder(tmp_path: Path) -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not on PATH")
    elsewhere = tmp_path / "another folder" / "extensions"
    shutil.copytree(ROOT / "extensions", elsewhere, ignore=shutil.ignore_patterns("__pycache__"))
    objects = []
    for source in (ROOT / "extensions", elsewhere):
        build = tmp_path / f"build {len(objects)}"
        options = (KERNELS_ONLY, "-DOPSERVE_CUDA=ON", "-DOPSERVE_CUDA_ARCHS=90-real")
        configured = configure(build, *options, source=source)
        assert configured.returncode == 0, configured.stderr
        target = "CMakeFiles/opserve_cuda_kernels.dir/kernels/cuda/check_csr_cuda.cu.o"
        command = [tool("ninja"), "-C", str(build), target]
        compiled = subprocess.run(command, check=False, capture_output=True, text=True)
        assert compiled.returncode == 0, compiled.stdout
        # As the library is: without the names of nvcc's temporary files.
        stripped = build / "stripped.o"
        read_tool("strip", "--strip-unneeded", "-o", stripped, build / target)
        objects.append(stripped.read_bytes())
    assert objects[0] == objects[1]


# --- when it is loaded


@without_gpu
def test_is_not_loaded_without_a_gpu(tmp_path: Path) -> None:
    """Not even looked at: one that would not load does no harm."""
    assert opserve_ops.cuda_library_path() is None
    assert CUDA_LIBRARY.name not in Path("/proc/self/maps").read_text()
    shutil.copy(LIBRARY, tmp_path)
    (tmp_path / CUDA_LIBRARY.name).write_text("not a library")
    result = run_python("import opserve_ops", env={"OPSERVE_LIBRARY_DIR": str(tmp_path)})
    assert result.returncode == 0, result.stderr


PRETEND_GPU = "import torch; torch.cuda.is_available = lambda: True; import opserve_ops; "


@built
@without_gpu
def test_is_loaded_where_a_gpu_is() -> None:
    """Here loading fails, since PyTorch is a build without CUDA: so it was tried."""
    result = run_python(PRETEND_GPU, env={"OPSERVE_LIBRARY_DIR": str(LIBRARY.parent)})
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: opserve_ops: cannot load {CUDA_LIBRARY}: ")
    assert "libtorch_cuda.so" in last
    assert last.endswith("Build it again with: make ext")


def test_a_gpu_without_the_library_is_explained_when_it_is_used(tmp_path: Path) -> None:
    shutil.copy(LIBRARY, tmp_path)
    code = """
print(opserve_ops.cuda_library_path(), opserve_ops.scaled_add(torch.ones(2), torch.ones(2)).tolist())
names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("opserve::")]
print(sorted(name for name in names if torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA")))
from torch._C import DispatchKeySet, DispatchKey
try:
    torch.ops.opserve.scaled_add.default.redispatch(DispatchKeySet(DispatchKey.CUDA), torch.ones(2), torch.ones(2))
except RuntimeError as error:
    print(error)
"""
    result = run_python(PRETEND_GPU + code, env={"OPSERVE_LIBRARY_DIR": str(tmp_path)})
    lines = result.stdout.splitlines()
    assert lines[0] == "None [3.0, 3.0]", result.stderr
    for operator in OPERATORS:
        assert f"'opserve::{operator.name}'" in lines[1]
    assert lines[2] == (
        f"opserve::scaled_add: no kernels for CUDA: {tmp_path}/{CUDA_LIBRARY.name} was not built. "
        "Build it with: make ext CUDA=on"
    )


# --- what CMake says


def fake_nvcc(folder: Path, script: str) -> Path:
    compiler = folder / "nvcc"
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    return compiler


KERNELS_ONLY = "-DOPSERVE_BUILD_TORCH=OFF"
HEADERLESS = 'echo "fatal error: cuda_runtime.h: No such file or directory" >&2; exit 1'
UNSUPPORTED = 'echo "error: unsupported GNU version! gcc versions later than 15 are not supported!" >&2; exit 1'


@pytest.mark.parametrize(
    ("script", "explanation"),
    [
        (HEADERLESS, "has no cuda_runtime.h: the compiler is there, the headers of the CUDA runtime are not."),
        (UNSUPPORTED, "unsupported GNU version! gcc versions later than 15 are not supported!"),
    ],
)
def test_a_compiler_that_does_not_work_is_explained(tmp_path: Path, script: str, explanation: str) -> None:
    options = (KERNELS_ONLY, f"-DCMAKE_CUDA_COMPILER={fake_nvcc(tmp_path, script)}")
    wanted = configure(tmp_path / "on", *options, "-DOPSERVE_CUDA=ON")
    assert wanted.returncode != 0
    assert "The CUDA libraries cannot be built: " in one_line(wanted.stderr)
    assert explanation in one_line(wanted.stderr)
    assert "use OPSERVE_CUDA=OFF (make ext CUDA=off)" in one_line(wanted.stderr)
    automatic = configure(tmp_path / "auto", *options, "-DOPSERVE_CUDA=AUTO")
    assert automatic.returncode == 0, automatic.stderr
    assert "Without the CUDA libraries: " in automatic.stdout
    assert explanation in one_line(automatic.stdout)


def test_no_compiler_is_explained(tmp_path: Path) -> None:
    hidden = (KERNELS_ONLY, "-DOPSERVE_NVCC=")
    wanted = configure(tmp_path / "on", *hidden, "-DOPSERVE_CUDA=ON")
    assert wanted.returncode != 0
    assert "pip install nvidia-cuda-nvcc" in one_line(wanted.stderr)
    automatic = configure(tmp_path / "auto", *hidden, "-DOPSERVE_CUDA=AUTO")
    assert automatic.returncode == 0, automatic.stderr
    assert "Without the CUDA libraries: no CUDA compiler was found." in one_line(automatic.stdout)


def test_another_word_than_auto_on_off_is_refused(tmp_path: Path) -> None:
    result = configure(tmp_path / "build", KERNELS_ONLY, "-DOPSERVE_CUDA=MAYBE")
    assert result.returncode != 0
    assert "OPSERVE_CUDA must be AUTO, ON or OFF, got MAYBE." in one_line(result.stderr)
