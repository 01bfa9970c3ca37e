"""What a worker checks about its unpacked archive before it opens anything in it."""

import json
import os
import py_compile
import random
import shutil
import subprocess
import sys

import onnxruntime
import pytest
import torch

from handlers.errors import ModelError
from handlers.integrity.check import check_archive
from handlers.integrity.manifest import MANIFEST_FILE
from handlers.integrity.requirements import LibraryRequirements
from tests.support.packed import change_requirements


def refusal(folder) -> str:
    with pytest.raises(ModelError) as caught:
        check_archive(folder)
    assert "\n" not in str(caught.value)
    # TorchServe would take it for a lack of memory.
    assert "CUDA" not in str(caught.value)
    return str(caught.value)


def test_what_was_packed_is_accepted_and_described(unpacked):
    found = check_archive(unpacked)
    assert (found.name, found.version) == ("mine", "1.0")
    assert "MAR-INF/MANIFEST.json" in found.files
    required = found.libraries["libmine.so"]
    assert required.machine == os.uname().machine
    assert "GLIBC" in required.symbols
    # An external library does not say which stable ABI it was built for; that is not guessed.
    assert (required.torch_stable_abi, required.torch_exactly, required.onnxruntime_api) == (None, None, None)


def test_the_check_needs_the_standard_library_only(unpacked):
    """So it runs before the first import that costs seconds, and before a damaged module of the archive could."""
    script = (
        "import sys; from pathlib import Path; from handlers.integrity.check import check_archive; "
        "check_archive(Path('.')); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=unpacked, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"torch", "numpy", "yaml", "onnxruntime", "cryptography"}
    assert {name for name in done.stdout.split() if name.startswith("handlers.")} == {
        "handlers.errors",
        "handlers.integrity",
        "handlers.integrity.check",
        "handlers.integrity.manifest",
        "handlers.integrity.requirements",
        "handlers.integrity.signing",
    }


def test_a_flipped_byte_anywhere_is_named(unpacked):
    generator = random.Random(7)
    files = sorted(path for path in unpacked.rglob("*") if path.is_file())
    for path in files:
        content = path.read_bytes()
        for _ in range(3):
            damaged = bytearray(content)
            damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
            path.write_bytes(damaged)
            # A byte of the manifest may belong to a name in it: then that file is missing, and another one extra.
            said = refusal(unpacked)
            if path.name != MANIFEST_FILE:
                assert said.startswith(f"{path.relative_to(unpacked)}: damaged or changed: ")
        path.write_bytes(content)
    check_archive(unpacked)


def test_a_flipped_bit_of_the_manifest_is_always_noticed(unpacked):
    path = unpacked / MANIFEST_FILE
    content = path.read_bytes()
    generator = random.Random(8)
    for _ in range(200):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        refusal(unpacked)


@pytest.mark.parametrize("change", [b"\n", b" "])
def test_a_manifest_written_by_hand_is_refused(unpacked, change):
    path = unpacked / MANIFEST_FILE
    path.write_bytes(path.read_bytes() + change)
    assert refusal(unpacked) == "opserve.json: damaged, or changed after the packer wrote it"


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"{}", b'{"format": true}', b'{"format": 1}', b"[" * 100_000, b"\xff", b'{"format": 1, "model": 3}'],
)
def test_what_is_not_a_manifest_is_refused(unpacked, document):
    (unpacked / MANIFEST_FILE).write_bytes(document)
    assert refusal(unpacked).startswith("opserve.json: ")


def test_another_format_is_refused(unpacked):
    path = unpacked / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    assert refusal(unpacked) == "opserve.json: the archive has format 2; this opserve reads 1"


@pytest.mark.parametrize("name", ["handlers/model.py", "libmine.so", "sample/answer.json", "MAR-INF/MANIFEST.json"])
def test_a_missing_file_is_named(unpacked, name):
    (unpacked / name).unlink()
    assert refusal(unpacked) == f"{name}: missing from the archive"


def test_a_missing_manifest_is_named(unpacked):
    (unpacked / MANIFEST_FILE).unlink()
    assert refusal(unpacked).startswith("opserve.json: missing from the archive; ")


@pytest.mark.parametrize("name", ["json.py", "handlers/numpy.py", "torch/__init__.py", "core.txt", "x.pyc", ".hidden"])
def test_an_extra_file_is_named(unpacked, name):
    (unpacked / name).parent.mkdir(exist_ok=True)
    (unpacked / name).write_bytes(b"")
    assert refusal(unpacked) == f"{name}: not a file of this archive; opserve.json does not list it"


