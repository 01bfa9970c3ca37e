"""scaled_add against torch.add and against a copy, which shows how much of the memory's bandwidth it reaches."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

import opserve_ops
from benchmarks.common.comparison import Comparison

SMALL = (16, 1024, 65_536)
LARGE = (2**20, 2**22, 2**24)


def comparisons(*, quick: bool) -> Iterator[Comparison]:
    """Generates the comparisons."""
    for n in (16, 2**20) if quick else SMALL + LARGE:
        generator = torch.Generator().manual_seed(n)
        x, y = (torch.randn(n, generator=generator) for _ in range(2))
        yield from _compare(n, x, y)


def _compare(n: int, x: Tensor, y: Tensor) -> Iterator[Comparison]:
    compare = partial(
        Comparison,
        subject="scaled_add",
        case=f"{n} elements",
        ours=lambda: opserve_ops.scaled_add(x, y),
        # Two numbers are read and one is written.
        work=3.0 * x.nbytes,
        work_unit="byte",
    )
    large = n in LARGE
    yield compare(
        baseline="torch.add" if large else "torch.add, under 1M elements",
        forms={"torch.add(y, x, alpha=2)": lambda: torch.add(y, x, alpha=2)},
        goal=0.95 if large else None,
        floor=0.95 if large else None,
    )
    if large:
        target = torch.empty_like(x)
        yield compare(
            baseline="the bandwidth of a copy",
            forms={"target.copy_(x)": lambda: target.copy_(x)},
            tolerance=None,
            # One number is read and one is written.
            work_share=2 / 3,
        )
