"""opserve_run: saved models run from C++, its files in and out, and what it says when something is wrong."""

import re
import shutil
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib import format as npy_format
from torch import Tensor

import opserve_ops  # noqa: F401  the models are scripted with its operators
from tests.extensions.native_build import cmake_build, cmake_library, run_program

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def library() -> Path:
    return cmake_library()


def save(module: torch.nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module.eval()).save(path)
    return path


def failure(*arguments: object, status: int = 1) -> str:
    """What the program says: one line on stderr, nothing on stdout."""
    result = run_program("opserve_run", *arguments)
    assert result.returncode == status, (result.returncode, result.stderr)
    assert result.stdout == ""
    assert result.stderr.endswith("\n")
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("opserve_run: error: ")
    return result.stderr.removeprefix("opserve_run: error: ").rstrip("\n")


class Identity(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class ScaledAdd(torch.nn.Module):
    def forward(self, x: Tensor, y: Tensor, alpha: float = 0.5) -> Tensor:
        return torch.ops.opserve.scaled_add(x, y, alpha)


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(Identity(), tmp_path_factory.mktemp("identity") / "identity.pt")


@pytest.fixture(scope="module")
def scaled_add(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scaled_add")
    np.save(folder / "x.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
    np.save(folder / "y.npy", np.ones((2, 3), dtype=np.float32))
    np.save(folder / "alpha.npy", np.float64(3))
    return save(ScaledAdd(), folder / "scaled_add.pt")


DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128".split()


def test_every_dtype_shape_and_order_comes_back_as_it_was(identity: Path, tmp_path: Path) -> None:

    generator = np.random.default_rng(0)
    for shape in ((), (0,), (1,), (3, 0, 2), (2, 3, 5)):
        dtype = generator.choice(DTYPES)
        array = np.asarray(generator.integers(0, 2 if dtype == "bool" else 100, shape)).astype(dtype)
        check_round_trip(identity, tmp_path, array)
    for dtype in DTYPES:
        array = generator.integers(0, 2 if dtype == "bool" else 100, (2, 3)).astype(dtype)
        check_round_trip(identity, tmp_path, array)


def check_round_trip(identity: Path, folder: Path, array: np.ndarray, expected: np.ndarray | None = None) -> None:
    np.save(folder / "in.npy", array)
    result = run_program("opserve_run", identity, "--input", folder / "in.npy", "--output", folder / "out.npy")
    assert result.returncode == 0, result.stderr
    expected = array if expected is None else expected
    assert result.stdout == f"output {expected.dtype} [{', '.join(map(str, expected.shape))}]\n"
    got = np.load(folder / "out.npy", allow_pickle=False)
    assert got.dtype == expected.dtype
    assert got.dtype.isnative
    np.testing.assert_array_equal(got, expected, strict=True)


@pytest.mark.parametrize("dtype", [">f4", ">i8", ">c16", ">u2"])
def test_the_other_byte_order(dtype: str, identity: Path, tmp_path: Path) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    check_round_trip(identity, tmp_path, array, array.astype(array.dtype.newbyteorder("=")))


def test_columns_first(identity: Path, tmp_path: Path) -> None:
    array = np.asfortranarray(np.arange(24, dtype=np.int32).reshape(2, 3, 4))
    check_round_trip(identity, tmp_path, array)
    assert b"'fortran_order': True" in (tmp_path / "in.npy").read_bytes()[:128]


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)], ids=str)
def test_every_version_of_the_format(version: tuple[int, int], identity: Path, tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float64).reshape(2, 3)
    path = tmp_path / "x.npy"
    with path.open("wb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        npy_format.write_array(file, array, version=version)
    assert path.read_bytes()[6] == version[0]
    result = run_program("opserve_run", identity, "--input", path, "--output", tmp_path / "out.npy")
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), array)


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes((version, 0)) + length + header.encode() + data


def described(descr: str = "<f4", shape: str = "(2,)", order: str = "False") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}"