def test_a_link_is_refused_though_it_shows_the_right_contents(unpacked, tmp_path):
    path = unpacked / "libmine.so"
    path.rename(tmp_path / "elsewhere.so")
    path.symlink_to(tmp_path / "elsewhere.so")
    assert refusal(unpacked) == "libmine.so: a link or special file, which no archive has"
    path.unlink()
    os.mkfifo(path)
    assert "a link or special file" in refusal(unpacked)


def test_what_python_and_the_kernel_leave_behind_is_let_through(unpacked):
    source = unpacked / "handlers" / "model.py"
    py_compile.compile(str(source), doraise=True)
    (unpacked / "core.4711").write_bytes(b"\x7fELF")
    check_archive(unpacked)


def test_bytecode_that_python_would_not_compare_with_its_source_is_refused(unpacked):
    source = unpacked / "handlers" / "model.py"
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    written = py_compile.compile(str(source), doraise=True, invalidation_mode=mode)
    assert refusal(unpacked).startswith(os.path.relpath(written, unpacked) + ": not a file of this archive")


def test_bytecode_of_no_module_is_refused(unpacked):
    folder = unpacked / "handlers" / "__pycache__"
    folder.mkdir()
    shutil.copy(py_compile.compile(__file__, cfile=str(unpacked.parent / "x.pyc")), folder / "gone.cpython-311.pyc")
    assert "not a file of this archive" in refusal(unpacked)


@pytest.mark.parametrize(
    ("requirements", "message"),
    [
        ({"machine": "pdp11"}, "libmine.so: built for pdp11; this processor is "),
        ({"symbols": {"GLIBC": "9.99"}}, "libmine.so: needs glibc 9.99 or newer; here is 2."),
        ({"symbols": {"GLIBCXX": "3.4.999"}}, "libmine.so: needs libstdc++.so.6 with GLIBCXX_3.4.999; the one here is"),
        ({"symbols": {"CXXABI": "1.9.9"}}, "libmine.so: needs libstdc++.so.6 with CXXABI_1.9.9; the one here is older"),
        ({"torch_stable_abi": "99.0"}, "libmine.so: built for PyTorch 99.0 or newer; here is 2."),
        ({"torch_exactly": "1.13"}, "libmine.so: built for PyTorch 1.13 and no other"),
        ({"onnxruntime_api": 999}, "libmine.so: built for ONNX Runtime 1.999 or newer; here is 1."),
    ],
)
def test_a_machine_that_lacks_what_a_library_requires_is_refused(unpacked, requirements, message):
    change_requirements(unpacked, **requirements)
    assert refusal(unpacked).startswith(message)


def test_what_this_machine_has_is_enough(unpacked):
    minor = ".".join(torch.__version__.split(".")[:2])
    change_requirements(
        unpacked,
        symbols={"GLIBC": os.confstr("CS_GNU_LIBC_VERSION").split()[1], "GLIBCXX": "3.4.21"},
        torch_stable_abi=minor,
        torch_exactly=minor,
        onnxruntime_api=int(onnxruntime.__version__.split(".")[1]),
    )
    check_archive(unpacked)


@pytest.mark.parametrize(
    ("programs", "intermediate", "capability", "runs"),
    [
        (("7.5", "8.0"), (), (7, 5), True),
        (("7.5", "8.0"), (), (8, 9), True),  # machine code runs on later members of its generation
        (("7.5", "8.0"), (), (9, 0), False),
        (("8.6",), (), (8, 0), False),
        (("8.6",), ("7.0",), (8, 0), True),  # PTX is compiled by the driver
        (("8.0",), ("9.0",), (12, 0), True),
        (("8.0",), ("9.0",), (8, 9), True),
        ((), ("9.0",), (8, 9), False),
        ((), (), (5, 0), True),  # no GPU code at all
    ],
)
def test_gpu_architectures(programs, intermediate, capability, runs):
    requirements = LibraryRequirements("x86_64", cuda_programs=programs, cuda_intermediate=intermediate)
    if runs:
        requirements.check_gpu("libx.so", capability)
    else:
        with pytest.raises(ModelError, match=rf"^libx\.so: has GPU code for .* {capability[0]}\.{capability[1]}"):
            requirements.check_gpu("libx.so", capability)


def test_gpu_code_is_only_compared_with_the_gpu_of_a_worker_that_has_one(unpacked):
    change_requirements(unpacked, cuda_programs=("1.0",))
    manifest = check_archive(unpacked)
    with pytest.raises(ModelError, match=r"^libmine\.so: has GPU code for 1\.0; this GPU has compute capability 9\.0"):
        manifest.check_gpu((9, 0))
