"""graph_conv_csr against torch.sparse (MKL) and against gather + index_add."""

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

import opserve_ops
from benchmarks.ops_bench import Contest

NODES = (34, 1000, 2700, 20_000)
DEGREES = (4, 16)
FEATURES = ((16, 7), (64, 64), (1433, 16), (256, 256))


def random_graph(n: int, degree: int) -> tuple[Tensor, Tensor, Tensor]:
    """rowptr, col and value of a symmetric random graph with self-loops and about `degree` entries a row."""
    generator = torch.Generator().manual_seed(n + degree)
    one = torch.randint(0, n, (n * (degree - 1) // 2,), generator=generator)
    other = torch.randint(0, n, one.shape, generator=generator)
    loop = torch.arange(n)
    row, col = torch.cat((one, other, loop)), torch.cat((other, one, loop))
    # No repetition: a sparse tensor of PyTorch must not have any.
    key = torch.unique(row * n + col)
    row, col = key // n, key % n
    count = torch.bincount(row, minlength=n)
    rowptr = torch.cat((torch.zeros(1, dtype=torch.int64), count.cumsum(0)))
    scale = count.float().rsqrt()
    return rowptr, col, scale[row] * scale[col]


def flops(n: int, nnz: int, f: int, k: int) -> float:
    return 2.0 * n * f * k + 2.0 * nnz * min(f, k)


def contests(quick: bool) -> Iterator[Contest]:
    nodes, features = ((34, 1000), ((16, 7), (64, 64))) if quick else (NODES, FEATURES)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        for n in nodes:
            for degree in DEGREES:
                rowptr, col, value = random_graph(n, degree)
                a = torch.sparse_csr_tensor(rowptr, col, value, (n, n), check_invariants=True)
                row = torch.repeat_interleave(torch.arange(n), rowptr.diff())
                for f, k in features:
                    yield from _contests(n, degree, rowptr, col, value, a, row, f, k)


def _contests(
    n: int,
    degree: int,
    rowptr: Tensor,
    col: Tensor,
    value: Tensor,
    a: Tensor,
    row: Tensor,
    f: int,
    k: int,
) -> Iterator[Contest]:
    generator = torch.Generator().manual_seed(f + k)
    x = torch.randn(n, f, generator=generator)
    weight = torch.randn(f, k, generator=generator) / f**0.5
    bias = torch.randn(k, generator=generator)
    common = {
        "op": "graph_conv_csr",
        "case": f"n={n} degree={degree} {f}→{k}",
        "ours": lambda: opserve_ops.graph_conv_csr(rowptr, col, value, x, weight, bias),
        "work": flops(n, len(col), f, k),
    }

    def gather(h: Tensor) -> Tensor:
        return h.new_zeros(h.shape).index_add_(0, row, h[col] * value[:, None])

    yield Contest(
        **common,
        against="torch.sparse CSR (MKL)",
        peers={
            "a @ (x @ w) + b": lambda: (a @ (x @ weight)).add_(bias),
            "(a @ x) @ w + b": lambda: torch.addmm(bias, a @ x, weight),
            "addmm(b, a, x @ w)": lambda: torch.addmm(bias, a, x @ weight),
        },
        goal=1.3,
        floor=0.95,
    )
    yield Contest(
        **common,
        against="gather + index_add",
        peers={
            "a·(x·w) + b": lambda: gather(x @ weight).add_(bias),
            "(a·x)·w + b": lambda: torch.addmm(bias, gather(x), weight),
        },
        goal=5.0,
    )
