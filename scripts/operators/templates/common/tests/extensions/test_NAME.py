"""${name}: against the reference in every runtime, its gradients, and what it refuses."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import opserve_ops
from opserve_ops import reference
from tests.extensions import onnx_nodes
from tests.extensions.cuda_backend import Backend
from tests.extensions.cuda_backend import emulated as emulated
from tests.extensions.samples import DTYPES, random
from tests.extensions.test_forward import contiguous, every_second, offset, transposed

SHAPES = $shapes
SCALE = -0.3
HALF = (torch.float16, torch.bfloat16)
LAYOUTS = pytest.mark.parametrize("layout", [contiguous, transposed, every_second, offset])


def assert_near(got: Tensor, want: Tensor) -> None:
    """Expects a result within a few roundings of the reference in float64, relative to the largest element."""
    assert got.is_contiguous()
    assert got.shape == want.shape
    largest = max(want.abs().max().item(), 1.0) if want.numel() else 1.0
    torch.testing.assert_close(got.double(), want, rtol=0, atol=16 * torch.finfo(got.dtype).eps * largest)


@LAYOUTS
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(shape: tuple[int, ...], dtype: torch.dtype, layout: Callable[[Tensor], Tensor]) -> None:
    x = layout(random(*shape, dtype=dtype))
    got = opserve_ops.${name}(x, SCALE)
    assert got.dtype == dtype
    assert_near(got, reference.${name}(x.double(), SCALE))


@pytest.mark.parametrize("dtype", [*DTYPES, *HALF], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_cuda_kernels_match_reference(shape: tuple[int, ...], dtype: torch.dtype, emulated: Backend) -> None:
    x = random(*shape, dtype=dtype)
    exact = x.double().requires_grad_()
    want = reference.${name}(exact, SCALE)
    grad = random(*want.shape, dtype=dtype, seed=1)
    assert_near(emulated.call("${name}", x, SCALE), want.detach())
    (gradient,) = torch.autograd.grad(want, exact, grad.double())
    assert_near(emulated.call("_${name}_backward", grad, x, SCALE), gradient)


@LAYOUTS
@pytest.mark.parametrize("shape", SHAPES[:$small], ids=str)
def test_gradcheck(shape: tuple[int, ...], layout: Callable[[Tensor], Tensor]) -> None:
    x = layout(random(*shape)).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: opserve_ops.${name}(x, SCALE), x)


def test_opcheck() -> None:
    x = random(4, 5)
    grad = torch.ones_like(reference.${name}(x))
    torch.library.opcheck(torch.ops.opserve.${name}.default, (x.clone().requires_grad_(), SCALE))
    utilities = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(torch.ops.opserve._${name}_backward.default, (grad, x, SCALE), test_utils=utilities)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_and_scripted(tmp_path: Path) -> None:
    def square(x: Tensor) -> Tensor:
        return torch.ops.opserve.${name}(x, -0.3)

    path = str(tmp_path / "model.pt")
    torch.jit.script(square).save(path)
    loaded, compiled = torch.jit.load(path), torch.compile(square, backend="aot_eager", dynamic=True)
    for size in (7, 40, 0):
        x = random(size, 3)
        assert torch.equal(loaded(x), square(x))
        assert torch.equal(compiled(x), square(x))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_onnx_runtime_computes_the_same(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = random(*shape, dtype=dtype)
    onnx_nodes.assert_same(onnx_nodes.run("${name}", (x, SCALE)), opserve_ops.${name}(x, SCALE), str(shape))


X = torch.ones(3, 2)
GRAD = reference.${name}(X)
REFUSED = [
    ("${name}", (X.int(),), "x must be of a floating-point dtype, got int32"),
    ("${name}", (X.half(),), "x must be float32 or float64 on the CPU, got float16"),
$refused
    ("_${name}_backward", (GRAD.double(), X, 1.0), "grad must have the dtype of x, float32, got float64"),
]


@pytest.mark.parametrize(("op", "args", "message"), REFUSED)
def test_wrong_arguments_are_refused(op: str, args: tuple, message: str) -> None:
    with pytest.raises(RuntimeError, match=re.escape(f"opserve::{op}: {message}")):
        getattr(torch.ops.opserve, op)(*args)