GOOD = npy(described(), bytes(8))
TOO_LARGE = "the header specifies sizes whose product does not fit in 2^63 bytes"
MALFORMED = [
    (b"", "not an .npy file"),
    (b"PK\x03\x04", "not an .npy file"),
    (GOOD[:6], "truncated in its header"),
    (GOOD[:9], "truncated in its header"),
    (GOOD[:30], "truncated in its header"),
    (npy(described(), bytes(8), 2)[:11], "truncated in its header"),
    (GOOD[:-1], "the header specifies 8 bytes of elements, but the file contains 7"),
    (GOOD + b"\0", "the header specifies 8 bytes of elements, but the file contains 9"),
    (b"\x93NUMPY\4\0" + bytes(20), "version 4.0 of the format is not supported, only 1.0, 2.0 and 3.0"),
    (npy(described(), version=3)[:8] + b"\xff\xff\xff\xff", "the header is longer than 10000 bytes"),
    (npy(described("|O")), "dtype '|O' is not supported, only booleans, integers, floats and complex"),
    (npy(described("<U4")), "dtype '<U4' is not supported, only booleans, integers, floats and complex"),
    (npy(described("")), "dtype '' is not supported, only booleans, integers, floats and complex"),
    (npy(described("<f16")), "dtype '<f16' is not supported, only booleans, integers, floats and complex"),
    (npy(described().replace("'<f4'", "[('a', '<f4')]")), "structured dtypes are not supported"),
    (npy(described(shape="(4611686018427387904, 4)")), TOO_LARGE),
    (npy(described(shape="(0, 9223372036854775807)")), TOO_LARGE),
    (npy(described(shape="(99999999999999999999,)")), "the header specifies a size that does not fit in 63 bits"),
    (npy(described(shape="(1000000,)")), "the header specifies 4000000 bytes of elements, but the file contains 0"),
    (npy(described(shape="(-2,)")), "its header is malformed"),
    (npy(described(shape="(2")), "its header is malformed"),
    (npy(described(order="0")), "its header is malformed"),
    (npy(described() + "x"), "its header is malformed"),
    (npy(described() * 2), "its header is malformed"),
    (npy("{'descr': '<f4', 'shape': (2,)}"), "its header is malformed"),
    (npy("{'descr': '<f4"), "its header is malformed"),
    (npy(""), "its header is malformed"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), MALFORMED)
def test_a_malformed_array_is_refused(content: bytes, message: str, identity: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    assert failure(identity, "--input", path) == f"{path}: {message}"


def test_inputs_by_name_and_by_order(scaled_add: Path, library: Path, tmp_path: Path) -> None:
    folder = scaled_add.parent
    x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
    other = shutil.copy(folder / "y.npy", tmp_path / "other.npy")
    for inputs, expected in (
        (("x.npy", "y.npy"), 0.5 * x + y),
        (("y.npy", "x.npy"), 0.5 * x + y),
        ((other, "x.npy"), 0.5 * y + x),
        (("alpha.npy", "y.npy", "x.npy"), 3 * x + y),
    ):
        result = run_program(
            "opserve_run", scaled_add, "--ops", library, "--input", *(folder / name for name in inputs),
            "--output", tmp_path / "out.npz",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        with np.load(tmp_path / "out.npz") as arrays:
            assert list(arrays) == ["output"]
            np.testing.assert_array_equal(arrays["output"], expected)


class Many(torch.nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor], list[Tensor], int]:
        return x + 1, {"double": 2 * x, "half": x.to(torch.bfloat16)}, [x.t()], x.size(0)


def test_outputs_keep_their_names(tmp_path: Path) -> None:
    model = save(Many(), tmp_path / "many.pt")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "x.npy", x)
    expected = {
        "output0": x + 1,
        "output1.double": 2 * x,
        "output1.half": x,
        "output2.0": x.T,
        "output3": np.int64(2),
    }
    folder, archive = tmp_path / "new" / "folder", tmp_path / "all.npz"
    files = [tmp_path / f"{i}.npy" for i in range(len(expected))]
    for output in ([folder], [archive], files):
        result = run_program("opserve_run", model, "--input", tmp_path / "x.npy", "--output", *output)
        assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[1] == "output1.double float32 [2, 3]"
    assert {path.stem for path in folder.iterdir()} == set(expected)
    with np.load(archive) as arrays:
        assert list(arrays) == list(expected)
        for path, (name, array) in zip(files, expected.items(), strict=True):
            for got in (arrays[name], np.load(folder / f"{name}.npy"), np.load(path)):
                np.testing.assert_array_equal(got, array)
    first = archive.read_bytes()
    run_program("opserve_run", model, "--input", tmp_path / "x.npy", "--output", archive)
    assert archive.read_bytes() == first


