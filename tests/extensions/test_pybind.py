"""The classic pybind11 module, as one uses it: from a torch.autograd.Function."""

from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

import opserve_ops
from tests.extensions.native_build import pybind_module
from tests.extensions.samples import DTYPES, random


@pytest.fixture(scope="module")
def kernels() -> ModuleType:
    return pybind_module()


def autograd_functions(kernels: ModuleType) -> tuple[type[torch.autograd.Function], type[torch.autograd.Function]]:
    """What a person writes around such a module."""

    class ScaledAdd(torch.autograd.Function):
        @staticmethod
        def forward(ctx: FunctionCtx, x: Tensor, y: Tensor, alpha: float) -> Tensor:
            ctx.alpha = alpha
            return kernels.scaled_add_forward(x, y, alpha)

        @staticmethod
        def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
            return (*kernels.scaled_add_backward(grad, ctx.alpha), None)

    class GraphConv(torch.autograd.Function):
        @staticmethod
        def forward(ctx: FunctionCtx, a: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            ctx.save_for_backward(a, x, weight)
            return kernels.graph_conv_forward(a, x, weight, bias)

        @staticmethod
        def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
            return tuple(kernels.graph_conv_backward(grad, *ctx.saved_tensors, ctx.needs_input_grad))

    return ScaledAdd, GraphConv


def test_scaled_add_with_its_gradient(kernels: ModuleType) -> None:
    function, _ = autograd_functions(kernels)
    for shape in ((), (0,), (3, 5)):
        x, y = random(*shape).requires_grad_(), random(*shape, seed=1).requires_grad_()
        assert torch.equal(function.apply(x, y, -0.3), opserve_ops.scaled_add(x.detach(), y.detach(), -0.3))
        assert torch.autograd.gradcheck(lambda x, y: function.apply(x, y, -0.3), (x, y))


@pytest.mark.parametrize(("n", "f", "k"), [(5, 4, 3), (5, 3, 4), (1, 1, 1), (0, 3, 2), (3, 0, 2), (3, 2, 0)])
def test_graph_conv_with_its_gradient(n: int, f: int, k: int, kernels: ModuleType) -> None:
    _, function = autograd_functions(kernels)
    shapes = ((n, n), (n, f), (f, k), (k,))
    for needed in ((0, 1, 2, 3), (0,), (1,), (2,), (3,)):
        tensors = [random(*shape, seed=i).requires_grad_(i in needed) for i, shape in enumerate(shapes)]
        expected = opserve_ops.graph_conv(*(tensor.detach() for tensor in tensors))
        assert torch.equal(function.apply(*tensors), expected)
        assert torch.autograd.gradcheck(function.apply, tensors)


def test_layouts(kernels: ModuleType) -> None:
    a, x, weight = random(6, 6), random(6, 8), random(8, 3)
    expected = a @ x @ weight
    for arrange in (lambda t: t.mT.contiguous().mT, lambda t: torch.cat((t, t), 1)[:, : t.size(1)]):
        got = kernels.graph_conv_forward(arrange(a), arrange(x), arrange(weight))
        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(kernels.scaled_add_forward(arrange(x), x, 1.0), 2 * x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_are_those_of_the_operators(dtype: torch.dtype, kernels: ModuleType) -> None:
    """To the last bit: they are the same kernels."""
    a, x, weight, grad = (random(*shape, dtype=dtype) for shape in ((60, 60), (60, 33), (33, 17), (60, 17)))
    for arrange in (Tensor.contiguous, lambda t: t.mT.contiguous().mT, lambda t: torch.cat((t, t), 1)[:, : t.size(1)]):
        args = tuple(map(arrange, (grad, a, x, weight)))
        want = torch.ops.opserve._graph_conv_backward(*args, [True] * 4)
        for got, expected in zip(kernels.graph_conv_backward(*args), want, strict=True):
            assert torch.equal(got, expected)
        want = torch.ops.opserve._scaled_add_backward(args[0], 0.3)
        for got, expected in zip(kernels.scaled_add_backward(args[0], 0.3), want, strict=True):
            assert torch.equal(got, expected)
    expanded = grad[:1, :1].expand(60, 17)
    want = torch.ops.opserve._graph_conv_backward(expanded, a, x, weight, [True] * 4)
    for got, expected in zip(kernels.graph_conv_backward(expanded, a, x, weight), want, strict=True):
        assert torch.equal(got, expected)


def test_gradients_that_are_not_needed_are_none(kernels: ModuleType) -> None:
    gradients = kernels.graph_conv_backward(
        random(3, 2), random(3, 3), random(3, 4), random(4, 2), needs=[False, True, False, False]
    )
    assert [gradient is not None for gradient in gradients] == [False, True, False, False]


def test_what_does_not_fit_is_refused(kernels: ModuleType) -> None:
    with pytest.raises(RuntimeError, match=r"^opserve::scaled_add: y must have size 3 in dimension 0"):
        kernels.scaled_add_forward(random(3), random(4))
    with pytest.raises(RuntimeError, match=r"^opserve::graph_conv: weight must have f = 4 rows, got 5$"):
        kernels.graph_conv_forward(random(3, 3), random(3, 4), random(5, 2))
    with pytest.raises(RuntimeError, match=r"^opserve::_graph_conv_backward: grad must have n = 3 rows, got 2$"):
        kernels.graph_conv_backward(random(2, 3), random(3, 3), random(3, 4), random(4, 2))
    with pytest.raises(RuntimeError, match=r"^opserve::_graph_conv_backward: grad must have the dtype of x, float64"):
        kernels.graph_conv_backward(random(3, 2).float(), random(3, 3), random(3, 4), random(4, 2))
    with pytest.raises(RuntimeError, match=r"must be float32 or float64 on the CPU, got float16$"):
        kernels.graph_conv_backward(*(random(3, 3).half() for _ in range(4)))
    with pytest.raises(RuntimeError, match=r"must be of a floating-point dtype, got int64$"):
        kernels.scaled_add_backward(torch.zeros(3, dtype=torch.int64))
    for name, count in {"scaled_add_forward": 2, "scaled_add_backward": 1, "graph_conv_backward": 4}.items():
        with pytest.raises(RuntimeError, match=f"{name} runs on the CPU only"):
            getattr(kernels, name)(*(random(3, 3).to("meta") for _ in range(count)))
