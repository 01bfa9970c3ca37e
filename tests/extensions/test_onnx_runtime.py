"""The operators in ONNX Runtime: results, refusals, threads, shape inference, and the library file itself."""

import ctypes
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor

import opserve_ops.onnx
from tests.extensions.library_file import assert_holds_no_path, assert_needs_only, read_tool
from tests.extensions.onnx_nodes import Shape, assert_same, feed, model, run, run_in, session
from tests.extensions.samples import DTYPES, HOMOGRAPHY, OPS, SAMPLES, csr, map_tensors, random, results
from tests.extensions.test_library import run_python
from tests.extensions.test_rejected import SHAPES, VALUES, case_id

LIBRARY = opserve_ops.onnx.library_path()
F32, F64, I32, I64 = torch.float32, torch.float64, torch.int32, torch.int64


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("op", OPS)
def test_is_what_pytorch_computes(op: str, dtype: torch.dtype, threads: int) -> None:
    sessions: dict[bytes, onnxruntime.InferenceSession] = {}
    for sample in SAMPLES[op](dtype):
        # Models leave sizes open, so samples of all sizes run in the same session.
        serialized = model(op, sample.args)
        if serialized not in sessions:
            sessions[serialized] = session(serialized, threads)
        want = getattr(opserve_ops, op)(*sample.args)
        assert_same(run_in(sessions[serialized], op, sample.args), want, sample.name)


