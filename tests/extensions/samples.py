"""Sample inputs of each operator, shared by the tests that compare, trace and export it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from opserve_ops import reference

DTYPES = (torch.float32, torch.float64)
INDEX_DTYPES = (torch.int32, torch.int64)


@dataclass
class Sample:
    name: str
    args: tuple
    # Of the largest element of the reference, in roundings of the dtype.
    roundings: float = 16.0


def random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.rand(shape, generator=generator, dtype=torch.float64).mul(2).sub(1).to(dtype)


def scaled_add_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for shape in ((), (0,), (1,), (7,), (16,), (17,), (3, 0, 2), (4, 5, 6), (100_003,)):
        x, y = random(*shape, dtype=dtype), random(*shape, dtype=dtype, seed=1)
        yield Sample(f"{shape}", (x, y))
        yield Sample(f"{shape} alpha", (x, y, -0.3))


def graph_conv_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for n, f, k in ((0, 3, 2), (3, 0, 2), (3, 2, 0), (1, 1, 1), (34, 16, 7), (50, 7, 33), (97, 300, 65)):
        a, x, weight = random(n, n, dtype=dtype), random(n, f, dtype=dtype), random(f, k, dtype=dtype)
        yield Sample(f"{n} {f} {k}", (a, x, weight), 64)
        yield Sample(f"{n} {f} {k} bias", (a, x, weight, random(k, dtype=dtype)), 64)


def csr(n: int, degree: int, index: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A graph with empty rows, rows of any order and columns that repeat."""
    generator = torch.Generator().manual_seed(seed + n)
    counts = torch.randint(0, 2 * degree + 1, (n,), generator=generator)
    counts[::3] = 0
    rowptr = torch.cat((torch.zeros(1, dtype=torch.int64), counts.cumsum(0)))
    col = torch.randint(0, max(n, 1), (int(rowptr[-1]),), generator=generator)
    return rowptr.to(index), col.to(index)


def graph_conv_csr_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for index in INDEX_DTYPES:
        for n, f, k in ((0, 3, 2), (3, 0, 2), (3, 2, 0), (1, 1, 1), (34, 16, 7), (50, 7, 33), (97, 300, 65)):
            rowptr, col = csr(n, 4, index)
            value = random(len(col), dtype=dtype)
            x, weight, bias = random(n, f, dtype=dtype), random(f, k, dtype=dtype), random(k, dtype=dtype)
            name = f"{index} {n} {f} {k}"
            yield Sample(name, (rowptr, col, None, x, weight), 64)
            yield Sample(f"{name} value bias", (rowptr, col, value, x, weight, bias), 64)
        # No entry at all.
        empty = torch.zeros(0, dtype=index)
        yield Sample(f"{index} no entries", (torch.zeros(5, dtype=index), empty, None, x[:4], weight, bias), 64)


def gcn_norm_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for index in INDEX_DTYPES:
        for n in (0, 1, 2, 34, 700):
            rowptr, col = csr(n, 4, index)
            # Positive, so that each degree has a root.
            value = random(len(col), dtype=dtype).abs() + 0.25
            yield Sample(f"{index} {n}", (rowptr, col, value))
            yield Sample(f"{index} {n} improved", (rowptr, col, value, 2.0))
        # No entry at all, and nothing to add.
        yield Sample(f"{index} no entries", (torch.zeros(5, dtype=index), col[:0], value[:0], 0.0))


HOMOGRAPHY = torch.tensor([[0.8, 0.1, 2.0], [-0.1, 0.9, 3.0], [0.002, 0.001, 1.0]], dtype=torch.float64)


def warp_perspective_samples(dtype: torch.dtype) -> Iterator[Sample]:
    per_image = torch.stack((HOMOGRAPHY, torch.eye(3, dtype=torch.float64), -2.5 * HOMOGRAPHY))
    for shape, matrix, size in (
        ((1, 1), HOMOGRAPHY, (3, 3)),
        ((8, 8), torch.eye(3), (8, 8)),
        ((13, 9), HOMOGRAPHY.float(), (20, 150)),
        ((3, 40, 50), HOMOGRAPHY, (37, 41)),
        ((3, 2, 40, 50), HOMOGRAPHY, (37, 41)),
        ((3, 2, 40, 50), per_image, (37, 41)),
        ((0, 2, 4, 4), HOMOGRAPHY, (3, 3)),
        ((0, 2, 4, 4), per_image[:0], (3, 3)),
        ((0, 4, 4), HOMOGRAPHY, (3, 3)),
        ((0, 4), HOMOGRAPHY, (3, 3)),
        ((4, 0), HOMOGRAPHY, (3, 3)),
        ((4, 4), HOMOGRAPHY, (0, 3)),
    ):
        yield Sample(f"{shape} {tuple(matrix.shape)} {size}", (random(*shape, dtype=dtype), matrix, size), 512)


SAMPLES: dict[str, Callable[[torch.dtype], Iterator[Sample]]] = {
    "scaled_add": scaled_add_samples,
    "graph_conv": graph_conv_samples,
    "graph_conv_csr": graph_conv_csr_samples,
    "gcn_norm": gcn_norm_samples,
    "warp_perspective": warp_perspective_samples,
}
OPS = tuple(SAMPLES)


def map_tensors(args: tuple, function: Callable[[Tensor], Tensor]) -> tuple:
    return tuple(function(arg) if isinstance(arg, Tensor) else arg for arg in args)


def results(result: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Those of an operator, of which most have one."""
    return (result,) if isinstance(result, Tensor) else tuple(result)


def assert_matches_reference(op: str, found: Tensor | Sequence[Tensor], sample: Sample) -> None:
    """Against the reference in float64, so that only the kernel's own roundings show."""
    exact = map_tensors(sample.args, lambda t: t.double() if t.is_floating_point() else t)
    for result, expected in zip(results(found), results(getattr(reference, op)(*exact)), strict=True):
        assert result.shape == expected.shape
        largest = expected.abs().max().item() if expected.numel() else 0.0
        eps = torch.finfo(result.dtype).eps if result.is_floating_point() else 0.0
        torch.testing.assert_close(
            result.to(expected.dtype),
            expected,
            rtol=0,
            atol=sample.roundings * eps * max(largest, 1.0),
            msg=lambda m: f"{sample.name}: {m}",
        )
