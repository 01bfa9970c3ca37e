"""graph_conv over a dense matrix against PyTorch's products."""

from collections.abc import Iterator

import torch
from torch import Tensor

import opserve_ops
from benchmarks.ops_bench import Contest

NODES = (34, 200, 1000, 2000)
# More features than classes, where a·(x·w) is cheaper; as many; and fewer, where (a·x)·w is.
FEATURES = ((16, 7), (256, 16), (1433, 16), (64, 64), (256, 256), (16, 256))


def operands(n: int, f: int, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """a, x, weight and bias, scaled so that results are of the order of 1."""
    generator = torch.Generator().manual_seed(n + f + k)
    a = torch.rand(n, n, generator=generator) / n
    x = torch.randn(n, f, generator=generator)
    weight = torch.randn(f, k, generator=generator) / f**0.5
    return a, x, weight, torch.randn(k, generator=generator)


def flops(n: int, f: int, k: int) -> float:
    return 2.0 * n * f * k + 2.0 * n * n * min(f, k)


def contests(quick: bool) -> Iterator[Contest]:
    for n in (34, 200) if quick else NODES:
        for f, k in ((16, 7), (64, 64)) if quick else FEATURES:
            yield _contest(n, f, k, *operands(n, f, k))


def _contest(n: int, f: int, k: int, a: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Contest:
    return Contest(
        op="graph_conv",
        against="plain PyTorch",
        case=f"n={n} {f}→{k}",
        ours=lambda: opserve_ops.graph_conv(a, x, weight, bias),
        peers={
            "a.mm(x).mm(w) + b": lambda: a.mm(x).mm(weight) + bias,
            "addmm(b, a.mm(x), w)": lambda: torch.addmm(bias, a.mm(x), weight),
        },
        goal=1.0,
        floor=1.0,
        work=flops(n, f, k),
    )
