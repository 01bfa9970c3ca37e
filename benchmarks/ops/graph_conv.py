"""graph_conv over a dense matrix against PyTorch's matrix products."""

from collections.abc import Iterator

import torch
from torch import Tensor

import opserve_ops
from benchmarks.common.comparison import Comparison

NODES = (34, 200, 1000, 2000)
# More features than classes, where a·(x·w) is cheaper; as many; and fewer, where (a·x)·w is.
FEATURES = ((16, 7), (256, 16), (1433, 16), (64, 64), (256, 256), (16, 256))


def operands(n: int, f: int, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Generates a [n, n], x [n, f], weight [f, k] and bias [k] in float32, scaled for results of about 1."""
    generator = torch.Generator().manual_seed(n + f + k)
    a = torch.rand(n, n, generator=generator) / n
    x = torch.randn(n, f, generator=generator)
    weight = torch.randn(f, k, generator=generator) / f**0.5
    return a, x, weight, torch.randn(k, generator=generator)


def comparisons(*, quick: bool) -> Iterator[Comparison]:
    """Generates the comparisons."""
    for n in (34, 200) if quick else NODES:
        for f, k in ((16, 7), (64, 64)) if quick else FEATURES:
            yield _compare(n, f, k, *operands(n, f, k))


def _compare(n: int, f: int, k: int, a: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Comparison:
    return Comparison(
        subject="graph_conv",
        baseline="plain PyTorch",
        case=f"n={n} {f}→{k}",
        ours=lambda: opserve_ops.graph_conv(a, x, weight, bias),
        forms={
            "a.mm(x).mm(w) + b": lambda: a.mm(x).mm(weight) + bias,
            "addmm(b, a.mm(x), w)": lambda: torch.addmm(bias, a.mm(x), weight),
        },
        goal=1.0,
        floor=1.0,
        work=2.0 * n * f * k + 2.0 * n * n * min(f, k),
    )