@pytest.mark.parametrize("op", OPS)
def test_nan_and_infinity(op: str) -> None:
    for sample in SAMPLES[op](F32):
        for special in (float("nan"), float("inf"), -float("inf")):

            def plant(tensor: Tensor, special: float = special) -> Tensor:
                planted = tensor.clone()
                # Not in a homography, which has to be finite.
                if planted.dtype == F32 and planted.numel() and tensor.shape[-2:] != (3, 3):
                    planted.view(-1)[planted.numel() // 2] = special
                return planted

            args = map_tensors(sample.args, plant)
            assert_same(run(op, args), getattr(opserve_ops, op)(*args), f"{sample.name} {special}")


def test_threads_do_not_change_a_large_result() -> None:
    rowptr, col = csr(3000, 12, I32)
    x, weight, bias = random(3000, 70, dtype=F32), random(70, 33, dtype=F32), random(33, dtype=F32)
    image = random(3, 300, 400, dtype=F32)
    for op, args in {
        "scaled_add": (random(1_000_003, dtype=F32), random(1_000_003, dtype=F32, seed=1), 0.5),
        "graph_conv": (random(500, 500, dtype=F32), x[:500], weight, bias),
        "graph_conv_csr": (rowptr, col, random(len(col), dtype=F32), x, weight, bias),
        "gcn_norm": (*csr(50_003, 8, I32), random(len(csr(50_003, 8, I32)[1]), dtype=F32).abs(), 2.0),
        "warp_perspective": (image, HOMOGRAPHY, [311, 401]),
    }.items():
        want = getattr(opserve_ops, op)(*args)
        for threads in (1, 2, 3):
            assert_same(run(op, args, threads), want, f"{op} {threads}")


WORKERS = """
import sys, threading
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[3])
# A thread that only waits for work must not be taken for one that does it.
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
options.register_custom_ops_library(sys.argv[1])
session = onnxruntime.InferenceSession(sys.argv[2], options, providers=["CPUExecutionProvider"])
from pathlib import Path
def busy():
    tasks = {int(task.name): task for task in Path("/proc/self/task").iterdir()}
    return {tid: int((task / "schedstat").read_text().split()[0]) for tid, task in tasks.items()}
image = numpy.ones((3, 1500, 1500), numpy.float32)
before = busy()
for _ in range(20):
    session.run(None, {"image": image, "matrix": numpy.eye(3)})
after = busy()
mine = threading.get_native_id()
others = sum(spent - before.get(tid, 0) for tid, spent in after.items() if tid != mine)
print(others / (after[mine] - before[mine]))
"""


def test_work_is_shared_among_the_runtimes_threads(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model("warp_perspective", (random(1, 1, 1, dtype=F32), HOMOGRAPHY, [1500, 1500])))

    def share(threads: int) -> float:
        # NumPy starts a thread that spins a while before it sleeps, which on a busy machine may be later.
        result = run_python(WORKERS, LIBRARY, path, threads, env={"OPENBLAS_NUM_THREADS": "1"})
        assert result.returncode == 0, result.stderr
        return float(result.stdout)

    assert share(1) < 0.05
    assert share(2) > 0.2


NOT_IN_ONNX_RUNTIME = (torch.complex64,)
REJECTED = [
    case
    for case in SHAPES + VALUES
    if not any(isinstance(arg, Tensor) and arg.dtype in NOT_IN_ONNX_RUNTIME for arg in case[1])
]


@pytest.mark.parametrize(("op", "args", "message"), REJECTED, ids=case_id)
def test_what_pytorch_refuses_is_refused_with_the_same_text(op: str, args: tuple, message: str) -> None:
    with pytest.raises(Exception) as error:
        run(op, args)
    assert type(error.value).__module__.startswith("onnxruntime")
    assert f"opserve::{op}: {message}" in str(error.value)


def test_a_session_outlives_a_refused_input() -> None:
    rowptr, col = csr(9, 3, I64)
    args = (rowptr, col, None, random(9, 4, dtype=F32), random(4, 3, dtype=F32))
    loaded = session(model("graph_conv_csr", args))
    want = opserve_ops.graph_conv_csr(*args)
    for _ in range(3):
        with pytest.raises(Exception, match=re.escape("opserve::graph_conv_csr: rowptr must start at 0, got 1")):
            loaded.run(None, feed("graph_conv_csr", (rowptr + 1, *args[1:])))
        (got,) = loaded.run(None, feed("graph_conv_csr", args))
        assert_same(torch.from_numpy(got), want, "after a refusal")


@pytest.mark.parametrize(
    ("op", "args", "attributes", "message"),
    [
        ("scaled_add", (random(3),) * 2, {"alpha": 2}, "the attribute alpha must be a FLOAT, got another type"),
        ("scaled_add", (random(3),) * 2, {"alpha": "2"}, "the attribute alpha must be a FLOAT, got another type"),
        ("scaled_add", (random(3),) * 2, {"alpha": [2.0]}, "the attribute alpha must be a FLOAT, got another type"),
        (
            "scaled_add",
            (random(3),) * 2,
            {"alpha_f64": 2.0},
            "the attribute alpha_f64 must be a TENSOR of one float64, got another type",
        ),
        (
            "scaled_add",
            (random(3),) * 2,
            {"alpha_f64": helper.make_tensor("", TensorProto.FLOAT, [1], [2.0])},
            "the attribute alpha_f64 must be a TENSOR of one float64, got another type",
        ),
        (
            "scaled_add",
            (random(3),) * 2,
            {"alpha_f64": helper.make_tensor("", TensorProto.DOUBLE, [2], [2.0, 2.0])},
            "the attribute alpha_f64 must be a TENSOR of one float64, got another type",
        ),
        (
            "gcn_norm",
            (*csr(5, 2, I64), random(len(csr(5, 2, I64)[1]))),
            {"fill_value": 2},
            "the attribute fill_value must be a FLOAT, got another type",
        ),
        ("warp_perspective", (random(5, 5), HOMOGRAPHY), {"size": 8}, "the attribute size must be INTS, got another"),
        ("warp_perspective", (random(5, 5), HOMOGRAPHY), {"size": [8.0, 8.0]}, "the attribute size must be INTS"),
        (
            "warp_perspective",
            (random(5, 5), HOMOGRAPHY),
            {"size": [1] * 100},
            "size must be (height, width), 2 numbers, got 100",
        ),
        ("warp_perspective", (random(5, 5), HOMOGRAPHY), {"size": [8, -1]}, "size[1] must be at least 0"),
    ],
)
def test_a_wrong_attribute_is_refused_before_the_first_run(
    op: str, args: tuple, attributes: dict, message: str
) -> None:
    with pytest.raises(Exception, match=re.escape(f"opserve::{op}: {message}")):
        session(model(op, args, attributes=attributes))


def test_attributes_that_are_left_out_have_pytorchs_defaults() -> None:
    x, y, image = random(7), random(7, seed=1), random(9, 9)
    graph = (*csr(7, 2, I64), random(len(csr(7, 2, I64)[1])).abs())
    for op, args in (("scaled_add", (x, y)), ("gcn_norm", graph), ("warp_perspective", (image, HOMOGRAPHY))):
        got = run_in(session(model(op, args, attributes={})), op, args)
        assert_same(got, getattr(opserve_ops, op)(*args), op)


def test_alpha_is_exact_in_float64() -> None:
    x, y = random(101), random(101, seed=1)
    assert_same(run("scaled_add", (x, y, 0.1)), opserve_ops.scaled_add(x, y, 0.1), "0.1")
    assert_same(run("scaled_add", (x, y, 1e300)), opserve_ops.scaled_add(x, y, 1e300), "1e300")


@pytest.mark.parametrize("op", OPS)
def test_constants_are_folded_before_the_first_run(op: str) -> None:
    """There the operator runs without a thread pool and without a session."""
    for sample in SAMPLES[op](F32):
        got = session(model(op, sample.args, constant=True)).run(None, {})
        want = results(getattr(opserve_ops, op)(*sample.args))
        assert_same(tuple(torch.from_numpy(array) for array in got), want, sample.name)


INFERRED: list[tuple[str, tuple, dict[str, Shape], Shape | None]] = [
    ("scaled_add", (random(2, 3),) * 2, {"x": ["n", 3], "y": ["n", 3]}, ["n", 3]),
    ("scaled_add", (random(2, 3),) * 2, {"x": ["n", None], "y": [2, 3]}, [2, 3]),
    ("scaled_add", (random(2, 3),) * 2, {"x": [None, "f"], "y": ["n", "g"]}, ["n", "f"]),
    # A size that is neither known nor named cannot be passed on, and the rank with it.
    ("scaled_add", (random(2, 3),) * 2, {"x": [None, 3], "y": [None, 3]}, None),
    (
        "graph_conv",
        (random(5, 5), random(5, 2), random(2, 4)),
        {"a": ["n", "n"], "x": ["n", 2], "weight": [2, 4]},
        ["n", 4],
    ),
    (
        "graph_conv",
        (random(5, 5), random(5, 2), random(2, 4), random(4)),
        {"a": ["n", 5], "x": [None, 2], "weight": [None, None], "bias": ["k"]},
        [5, "k"],
    ),
    (
        "graph_conv_csr",
        (*csr(5, 2, I64), None, random(5, 2), random(2, 4)),
        {"rowptr": ["n1"], "col": ["nnz"], "x": ["n", 2], "weight": [2, 4]},
        ["n", 4],
    ),
    (
        "graph_conv_csr",
        (*csr(5, 2, I64), random(len(csr(5, 2, I64)[1])), random(5, 2), random(2, 4), random(4)),
        {"rowptr": [None], "col": [None], "value": [None], "x": ["n", "f"], "weight": ["f", None], "bias": [4]},
        ["n", 4],
    ),
    ("warp_perspective", (random(5, 5), HOMOGRAPHY, [3, 6]), {"image": ["h", "w"], "matrix": [3, 3]}, [3, 6]),
    (
        "warp_perspective",
        (random(2, 1, 5, 5), HOMOGRAPHY),
        {"image": ["batch", 1, None, "w"], "matrix": [3, 3]},
        ["batch", 1, 8, 8],
    ),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("op", "args", "shapes", "expected"), INFERRED)
def test_shapes_are_inferred(
    op: str, args: tuple, shapes: dict[str, Shape], expected: Shape | None, dtype: torch.dtype
) -> None:
    args = map_tensors(args, lambda t: t.to(dtype) if t.is_floating_point() else t)
    loaded = session(model(op, args, shapes))
    (output,) = loaded.get_outputs()
    assert output.shape == (expected or [])
    assert output.type == {F32: "tensor(float)", F64: "tensor(double)"}[dtype]
    (got,) = loaded.run(None, feed(op, args))
    assert_same(torch.from_numpy(got), getattr(opserve_ops, op)(*args), "with the shape")


def test_two_sessions_at_a_time() -> None:
    rowptr, col = csr(200, 6, I32)
    args = (rowptr, col, None, random(200, 33, dtype=F32), random(33, 17, dtype=F32))
    want = opserve_ops.graph_conv_csr(*args)
    serialized = model("graph_conv_csr", args)
    sessions = [session(serialized, 2), session(serialized, 2)]

    def repeat(index: int) -> None:
        for _ in range(50):
            (got,) = sessions[index % 2].run(None, feed("graph_conv_csr", args))
            assert_same(torch.from_numpy(got), want, str(index))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(repeat, range(4)))


