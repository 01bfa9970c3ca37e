"""A training step, forward and backward, of graph_conv and graph_conv_csr against what one would write in PyTorch."""

import warnings
from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

import opserve_ops
from benchmarks.ops import _native, graph_conv, graph_conv_csr
from benchmarks.ops_bench import Call, Contest

DENSE_NODES = (34, 200, 2000)
SPARSE_NODES = (34, 1000, 2700, 20_000)
FEATURES = ((16, 7), (64, 64), (1433, 16))
DEGREE = 4


class InPython(torch.autograd.Function):
    """The formulas in ATen's operators, the backward only as far as it is needed."""

    @staticmethod
    def forward(ctx: FunctionCtx, a: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(a, x, weight)
        return torch.addmm(bias, a, x @ weight)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, x, weight = ctx.saved_tensors
        before = a.mT @ grad
        needs = ctx.needs_input_grad
        return (
            grad @ (x @ weight).mT if needs[0] else None,
            before @ weight.mT if needs[1] else None,
            x.mT @ before if needs[2] else None,
            grad.sum(0) if needs[3] else None,
        )


@cache
def _pybind_function() -> type[torch.autograd.Function]:
    module = _native.pybind_module()

    class Pybind(torch.autograd.Function):
        @staticmethod
        def forward(ctx: FunctionCtx, a: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            ctx.save_for_backward(a, x, weight)
            return module.graph_conv_forward(a, x, weight, bias)

        @staticmethod
        def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
            return tuple(module.graph_conv_backward(grad, *ctx.saved_tensors, ctx.needs_input_grad))

    return Pybind


def contests(quick: bool) -> Iterator[Contest]:
    features = FEATURES[:2] if quick else FEATURES
    for n in (34, 200) if quick else DENSE_NODES:
        for f, k in features:
            yield from _dense(n, f, k)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        for n in (34, 1000) if quick else SPARSE_NODES:
            rowptr, col, value = graph_conv_csr.random_graph(n, DEGREE)
            for f, k in features:
                yield _sparse(n, rowptr, col, value, f, k)


def _dense(n: int, f: int, k: int) -> Iterator[Contest]:
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
    common = {"case": f"n={n} {f}→{k}", "goal": 1.0, "floor": 1.0, "gradients": True}
    names = {"graph_conv": step(opserve_ops.graph_conv), "the pybind11 module": step(_pybind_function().apply)}
    for name, ours in names.items():
        yield Contest(**common, op=f"{name}, training", against="plain PyTorch", ours=ours, peers=plain)
    in_python = {"autograd.Function": step(InPython.apply)}
    ours = names["graph_conv"]
    yield Contest(**common, op="graph_conv, training", against="a Python autograd.Function", ours=ours, peers=in_python)
    in_cpp = {"pybind11": names["the pybind11 module"]}
    yield Contest(**common, op="graph_conv, training", against="the pybind11 module", ours=ours, peers=in_cpp)


def _sparse(n: int, rowptr: Tensor, col: Tensor, value: Tensor, f: int, k: int) -> Contest:
    generator = torch.Generator().manual_seed(f + k)
    x = torch.randn(n, f, generator=generator).requires_grad_()
    weight = (torch.randn(f, k, generator=generator) / f**0.5).requires_grad_()
    bias = torch.randn(k, generator=generator).requires_grad_()
    grad = torch.randn(n, k, generator=generator)
    a = torch.sparse_csr_tensor(rowptr, col, value, (n, n), check_invariants=True)

    def step(forward: Callable[[], Tensor]) -> Call:
        return lambda: torch.autograd.grad(forward(), (x, weight, bias), grad)

    return Contest(
        op="graph_conv_csr, training",
        against="torch.sparse CSR (MKL)",
        case=f"n={n} degree={DEGREE} {f}→{k}",
        ours=step(lambda: opserve_ops.graph_conv_csr(rowptr, col, value, x, weight, bias)),
        peers={
            "a @ (x @ w) + b": step(lambda: a @ (x @ weight) + bias),
            "addmm(b, a @ x, w)": step(lambda: torch.addmm(bias, a @ x, weight)),
        },
        goal=1.0,
        gradients=True,
    )
