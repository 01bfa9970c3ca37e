"""The operators for ONNX Runtime's CUDA execution provider: the library file, and their call path, emulated on the CPU.

On a GPU they run in test_parity.
"""

import re
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

import opserve_ops.onnx
from archive.packer.requirements import read_requirements
from opserve_ops import reference
from tests.extensions import test_rejected
from tests.extensions.library_file import assert_holds_no_path, assert_needs_only, read_tool
from tests.extensions.native_build import cmake_build
from tests.extensions.onnx_nodes import assert_same, feed, model, output_names, run_bound, run_in, split
from tests.extensions.samples import HOMOGRAPHY, OPS, SAMPLES, csr, map_tensors, random, results
from tests.extensions.test_cuda import ALL_DTYPES, NAN, assert_near, exact
from tests.extensions.test_cuda_library import kernels_of, without_gpu

LIBRARY = opserve_ops.onnx.library_path()
CUDA_LIBRARY = LIBRARY.with_name("libopserve_onnxruntime_cuda.so")

built = pytest.mark.skipif(
    not CUDA_LIBRARY.is_file() and shutil.which("nvcc") is None, reason="no CUDA compiler to build it with"
)


# --- the file


@built
def test_was_built() -> None:
    """With a CUDA compiler at hand the build includes it; nothing about a GPU."""
    assert CUDA_LIBRARY.is_file(), "a CUDA compiler is here, but the library was not built: make ext CUDA=on says why"


@built
def test_exports_what_the_runtime_looks_for_and_nothing_else() -> None:
    symbols = read_tool("nm", "-D", "--defined-only", CUDA_LIBRARY)
    assert [line.split()[2] for line in symbols.splitlines()] == ["RegisterCustomOps"]


@built
def test_has_no_search_path_and_needs_only_the_system() -> None:
    # Its own CUDA runtime; the driver is opened when it is used.
    assert_needs_only(CUDA_LIBRARY, "rt")
    undefined = {line.split()[-1] for line in read_tool("nm", "-D", "--undefined-only", CUDA_LIBRARY).splitlines()}
    assert not {name for name in undefined if name.startswith(("cuda", "__cuda", "cu", "Ort"))}
    # No exception can cross into the runtime.
    assert not undefined & {"__cxa_throw", "__cxa_allocate_exception"}


@built
def test_says_what_it_was_built_for() -> None:
    needs, of_the_cpu = read_requirements(CUDA_LIBRARY), read_requirements(LIBRARY)
    assert needs.onnxruntime_api == of_the_cpu.onnxruntime_api == 18
    assert needs.cuda_programs
    assert needs.cuda_intermediate
    assert {("program", 80), ("program", 90), ("intermediate", 90)} <= kernels_of(CUDA_LIBRARY)
    # The operators without it would be taken for ones of the CPU.
    assert b"CUDAExecutionProvider\0" in CUDA_LIBRARY.read_bytes()


@built
def test_holds_no_path_of_the_machine_that_built_it() -> None:
    assert_holds_no_path(CUDA_LIBRARY, "tmpxft")


# --- without a GPU


@built
@pytest.mark.parametrize("op", OPS)
def test_serves_the_cpu_as_well(op: str) -> None:
    """One library for a model that may find a GPU or not; registering it takes no driver."""
    for sample in list(SAMPLES[op](torch.float32))[-4:]:
        options = opserve_ops.onnx.session_options(cuda=True)
        session = onnxruntime.InferenceSession(model(op, sample.args), options, providers=["CPUExecutionProvider"])
        assert_same(run_in(session, op, sample.args), getattr(opserve_ops, op)(*sample.args), sample.name)


@built
def test_one_session_takes_one_of_the_libraries() -> None:
    options = opserve_ops.onnx.session_options(cuda=True)
    options.register_custom_ops_library(str(CUDA_LIBRARY))
    with pytest.raises(Exception, match="got libopserve_onnxruntime after libopserve_onnxruntime_cuda"):
        options.register_custom_ops_library(str(LIBRARY))


