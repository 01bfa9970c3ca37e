"""A training step (forward and backward) of graph_conv and graph_conv_csr against the same in PyTorch."""

from collections.abc import Callable, Iterator
from functools import cache, partial

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

import opserve_ops
from benchmarks.common.comparison import Call, Comparison
from benchmarks.ops import graph_conv, graph_conv_csr
from benchmarks.ops.native import load_pybind_module

DENSE_NODES = (34, 200, 2000)
SPARSE_NODES = (34, 1000, 2700, 20_000)
FEATURES = ((16, 7), (64, 64), (1433, 16))
DEGREE = 4


class InPython(torch.autograd.Function):
    """graph_conv in ATen's operators; the backward computes only the gradients that are needed."""

    @staticmethod
    def forward(ctx: FunctionCtx, a: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Computes a·(x·w) + b: float32 [n, k]."""
        ctx.save_for_backward(a, x, weight)
        return torch.addmm(bias, a, x @ weight)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Computes the gradients of a, x, weight and bias."""
        a, x, weight = ctx.saved_tensors
        before = a.mT @ grad
        output_mask = ctx.needs_input_grad
        return (
            grad @ (x @ weight).mT if output_mask[0] else None,
            before @ weight.mT if output_mask[1] else None,
            x.mT @ before if output_mask[2] else None,
            grad.sum(0) if output_mask[3] else None,
        )


@cache
def _pybind_function() -> type[torch.autograd.Function]:
    module = load_pybind_module()

    class Pybind(torch.autograd.Function):
        @staticmethod
        def forward(ctx: FunctionCtx, a: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            ctx.save_for_backward(a, x, weight)
            return module.graph_conv_forward(a, x, weight, bias)

        @staticmethod
        def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
            return tuple(module.graph_conv_backward(grad, *ctx.saved_tensors, ctx.needs_input_grad))

    return Pybind


def comparisons(*, quick: bool) -> Iterator[Comparison]:
    """Generates the comparisons."""
    features = FEATURES[:2] if quick else FEATURES
    for n in (34, 200) if quick else DENSE_NODES:
        for f, k in features:
            yield from _compare_dense(n, f, k)
    for n in (34, 1000) if quick else SPARSE_NODES:
        graph = graph_conv_csr.random_graph(n, DEGREE)
        for f, k in features:
            yield _compare_sparse(n, *graph, f, k)


def _compare_dense(n: int, f: int, k: int) -> Iterator[Comparison]:
    a, *rest = graph_conv.operands(n, f, k)
    x, weight, bias = (tensor.requires_grad_() for tensor in rest)
    grad = torch.randn(n, k, generator=torch.Generator().manual_seed(n))

    def step(forward: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> Call:
        return lambda: torch.autograd.grad(forward(a, x, weight, bias), (x, weight, bias), grad)

    plain = {
        "a.mm(x).mm(w) + b": step(lambda a, x, w, b: a.mm(x).mm(w) + b),
        "a.mm(x.mm(w)) + b": step(lambda a, x, w, b: a.mm(x.mm(w)) + b),
        "addmm(b, a.mm(x), w)": step(lambda a, x, w, b: torch.addmm(b, a.mm(x), w)),
    }
    ours, pybind = step(opserve_ops.graph_conv), step(_pybind_function().apply)
    in_python = step(InPython.apply)
    compare = partial(Comparison, case=f"n={n} {f}→{k}", goal=1.0, floor=1.0, gradients=True)
    compare_ours = partial(compare, subject="graph_conv, training", ours=ours)
    yield compare_ours(baseline="plain PyTorch", forms=plain)
    yield compare(subject="the pybind11 module, training", ours=pybind, baseline="plain PyTorch", forms=plain)
    yield compare_ours(baseline="a Python autograd.Function", forms={"autograd.Function": in_python})
    yield compare_ours(baseline="the pybind11 module", forms={"pybind11": pybind})


def _compare_sparse(n: int, rowptr: Tensor, col: Tensor, value: Tensor, f: int, k: int) -> Comparison:
    generator = torch.Generator().manual_seed(f + k)
    x = torch.randn(n, f, generator=generator).requires_grad_()
    weight = (torch.randn(f, k, generator=generator) / f**0.5).requires_grad_()
    bias = torch.randn(k, generator=generator).requires_grad_()
    grad = torch.randn(n, k, generator=generator)
    a = graph_conv_csr.sparse_matrix(rowptr, col, value)

    def step(forward: Callable[[], Tensor]) -> Call:
        return lambda: torch.autograd.grad(forward(), (x, weight, bias), grad)

    return Comparison(
        subject="graph_conv_csr, training",
        baseline="torch.sparse CSR (MKL)",
        case=f"n={n} degree={DEGREE} {f}→{k}",
        ours=step(lambda: opserve_ops.graph_conv_csr(rowptr, col, value, x, weight, bias)),
        forms={
            "a @ (x @ w) + b": step(lambda: a @ (x @ weight) + bias),
            "addmm(b, a @ x, w)": step(lambda: torch.addmm(bias, a @ x, weight)),
        },
        goal=1.0,
        gradients=True,
    )
