"""graph_conv_csr against torch.sparse (MKL) and against gather + index_add."""

import warnings
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

import opserve_ops
from benchmarks.common.comparison import Comparison

NODES = (34, 1000, 2700, 20_000)
DEGREES = (4, 16)
FEATURES = ((16, 7), (64, 64), (1433, 16), (256, 256))


def random_graph(n: int, degree: int) -> tuple[Tensor, Tensor, Tensor]:
    """Generates rowptr, col and value of a symmetric graph with self-loops and about `degree` entries in each row."""
    generator = torch.Generator().manual_seed(n + degree)
    one = torch.randint(0, n, (n * (degree - 1) // 2,), generator=generator)
    other = torch.randint(0, n, one.shape, generator=generator)
    loop = torch.arange(n)
    row, col = torch.cat((one, other, loop)), torch.cat((other, one, loop))
    # Without duplicates, which PyTorch's sparse tensors must not have.
    key = torch.unique(row * n + col)
    row, col = key // n, key % n
    count = torch.bincount(row, minlength=n)
    rowptr = torch.cat((torch.zeros(1, dtype=torch.int64), count.cumsum(0)))
    scale = count.float().rsqrt()
    return rowptr, col, scale[row] * scale[col]


def sparse_matrix(rowptr: Tensor, col: Tensor, value: Tensor) -> Tensor:
    """Makes PyTorch's sparse CSR tensor of a graph: float32 [n, n]."""
    n = len(rowptr) - 1
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(rowptr, col, value, (n, n), check_invariants=True)


def comparisons(*, quick: bool) -> Iterator[Comparison]:
    """Generates the comparisons."""
    nodes, features = ((34, 1000), ((16, 7), (64, 64))) if quick else (NODES, FEATURES)
    for n in nodes:
        for degree in DEGREES:
            rowptr, col, value = random_graph(n, degree)
            a = sparse_matrix(rowptr, col, value)
            row = torch.repeat_interleave(torch.arange(n), rowptr.diff())
            for f, k in features:
                case = f"n={n} degree={degree} {f}→{k}"
                yield from _compare(case, rowptr, col, value, a, row, f, k)


def _compare(
    case: str, rowptr: Tensor, col: Tensor, value: Tensor, a: Tensor, row: Tensor, f: int, k: int
) -> Iterator[Comparison]:
    n = len(rowptr) - 1
    generator = torch.Generator().manual_seed(f + k)
    x = torch.randn(n, f, generator=generator)
    weight = torch.randn(f, k, generator=generator) / f**0.5
    bias = torch.randn(k, generator=generator)
    compare = partial(
        Comparison,
        subject="graph_conv_csr",
        case=case,
        ours=lambda: opserve_ops.graph_conv_csr(rowptr, col, value, x, weight, bias),
        work=2.0 * n * f * k + 2.0 * len(col) * min(f, k),
    )

    def gather(h: Tensor) -> Tensor:
        return h.new_zeros(h.shape).index_add_(0, row, h[col] * value[:, None])

    yield compare(
        baseline="torch.sparse CSR (MKL)",
        forms={
            "a @ (x @ w) + b": lambda: (a @ (x @ weight)).add_(bias),
            "(a @ x) @ w + b": lambda: torch.addmm(bias, a @ x, weight),
            "addmm(b, a, x @ w)": lambda: torch.addmm(bias, a, x @ weight),
        },
        goal=1.3,
        floor=0.95,
    )
    yield compare(
        baseline="gather + index_add",
        forms={
            "a·(x·w) + b": lambda: gather(x @ weight).add_(bias),
            "(a·x)·w + b": lambda: torch.addmm(bias, gather(x), weight),
        },
        goal=5.0,
    )