@built
@without_gpu
def test_a_missing_gpu_is_refused_where_falling_back_is_not_allowed() -> None:
    options = opserve_ops.onnx.session_options(cuda=True)
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.log_severity_level = 4
    with pytest.raises(Exception, match="CPU"):
        onnxruntime.InferenceSession(
            model("scaled_add", (random(3), random(3))), options, providers=["CUDAExecutionProvider"]
        )


def test_a_library_that_was_not_built_is_an_error_with_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSERVE_LIBRARY_DIR", str(tmp_path))
    with pytest.raises(ImportError, match=r"libopserve_onnxruntime_cuda.so not found in .*Build it with: make ext"):
        opserve_ops.onnx.session_options(cuda=True)


# --- the call path, with the kernels emulated


@pytest.fixture(scope="module")
def options() -> onnxruntime.SessionOptions:
    found = onnxruntime.SessionOptions()
    found.register_custom_ops_library(str(cmake_build() / "lib" / "libopserve_onnxruntime_emulated.so"))
    found.log_severity_level = 4
    # A constant may be computed by the operators of the CPU, which are not in this library.
    found.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return found


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
@pytest.mark.parametrize("op", OPS)
def test_matches_reference(op: str, dtype: torch.dtype, options: onnxruntime.SessionOptions) -> None:
    sessions: dict[bytes, onnxruntime.InferenceSession] = {}
    for sample in SAMPLES[op](dtype):
        serialized = model(op, sample.args)
        if serialized not in sessions:
            sessions[serialized] = onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
        expected = results(getattr(reference, op)(*exact(sample.args)))
        tensors = {name: tensor.contiguous() for name, tensor in split(op, sample.args)[0].items()}
        found = tuple(
            torch.full_like(each, NAN, dtype=dtype) if each.is_floating_point() else torch.full_like(each, -1)
            for each in expected
        )
        run_bound(sessions[serialized], tensors, dict(zip(output_names(op), found, strict=True)))
        assert_near(found, expected, sample.roundings, sample.name)


@pytest.mark.parametrize(
    ("op", "args", "message"),
    [case for case in test_rejected.SHAPES if not any(isinstance(a, Tensor) and a.is_complex() for a in case[1])],
    ids=test_rejected.case_id,
)
def test_rejects_what_the_cpu_rejects(op: str, args: tuple, message: str, options: onnxruntime.SessionOptions) -> None:
    with pytest.raises(Exception, match=re.escape(f"opserve::{op}: {message}")):
        onnxruntime.InferenceSession(model(op, args), options, providers=["CPUExecutionProvider"]).run(
            None, feed(op, args)
        )


def test_what_cannot_be_checked_without_waiting_comes_out_nan(options: onnxruntime.SessionOptions) -> None:
    rowptr, col = csr(9, 3, torch.int64)
    x, weight = random(9, 4, dtype=torch.float32), random(4, 3, dtype=torch.float32)
    args = (rowptr, col, None, x, weight)
    session = onnxruntime.InferenceSession(model("graph_conv_csr", args), options, providers=["CPUExecutionProvider"])
    broken = col.clone()
    broken[0] = 2**40
    (result,) = session.run(None, feed("graph_conv_csr", (rowptr, broken, *args[2:])))
    (row,) = np.flatnonzero(np.isnan(result).any(axis=1))
    assert rowptr[row] <= 0 < rowptr[row + 1]
    image = random(8, 8, dtype=torch.float32)
    args = (image, HOMOGRAPHY * NAN)
    session = onnxruntime.InferenceSession(model("warp_perspective", args), options, providers=["CPUExecutionProvider"])
    assert np.isnan(session.run(None, feed("warp_perspective", args))[0]).all()


def test_a_type_that_no_kernel_serves_is_left_to_the_cpu(options: onnxruntime.SessionOptions) -> None:
    args = map_tensors((random(3), random(3)), lambda t: t.int())
    with pytest.raises(Exception, match="ScaledAdd"):
        onnxruntime.InferenceSession(model("scaled_add", args), options, providers=["CPUExecutionProvider"])
