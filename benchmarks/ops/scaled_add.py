"""scaled_add against torch.add, and how much of the memory's bandwidth it reaches."""

from collections.abc import Iterator

import torch
from torch import Tensor

import opserve_ops
from benchmarks.ops_bench import Contest

SMALL = (16, 1024, 65_536)
LARGE = (2**20, 2**22, 2**24)


def contests(quick: bool) -> Iterator[Contest]:
    for n in (16, 2**20) if quick else SMALL + LARGE:
        generator = torch.Generator().manual_seed(n)
        x, y = (torch.randn(n, generator=generator) for _ in range(2))
        yield from _contests(n, x, y)


def _contests(n: int, x: Tensor, y: Tensor) -> Iterator[Contest]:
    common = {
        "op": "scaled_add",
        "case": f"{n} elements",
        "ours": lambda: opserve_ops.scaled_add(x, y),
        # Two numbers read and one written.
        "work": 3.0 * x.nbytes,
        "work_unit": "byte",
    }
    large = n in LARGE
    yield Contest(
        **common,
        against="torch.add" if large else "torch.add, under 1M elements",
        peers={"torch.add(y, x, alpha=2)": lambda: torch.add(y, x, alpha=2)},
        goal=0.95 if large else None,
        floor=0.95 if large else None,
    )
    if large:
        target = torch.empty_like(x)
        yield Contest(
            **common,
            against="the bandwidth of a copy",
            peers={"target.copy_(x)": lambda: target.copy_(x)},
            goal=None,
            tolerance=None,
            # One number read and one written.
            share=2 / 3,
        )