def test_registering_twice_is_registering_once(tmp_path: Path) -> None:
    args = (random(3), random(3))
    serialized = model("scaled_add", args)
    options = opserve_ops.onnx.session_options()
    options.register_custom_ops_library(str(LIBRARY))
    # The same options serve several sessions too.
    for _ in range(2):
        loaded = onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
        (got,) = loaded.run(None, feed("scaled_add", args))
        assert_same(torch.from_numpy(got), opserve_ops.scaled_add(*args), "twice")


def test_one_session_takes_one_of_the_libraries() -> None:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("opserve.library", "libopserve_onnxruntime_cuda")
    with pytest.raises(Exception, match="got libopserve_onnxruntime after libopserve_onnxruntime_cuda"):
        options.register_custom_ops_library(str(LIBRARY))


WITHOUT_PYTORCH = """
import sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.register_custom_ops_library(sys.argv[1])
session = onnxruntime.InferenceSession(sys.argv[2], options, providers=["CPUExecutionProvider"])
x = numpy.arange(5, dtype=numpy.float32)
assert (session.run(None, {"x": x, "y": x})[0] == 3 * x).all()
assert "torch" not in sys.modules
assert "libtorch" not in open("/proc/self/maps").read()
"""


def test_needs_no_pytorch(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model("scaled_add", (random(5, dtype=F32),) * 2))
    copy = tmp_path / "renamed.so"
    copy.write_bytes(LIBRARY.read_bytes())
    result = run_python(WITHOUT_PYTORCH, copy, path)
    assert result.returncode == 0, result.stderr


