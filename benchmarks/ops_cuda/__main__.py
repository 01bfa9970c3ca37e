"""Compares the operators on a GPU with what else computes the same; needs the CUDA library (make ext CUDA=on).

The ratio is the other's time divided by ours, so more is better. Times are in µs or ms, measured by CUDA events from an
empty L2 cache; the rate is GFLOP/s, or GB/s of memory that is read and written.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product

import torch
from torch import Tensor

import opserve_ops
from archive.errors import OpserveError
from archive.process.command import run
from benchmarks.common.command import describe_machine
from benchmarks.common.comparison import Comparison, SelfTimed
from benchmarks.common.gpu import milliseconds
from benchmarks.common.suite import run_comparisons

# Each turn is already the median of 50 calls.
ROUNDS = 3

gpu_comparison = partial(Comparison, threads=(1,))


def on_gpu(call: Callable[..., object], *arguments: object) -> SelfTimed:
    """Wraps a call that enqueues work on the GPU."""
    bound = partial(call, *arguments)
    return SelfTimed(bound, lambda threads: milliseconds(bound) * 1e-3)


def scaled_add(*, quick: bool) -> Iterator[Comparison]:
    """Compares scaled_add with a copy, which shows how much of the memory's bandwidth it reaches."""
    for dtype, n in product((torch.float32, torch.float16), (2**20,) if quick else (2**20, 2**24, 2**28)):
        x, y = (torch.rand(n, device="cuda", dtype=dtype) for _ in range(2))
        yield gpu_comparison(
            subject="scaled_add",
            baseline="the bandwidth of a copy",
            case=f"{n} elements, {dtype}",
            ours=on_gpu(opserve_ops.scaled_add, x, y),
            forms={"target.copy_(x)": on_gpu(torch.empty_like(x).copy_, x)},
            goal=0.9,
            tolerance=None,
            # Two numbers are read and one is written; the copy reads one.
            work=3.0 * x.nbytes,
            work_unit="byte",
            work_share=2 / 3,
        )


def graph_conv_csr(*, quick: bool) -> Iterator[Comparison]:
    """Compares graph_conv_csr with cuSPARSE through PyTorch, in both orders of the products."""
    nodes = (1000,) if quick else (34, 1000, 2700, 20_000, 200_000)
    features = ((16, 7), (64, 64)) if quick else ((16, 7), (64, 64), (1433, 16), (256, 256))
    for n, degree, (f, k) in product(nodes, (4, 16), features):
        rowptr = torch.arange(0, n * degree + 1, degree, device="cuda")
        col = torch.randint(0, n, (n * degree,), device="cuda")
        value = torch.rand(len(col), device="cuda")
        x, weight, bias = (torch.rand(*shape, device="cuda") for shape in ((n, f), (f, k), (k,)))
        a = torch.sparse_csr_tensor(rowptr, col, value, (n, n))
        yield gpu_comparison(
            subject="graph_conv_csr",
            baseline="torch.sparse CSR (cuSPARSE)",
            case=f"n={n} degree={degree} {f}→{k}",
            ours=on_gpu(opserve_ops.graph_conv_csr, rowptr, col, value, x, weight, bias),
            forms={
                "addmm(b, a @ x, w)": on_gpu(_addmm, a, x, weight, bias),
                "a @ (x @ w) + b": on_gpu(_matmul, a, x, weight, bias),
            },
            goal=1.2,
            work=2.0 * n * f * k + 2.0 * len(col) * min(f, k),
        )


def _addmm(a: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.addmm(bias, a @ x, weight)


def _matmul(a: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return a @ (x @ weight) + bias


def warp_perspective(*, quick: bool) -> Iterator[Comparison]:
    """Compares warp_perspective with grid_sample, which has to build its grid."""
    matrix = torch.tensor([[0.9, 0.05, 12.0], [-0.04, 0.95, 8.0], [1e-5, 2e-5, 1.0]], device="cuda")
    sizes = ((256, 256),) if quick else ((256, 256), (512, 512), (720, 1280), (1080, 1920))
    for channels, (h, w) in product((1, 3), sizes):
        image = torch.rand(1, channels, h, w, device="cuda")
        yield gpu_comparison(
            subject="warp_perspective",
            baseline="grid_sample",
            case=f"{channels}x{h}x{w}",
            ours=on_gpu(opserve_ops.warp_perspective, image, matrix, (h, w)),
            forms={"grid built": on_gpu(_grid_sample, image, matrix)},
            goal=3.0,
            # Positions in float32 are up to 1e-3 pixels off.
            tolerance=1e-2,
            work=2.0 * image.nbytes,
            work_unit="byte",
        )


def _grid_sample(image: Tensor, matrix: Tensor) -> Tensor:
    h, w = image.shape[-2:]
    rows, columns = (torch.arange(size, device=image.device, dtype=torch.float32) for size in (h, w))
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    source = torch.stack((x, y, torch.ones_like(x)), -1) @ torch.linalg.inv(matrix).T
    position = source[..., :2] / source[..., 2:]
    grid = position * position.new_tensor([2 / (w - 1), 2 / (h - 1)]) - 1
    return torch.nn.functional.grid_sample(image, grid[None], align_corners=True)


def describe_machine_with_gpu() -> dict[str, object]:
    """Describes the machine and its GPU.

    Raises:
        OpserveError: There is no GPU, or no library for it.
    """
    if opserve_ops.cuda_library_path() is None:
        raise OpserveError("there is no GPU, or no CUDA library; `make ext CUDA=on` reports which")
    return describe_machine() | {"gpu": torch.cuda.get_device_name()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    title = "Operators on a GPU"
    groups = {"scaled_add": scaled_add, "graph_conv_csr": graph_conv_csr, "warp_perspective": warp_perspective}
    return run_comparisons(
        "ops_cuda", __doc__, title, groups, arguments, rounds=ROUNDS, describe=describe_machine_with_gpu
    )


if __name__ == "__main__":
    run(main)
