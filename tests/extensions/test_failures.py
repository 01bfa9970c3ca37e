"""Errors that are not the arguments' fault: a lack of memory, and a GPU that fails.

Their messages differ from those about arguments, so that a server knows whose fault it was. The GPU is the emulated
one, whose runtime reports the errors that a test requests.
"""

import ctypes
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import onnxruntime
import pytest
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors

import opserve_ops
from archive.repository import ROOT
from opserve_ops import reference
from tests.extensions.cuda_backend import Backend
from tests.extensions.cuda_backend import emulated as emulated
from tests.extensions.native_build import cmake_build
from tests.extensions.onnx_nodes import feed, model
from tests.extensions.samples import OPS, SAMPLES, csr, random, results
from tests.extensions.test_library import run_python

F32 = torch.float32
EYE = torch.eye(3)
# 2^60 bytes: more than any machine has, and fewer than 2^63.
HUGE = (random(3, 4, dtype=F32), EYE, [2**29, 2**29])

OUT_OF_MEMORY, ILLEGAL_ADDRESS = 2, 700
BROKEN = "the GPU reports cudaErrorIllegalAddress: an illegal memory access was encountered"
EXHAUSTED = "out of memory: the GPU has none left"


def onnx_session(library: Path, op: str, args: tuple) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(library))
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model(op, args), options, providers=["CPUExecutionProvider"])


def library(name: str) -> Path:
    return cmake_build() / "lib" / f"lib{name}.so"


# --- memory


def test_pytorch_has_no_memory_for_the_result() -> None:
    text = re.escape("opserve::warp_perspective: out of memory: cannot allocate a tensor of ")
    for call in (opserve_ops.warp_perspective, torch.jit.script(Warp())):
        with pytest.raises(RuntimeError, match=text):
            call(*HUGE)


class Warp(torch.nn.Module):
    def forward(self, image: torch.Tensor, matrix: torch.Tensor, size: list[int]) -> torch.Tensor:
        return torch.ops.opserve.warp_perspective(image, matrix, size)


@pytest.mark.parametrize("name", ["opserve_onnxruntime", "opserve_onnxruntime_emulated"])
def test_onnx_runtime_has_no_memory_for_the_result(name: str) -> None:
    session = onnx_session(library(name), "warp_perspective", HUGE)
    text = re.escape(f"opserve::warp_perspective: out of memory: cannot allocate a result of {2**58} elements")
    with pytest.raises(runtime_errors.Fail, match=text):
        session.run(None, feed("warp_perspective", HUGE))


LITTLE_MEMORY = """
import json, pathlib, resource, sys
sys.path[:0] = sys.argv[1:2]
import torch, onnxruntime
from tests.extensions.onnx_nodes import feed, model
from tests.extensions.samples import random
import opserve_ops
torch.set_num_threads(1)

def limited(call):
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 100_000_000, resource.RLIM_INFINITY))
    try:
        call()
        return "nothing was refused", ""
    except Exception as error:
        return type(error).__name__, str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

f = 40_000_000
op, args = "graph_conv", (random(2, 2, dtype=torch.float32), torch.ones(2, f), torch.ones(f, 2))
said = [limited(lambda: opserve_ops.graph_conv(*args))]
for arena in (True, False):
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(sys.argv[2])
    options.enable_cpu_mem_arena, options.log_severity_level, options.intra_op_num_threads = arena, 4, 1
    session = onnxruntime.InferenceSession(model(op, args), options, providers=["CPUExecutionProvider"])
    arrays = feed(op, args)
    said.append(limited(lambda: session.run(None, arrays)))
    # Nothing is broken: with the memory it works.
    session.run(None, arrays)
print(json.dumps(said))
"""


def test_there_is_no_memory_for_intermediate_results() -> None:
    """ONNX Runtime's allocator throws there, through an interface of C."""
    result = run_python(LITTLE_MEMORY, ROOT, library("opserve_onnxruntime"))
    assert result.returncode == 0, result.stderr
    pytorch, *of_the_runtime = json.loads(result.stdout.splitlines()[-1])
    assert pytorch[0] == "RuntimeError"
    assert pytorch[1].startswith("opserve::graph_conv: out of memory: cannot allocate a tensor of ")
    for kind, text in of_the_runtime:
        assert kind == "Fail", text
        assert re.search(r"opserve::graph_conv: out of memory: cannot allocate \d+ bytes for intermediate", text)