def test_exports_what_the_runtime_looks_for_and_nothing_else() -> None:
    symbols = read_tool("nm", "-D", "--defined-only", LIBRARY)
    assert [line.split()[2] for line in symbols.splitlines()] == ["RegisterCustomOps"]


def test_needs_only_the_system_and_has_no_search_path() -> None:
    assert_needs_only(LIBRARY)


def test_cannot_throw() -> None:
    """No exception can cross into the runtime: none is thrown, by us or by the runtime's C++ headers."""
    symbols = read_tool("nm", "-D", "--undefined-only", LIBRARY)
    assert "__cxa_throw" not in symbols
    assert "__cxa_allocate_exception" not in symbols


def test_holds_no_path_of_the_machine_that_built_it() -> None:
    assert_holds_no_path(LIBRARY)


OLD_STATUS = 0x1234


def register_with(offered: range) -> tuple[int | None, list[int], list[str]]:
    """Calls RegisterCustomOps as a runtime that offers these API versions, of which only CreateStatus works."""
    asked: list[int] = []
    texts: list[str] = []

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
    def create_status(_: int, text: bytes) -> int:
        texts.append(text.decode())
        return OLD_STATUS

    # Its place in the table, the first, is part of the runtime's promise.
    table = (ctypes.c_void_p * 1)(ctypes.cast(create_status, ctypes.c_void_p))

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)
    def get_api(version: int) -> int | None:
        asked.append(version)
        return ctypes.addressof(table) if version in offered else None

    version_text = ctypes.create_string_buffer(b"1.9.0")

    @ctypes.CFUNCTYPE(ctypes.c_void_p)
    def get_version() -> int:
        return ctypes.addressof(version_text)

    base = (ctypes.c_void_p * 2)(ctypes.cast(get_api, ctypes.c_void_p), ctypes.cast(get_version, ctypes.c_void_p))
    register = ctypes.CDLL(str(LIBRARY)).RegisterCustomOps
    register.restype = ctypes.c_void_p
    register.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    return register(None, ctypes.addressof(base)), asked, texts


def test_a_runtime_that_is_too_old_is_told_so() -> None:
    status, asked, texts = register_with(range(1, 18))
    assert asked[0] == 18
    assert status == OLD_STATUS
    assert texts == ["opserve: the operators need ONNX Runtime 1.18 or newer, this is 1.9.0"]


def test_a_runtime_that_offers_nothing_is_not_called() -> None:
    status, asked, _ = register_with(range(0))
    assert status is None
    assert asked == [18, 1]


def test_a_missing_library_is_an_error_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "libopserve_torch.so").symlink_to(opserve_ops.library_path())
    code = "import opserve_ops.onnx; opserve_ops.onnx.session_options()"
    result = run_python(code, env={"OPSERVE_LIBRARY_DIR": str(tmp_path)})
    assert result.stderr.strip().splitlines()[-1] == (
        f"ImportError: opserve_ops: libopserve_onnxruntime.so not found in {tmp_path}. Build it with: make ext"
    )


def test_session_options_report_what_the_runtime_reports(tmp_path: Path) -> None:
    (tmp_path / "libopserve_torch.so").symlink_to(opserve_ops.library_path())
    (tmp_path / "libopserve_onnxruntime.so").write_bytes(b"not a library")
    code = "import opserve_ops.onnx; opserve_ops.onnx.session_options()"
    result = run_python(code, env={"OPSERVE_LIBRARY_DIR": str(tmp_path)})
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: ")
    assert str(tmp_path / "libopserve_onnxruntime.so") in last
