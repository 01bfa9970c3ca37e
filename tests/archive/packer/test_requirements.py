"""The requirements that are read from a library."""

import contextlib
import os
import random
import re
import struct
import subprocess
from pathlib import Path

import pytest
import torch

from archive.errors import ArchiveError
from archive.packer.requirements import read_requirements
from archive.repository import BUILD
from handlers.integrity.manifest import Manifest

INCLUDE = Path(__file__).resolve().parents[3] / "extensions" / "include"


def compiled(folder: Path, source: str, *flags: str) -> Path:
    (folder / "x.cpp").write_text(source)
    library = folder / "libx.so"
    command = ["g++", "-std=c++20", "-shared", "-fPIC", str(folder / "x.cpp"), *flags, "-o", str(library)]
    subprocess.run(command, check=True)
    return library


def test_the_libraries_say_what_they_were_built_for():
    """The numbers are those of extensions/CMakeLists.txt and bindings/onnxruntime/api.h."""
    for_torch = read_requirements(BUILD / "lib" / "libopserve_torch.so")
    assert (for_torch.torch_stable_abi, for_torch.torch_exactly, for_torch.onnxruntime_api) == ("2.10", None, None)
    library = BUILD / "lib" / "libopserve_onnxruntime.so"
    if not library.is_file():
        pytest.skip("built without the headers of ONNX Runtime")
    for_onnx = read_requirements(library)
    assert (for_onnx.torch_stable_abi, for_onnx.torch_exactly, for_onnx.onnxruntime_api) == (None, None, 18)


@pytest.mark.parametrize(
    ("name", "torch_stable_abi", "onnxruntime_api"), [("torch_cuda", "2.10", None), ("onnxruntime_cuda", None, 18)]
)
def test_the_cuda_libraries_say_so_too(name, torch_stable_abi, onnxruntime_api):
    library = BUILD / "lib" / f"libopserve_{name}.so"
    if not library.is_file():
        pytest.skip("built without a CUDA compiler")
    requirements = read_requirements(library)
    assert (requirements.torch_stable_abi, requirements.onnxruntime_api) == (torch_stable_abi, onnxruntime_api)
    assert requirements.torch_exactly is None
    assert requirements.cuda_programs


def test_symbol_versions_are_those_that_readelf_shows():
    library = BUILD / "lib" / "libopserve_torch.so"
    shown = subprocess.run(["readelf", "-V", library], capture_output=True, text=True, check=True).stdout
    shown = shown[shown.index("Version needs section") :]
    for family, version in read_requirements(library).symbols.items():
        listed = re.findall(rf"Name: {family}_([\d.]+)", shown)
        assert version == max(listed, key=lambda text: [int(part) for part in text.split(".")])


def test_the_note_is_read_from_any_library_that_carries_it(tmp_path):
    source = '#include "opserve/built_for.h"\nOPSERVE_BUILT_FOR(kTorchStableAbi, 3, 12)\n'
    library = compiled(tmp_path, source, f"-I{INCLUDE}", "-O2", "-Wl,--gc-sections", "-s")
    assert read_requirements(library).torch_stable_abi == "3.12"


def test_a_library_off_the_stable_abi_needs_the_pytorch_it_was_tried_with(tmp_path):
    source = "namespace at { struct T { void f(); }; }\nvoid g() { at::T().f(); }\n"
    minor = ".".join(torch.__version__.split(".")[:2])
    assert read_requirements(compiled(tmp_path, source)).torch_exactly == minor


def test_a_library_without_dependencies_requires_its_processor_only(tmp_path):
    requirements = read_requirements(compiled(tmp_path, "", "-nostdlib"))
    assert (requirements.machine, requirements.symbols) == (os.uname().machine, {})


def test_something_that_is_not_a_library_is_refused(tmp_path):
    library = compiled(tmp_path, "int f() { return 1; }")
    content = library.read_bytes()
    for damaged in (b"", b"MZ", content[:40], content[:4] + b"\xff" * 60):
        library.write_bytes(damaged)
        with pytest.raises(ArchiveError, match=r"^libx\.so: not a shared library that can be read"):
            read_requirements(library)


def test_any_damage_of_a_library_is_an_error_or_an_answer(tmp_path):
    """Libraries are not trusted: whatever is in one, reading it must not fail in another way."""
    library = compiled(tmp_path, "#include <string>\nstd::string f(int i) { return std::to_string(i); }")
    content = library.read_bytes()
    generator = random.Random(5)
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(generator.randrange(1, 8)):
            damaged[generator.choice([generator.randrange(len(content)), generator.randrange(200)])] = (
                generator.randrange(256)
            )
        library.write_bytes(damaged[: generator.choice([len(damaged), generator.randrange(len(damaged))])])
        with contextlib.suppress(ArchiveError):
            read_requirements(library)


def fatbin(*programs: tuple[int, int]) -> bytes:
    """The container that nvcc puts GPU code into, without the code."""
    body = b"".join(struct.pack("<HHIQ12xI32x", kind, 257, 64, 0, arch) for kind, arch in programs)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (fatbin((2, 75), (2, 86), (1, 90), (2, 90), (2, 120)), (("7.5", "8.6", "9.0", "12.0"), ("9.0",))),
        (fatbin((2, 75), (2, 86)) + bytes(8) + fatbin((2, 86), (1, 86)), (("8.6",), ())),  # not in all containers
        (b"\x50\xed\x55\xba", ((), ())),
    ],
)
def test_gpu_architectures(tmp_path, data, expected):
    (tmp_path / "fatbin").write_bytes(data)
    source = f'__asm__(".section .nv_fatbin,\\"a\\"\\n.balign 8\\n.incbin \\"{tmp_path}/fatbin\\"\\n.text\\n");'
    requirements = read_requirements(compiled(tmp_path, source))
    assert (requirements.cuda_programs, requirements.cuda_intermediate) == expected


def test_the_gpu_library_has_every_architecture_it_is_built_for():
    library = BUILD / "lib" / "libopserve_torch_cuda.so"
    if not library.is_file():
        pytest.skip("built without a CUDA compiler")
    requirements = read_requirements(library)
    assert {"7.5", "8.0", "8.6", "9.0"} <= set(requirements.cuda_programs)
    assert requirements.cuda_intermediate == ("9.0",)


def test_requirements_survive_the_manifest():
    library = BUILD / "lib" / "libopserve_torch.so"
    requirements = read_requirements(library)
    manifest = Manifest("m", "1", {}, {})
    assert Manifest.decode(manifest.encode()) == manifest
    assert (
        type(requirements).from_dict(requirements.as_dict() | {"cuda_programs": [], "cuda_intermediate": []}, "x")
        == requirements
    )