# --- the GPU


@pytest.fixture
def fail(emulated: Backend) -> Iterator[Callable[[str, int], None]]:
    """Makes a function of the CUDA runtime report an error; an empty name is all of them."""
    loaded = [ctypes.CDLL(str(library(name))) for name in ("opserve_emulated", "opserve_onnxruntime_emulated")]

    def in_both(function: str, error: int) -> None:
        for each in loaded:
            each.opserve_emulated_fail(function.encode(), error)

    yield in_both
    in_both("", 0)


def sample(op: str) -> tuple:
    """Arguments for which every operator has something to run."""
    return next(each.args for each in SAMPLES[op](F32) if results(getattr(reference, op)(*each.args))[-1].numel())


CASES = [
    ("cudaLaunchKernelEx", ILLEGAL_ADDRESS, BROKEN),
    ("cudaLaunchKernelEx", OUT_OF_MEMORY, EXHAUSTED),
    ("cudaGetLastError", ILLEGAL_ADDRESS, BROKEN),
    ("", ILLEGAL_ADDRESS, BROKEN),
]


@pytest.mark.parametrize(("function", "error", "text"), CASES)
@pytest.mark.parametrize("op", ["scaled_add", "graph_conv_csr", "gcn_norm", "warp_perspective"])
def test_pytorch_reports_a_launch_that_fails(
    op: str, function: str, error: int, text: str, emulated: Backend, fail: Callable
) -> None:
    fail(function, error)
    with pytest.raises(RuntimeError, match=f"^opserve::{op}: {re.escape(text)}"):
        emulated.call(op, *sample(op))
    fail("", 0)
    emulated.call(op, *sample(op))


@pytest.mark.parametrize("function", ["cudaMemcpyAsync", "cudaStreamSynchronize", "cudaMemsetAsync"])
def test_pytorch_reports_a_copy_that_fails(function: str, emulated: Backend, fail: Callable) -> None:
    rowptr, col = csr(9, 3, torch.int64)
    fail(function, ILLEGAL_ADDRESS)
    with pytest.raises(RuntimeError, match=f"^opserve::check_csr: {re.escape(BROKEN)}"):
        emulated.call("check_csr", rowptr, col, 9)


@pytest.mark.parametrize(("function", "error", "text"), CASES)
@pytest.mark.parametrize("op", OPS)
def test_onnx_runtime_reports_a_launch_that_fails(
    op: str, function: str, error: int, text: str, fail: Callable
) -> None:
    args = sample(op)
    session = onnx_session(library("opserve_onnxruntime_emulated"), op, args)
    fail(function, error)
    # With every function, the first to fail is the one that selects the device.
    pattern = f"opserve::{op if function else 'set_device'}: {re.escape(text)}"
    with pytest.raises(runtime_errors.EPFail if error == ILLEGAL_ADDRESS else runtime_errors.Fail, match=pattern):
        session.run(None, feed(op, args))
    fail("", 0)
    session.run(None, feed(op, args))


def test_an_allocation_that_fails_is_a_lack_of_memory(emulated: Backend, fail: Callable) -> None:
    text = r"^opserve::warp_perspective: out of memory: cannot allocate .*; 1 of the GPU's 1024 MiB are free$"
    with pytest.raises(RuntimeError, match=text):
        emulated.call("warp_perspective", *HUGE)


def test_an_allocation_that_fails_on_a_broken_gpu_is_none(emulated: Backend, fail: Callable) -> None:
    """After a fault every call fails; what is asked for says nothing of why."""
    fail("", ILLEGAL_ADDRESS)
    with pytest.raises(RuntimeError, match=f"^opserve::warp_perspective: {re.escape(BROKEN)}"):
        emulated.call("warp_perspective", *HUGE)


def test_a_complaint_about_arguments_is_told_from_both(emulated: Backend) -> None:
    args = (random(3, dtype=F32), random(4, dtype=F32))
    with pytest.raises(RuntimeError, match=r"^opserve::scaled_add: y must have size 3"):
        emulated.call("scaled_add", *args)
    with pytest.raises(runtime_errors.InvalidArgument, match=r"opserve::scaled_add: y must have size 3"):
        onnx_session(library("opserve_onnxruntime_emulated"), "scaled_add", args).run(None, feed("scaled_add", args))