class Escaping(torch.nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"../../escaped": x}


def test_an_output_cannot_leave_its_folder(tmp_path: Path) -> None:
    model = save(Escaping(), tmp_path / "model.pt")
    np.save(tmp_path / "x.npy", np.zeros(1, np.float32))
    output = tmp_path / "a" / "b"
    message = failure(model, "--input", tmp_path / "x.npy", "--output", output)
    assert message == "output '../../escaped' has a name that no file can have"
    assert not (tmp_path / "escaped.npy").exists()


def test_an_output_that_cannot_be_written_leaves_nothing(identity: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(1, np.float32))
    target = tmp_path / "missing" / "out.npy"
    message = failure(identity, "--input", tmp_path / "x.npy", "--output", target)
    assert message == f"{target}: cannot be written: No such file or directory"
    (tmp_path / "taken.npy").mkdir()
    message = failure(identity, "--input", tmp_path / "x.npy", "--output", tmp_path / "taken.npy")
    assert message == f"{tmp_path / 'taken.npy'}: cannot be written: Is a directory"
    assert not (tmp_path / "taken.npy.part").exists()


def test_repeat_reports_latencies_and_threads(scaled_add: Path, library: Path) -> None:
    folder = scaled_add.parent
    result = run_program(
        "opserve_run", scaled_add, "--ops", library, "--input", folder / "x.npy", folder / "y.npy",
        "--repeat", 25, "--threads", 1,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    last = result.stdout.splitlines()[-1]
    found = re.fullmatch(r"latency_ms min=(\S+) median=(\S+) mean=(\S+) calls=25 threads=1 device=cpu", last)
    assert found, last
    low, median, mean = map(float, found.groups())
    assert 0 < low <= median
    assert low <= mean


def test_threads_are_those_of_python_by_default(scaled_add: Path, library: Path) -> None:
    folder = scaled_add.parent
    arguments = (scaled_add, "--ops", library, "--input", folder / "x.npy", folder / "y.npy", "--repeat", 1)
    # Of a fresh Python: other tests change the number of this one's.
    ask = [sys.executable, "-c", "import torch; print(torch.get_num_threads())"]
    default = int(subprocess.run(ask, check=True, capture_output=True, text=True).stdout)
    for threads in (None, 1):
        env = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
        result = run_program("opserve_run", *arguments, env=env)
        assert f" threads={threads or default} " in result.stdout, result.stderr


def truncated(library: Path, folder: Path) -> tuple[Path, str]:
    path = folder / "short.so"
    path.write_bytes(library.read_bytes()[:3000])
    return path, "not a complete 64-bit ELF file"


def without_pytorch(library: Path, folder: Path) -> tuple[Path, str]:
    path = folder / "other.so"
    path.write_bytes(library.read_bytes().replace(b"libtorch_cpu.so", b"libtorch_xyz.so"))
    return path, "libtorch_xyz.so: cannot open shared object file: No such file or directory"


def missing(_: Path, folder: Path) -> tuple[Path, str]:
    return folder / "missing.so", "no such file"


def a_folder(_: Path, folder: Path) -> tuple[Path, str]:
    return folder, "is a folder"


@pytest.mark.parametrize("damage", [truncated, without_pytorch, missing, a_folder])
def test_a_library_that_does_not_open_is_named(
    damage: Callable[[Path, Path], tuple[Path, str]], scaled_add: Path, library: Path, tmp_path: Path
) -> None:
    path, reason = damage(library, tmp_path)
    assert failure(scaled_add, "--ops", path) == f"cannot open operator library {path}: {reason}"


def test_a_second_copy_of_the_library_is_harmless(scaled_add: Path, library: Path, tmp_path: Path) -> None:
    """PyTorch itself would end the process: the first copy serves, the second registers nothing."""
    copy = shutil.copy(library, tmp_path / "copy.so")
    folder = scaled_add.parent
    result = run_program(
        "opserve_run", scaled_add, "--ops", library, "--ops", copy, "--input", folder / "x.npy", folder / "y.npy"
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def test_the_same_library_twice_is_harmless(scaled_add: Path, library: Path) -> None:
    folder = scaled_add.parent
    result = run_program(
        "opserve_run", scaled_add, "--ops", library, "--ops", library, "--input", folder / "x.npy", folder / "y.npy"
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def test_what_is_wrong_with_a_model_or_its_inputs_is_said(
    scaled_add: Path, identity: Path, library: Path, tmp_path: Path
) -> None:
    x, y = scaled_add.parent / "x.npy", scaled_add.parent / "y.npy"
    np.save(tmp_path / "wrong.npy", np.zeros(3, np.float32))
    (tmp_path / "text.pt").write_text("not a model")
    ops = ("--ops", library)
    takes = "the model takes (x: Tensor, y: Tensor, alpha: float = …), got"
    assert failure(tmp_path / "no.pt") == f"cannot load model {tmp_path}/no.pt: no such file"
    assert failure(tmp_path) == f"cannot load model {tmp_path}: is a folder"
    assert failure(tmp_path / "text.pt").startswith(f"cannot load model {tmp_path}/text.pt: ")
    assert failure(scaled_add, "--input", x, y) == (
        f"cannot load model {scaled_add}: Unknown builtin op: opserve::scaled_add. "
        "Was the library that contains it opened first?"
    )
    assert failure(scaled_add, *ops, "--input", x) == f"{takes} no input for 'y'"
    assert failure(scaled_add, *ops, "--input", x, x, x, x) == f"{takes} 4 inputs"
    assert failure(scaled_add, *ops, "--input", x, y, tmp_path / "wrong.npy") == (
        "argument 'alpha' must be of type float, got an array of Float with 3 elements"
    )
    assert failure(scaled_add, *ops, "--input", x, tmp_path / "wrong.npy") == (
        "opserve::scaled_add: y must have 2 dimensions, got 1"
    )
    assert failure(identity, "--input", tmp_path / "no.npy") == (
        f"{tmp_path}/no.npy: cannot be read: No such file or directory"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_an_error(identity: Path) -> None:
    message = "is not available: this LibTorch sees 0 CUDA devices"
    assert failure(identity, "--device", "cuda") == f"device 'cuda' {message}"
    assert failure(identity, "--device", "cuda:1") == f"device 'cuda:1' {message}"


def test_the_command_line_is_explained() -> None:
    more = "(see opserve_run --help)"
    assert failure(status=2) == f"no model given {more}"
    assert failure("a.pt", "b.pt", status=2) == f"one model is run, got a.pt and b.pt {more}"
    assert failure("a.pt", "--ops", status=2) == f"--ops needs a value {more}"
    assert failure("a.pt", "--ops", "--input", "x", status=2) == f"--ops needs a value {more}"
    assert failure("a.pt", "--repeats", "3", status=2) == f"unknown option --repeats {more}"
    for number in ("0", "-1", "many", "1.5", ""):
        expected = f"--threads takes a number from 1 to 1000000000, got '{number}' {more}"
        assert failure("a.pt", "--threads", number, status=2) == expected
    assert failure("a.pt", "--device", "tpu") == "unknown device 'tpu': it must be cpu, cuda or cuda:N"
    result = run_program("opserve_run", "--help")
    assert result.returncode == 0
    assert result.stdout.startswith("usage: opserve_run MODEL.pt")


def test_linked_operators_need_no_library_to_be_named(scaled_add: Path) -> None:
    x, y = scaled_add.parent / "x.npy", scaled_add.parent / "y.npy"
    result = run_program("opserve_run_linked", scaled_add, "--input", x, y)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "output float32 [2, 3]\n"


def test_without_its_pytorch_the_program_says_what_is_missing(tmp_path: Path) -> None:
    program = tmp_path / "opserve_run"
    content = (cmake_build() / "bin" / "opserve_run").read_bytes()
    torch_lib = f"{Path(torch.__file__).parent}/lib".encode()
    assert torch_lib in content
    program.write_bytes(content.replace(torch_lib, b"/" * len(torch_lib)))
    program.chmod(0o755)
    result = subprocess.run([program, "--help"], check=False, capture_output=True, text=True, env={})
    assert result.returncode == 127
    assert re.search(r"libtorch\w*\.so: cannot open shared object file", result.stderr)
