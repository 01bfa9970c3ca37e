"""The operators on a GPU against what a user would take instead: a table, one ratio a line.

    python benchmarks/ops_cuda.py

Needs a GPU and the CUDA library (make ext CUDA=on).
"""

import sys
from collections.abc import Iterator

import torch
from gpu_timing import copy_gigabytes_per_second, milliseconds
from torch import Tensor

import opserve_ops


def scaled_add() -> Iterator[tuple[str, float, float]]:
    """The fraction of the copy bandwidth: goal 0.9."""
    peak = copy_gigabytes_per_second()
    for dtype in (torch.float32, torch.float16):
        for count in (2**20, 2**24, 2**28):
            x, y = (torch.rand(count, device="cuda", dtype=dtype) for _ in range(2))
            time = milliseconds(lambda x=x, y=y: opserve_ops.scaled_add(x, y))
            reached = 3 * x.nbytes / time / 1e6
            yield f"scaled_add {dtype} {count}: fraction of {peak:.0f} GB/s", time, reached / peak


def random_graph(n: int, degree: int) -> tuple[Tensor, Tensor]:
    rowptr = torch.arange(0, n * degree + 1, degree, device="cuda")
    return rowptr, torch.randint(0, n, (n * degree,), device="cuda")


def graph_conv_csr() -> Iterator[tuple[str, float, float]]:
    """Against cuSPARSE through PyTorch, in the faster order of its products: goal 1.2."""
    for n in (34, 1_000, 2_700, 20_000, 200_000):
        for degree in (4, 16):
            for f, k in ((16, 7), (64, 64), (1433, 16), (256, 256)):
                rowptr, col = random_graph(n, degree)
                value = torch.rand(len(col), device="cuda")
                x, weight, bias = (torch.rand(*shape, device="cuda") for shape in ((n, f), (f, k), (k,)))
                matrix = torch.sparse_csr_tensor(rowptr, col, value, (n, n))
                args = (rowptr, col, value, x, weight, bias)
                ours = milliseconds(lambda args=args: opserve_ops.graph_conv_csr(*args))
                first = milliseconds(lambda a=matrix, x=x, w=weight, b=bias: torch.addmm(b, a @ x, w))
                last = milliseconds(lambda a=matrix, x=x, w=weight, b=bias: a @ (x @ w) + b)
                yield f"graph_conv_csr {n} x {degree}, {f} to {k}: times cuSPARSE", ours, min(first, last) / ours


def grid_for(matrix: Tensor, h: int, w: int) -> Tensor:
    """The grid of grid_sample (align_corners) for a homography from source to destination, h by w pixels each."""
    y, x = torch.meshgrid(
        torch.arange(h, device="cuda", dtype=torch.float32),
        torch.arange(w, device="cuda", dtype=torch.float32),
        indexing="ij",
    )
    source = torch.stack((x, y, torch.ones_like(x)), -1) @ torch.linalg.inv(matrix).T
    position = source[..., :2] / source[..., 2:]
    return (position * position.new_tensor([2 / (w - 1), 2 / (h - 1)]) - 1)[None]


def warp_perspective() -> Iterator[tuple[str, float, float]]:
    """Against grid_sample with the grid built: goal 3."""
    matrix = torch.tensor([[0.9, 0.05, 12.0], [-0.04, 0.95, 8.0], [1e-5, 2e-5, 1.0]], device="cuda")
    for channels in (1, 3):
        for h, w in ((256, 256), (512, 512), (720, 1280), (1080, 1920)):
            image = torch.rand(1, channels, h, w, device="cuda")

            def theirs(image: Tensor = image, h: int = h, w: int = w) -> Tensor:
                grid = grid_for(matrix, h, w)
                return torch.nn.functional.grid_sample(image, grid, align_corners=True)

            ours = milliseconds(lambda image=image, h=h, w=w: opserve_ops.warp_perspective(image, matrix, (h, w)))
            yield f"warp_perspective {channels} x {h} x {w}: times grid_sample", ours, milliseconds(theirs) / ours


def main() -> int:
    if opserve_ops.cuda_library_path() is None:
        print("No GPU, or no CUDA library: make ext CUDA=on says why.", file=sys.stderr)
        return 1
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, float32 unless said, medians of 50")
    for measure in (scaled_add, graph_conv_csr, warp_perspective):
        for name, time, ratio in measure():
            print(f"{ratio:8.2f}  {1000 * time:10.1f} us  {name}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
