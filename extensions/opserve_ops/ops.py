"""The operators as Python functions. Each is `torch.ops.opserve.<name>` with a docstring."""

from collections.abc import Sequence

import torch
from torch import Tensor


def scaled_add(x: Tensor, y: Tensor, alpha: float = 2.0) -> Tensor:
    """alpha * x + y, element by element.

    Args:
        x: any shape; float32 or float64, on CUDA also float16 or bfloat16.
        y: the shape, dtype and device of `x`. Nothing is broadcast.
        alpha: a number; rounded to the dtype of `x`.

    Returns:
        A contiguous tensor of the shape and dtype of `x`.

    Raises:
        RuntimeError: shapes, dtypes or devices differ, or the dtype is not supported.

    Source: extensions/include/opserve/scaled_add.h
    """
    return torch.ops.opserve.scaled_add.default(x, y, alpha)


def graph_conv(a: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """a·x·weight + bias: a graph convolution over a dense matrix, in the cheaper order of the products.

    Args:
        a: [n, n], float32 or float64, on CUDA also float16 or bfloat16.
        x: [n, f], of the dtype and device of `a`, as the rest.
        weight: [f, k].
        bias: [k], or none.

    Returns:
        [n, k], contiguous.

    Raises:
        RuntimeError: a rank or size disagrees, dtypes or devices are mixed, or the dtype is not supported.

    Source: extensions/include/opserve/graph_conv.h. The layer is that of Kipf and Welling, "Semi-Supervised
    Classification with Graph Convolutional Networks", 2017.
    """
    return torch.ops.opserve.graph_conv.default(a, x, weight, bias)


def graph_conv_csr(
    rowptr: Tensor, col: Tensor, value: Tensor | None, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """A·x·weight + bias: a graph convolution over an adjacency matrix A in CSR form.

    Several graphs are one call over their block-diagonal matrix.

    Args:
        rowptr: [n + 1], int32 or int64: row i holds the entries rowptr[i] to rowptr[i + 1] - 1.
        col: [nnz], of the dtype of `rowptr`: the entries' columns; one that repeats is summed.
        value: [nnz], or none for ones.
        x: [n, f], float32 or float64, on CUDA also float16 or bfloat16; the dtype of `value`, `weight` and `bias`.
        weight: [f, k].
        bias: [k], or none. A row without entries is the bias.

    Returns:
        [n, k], contiguous. On CUDA, rows whose entries in `rowptr` or `col` are out of range are NaN: `check_csr` says
        which. There the gradient of `x`, and that of `weight` where k <= f, can differ by roundings from call to call.

    Raises:
        RuntimeError: a rank or size disagrees, dtypes or devices are mixed, or, on the CPU, `rowptr` does not start at
            0, decreases or does not end at nnz, or an element of `col` is outside [0, n).

    Source: extensions/include/opserve/graph_conv_csr.h. The layer is that of Kipf and Welling,
    "Semi-Supervised Classification with Graph Convolutional Networks", 2017.
    """
    return torch.ops.opserve.graph_conv_csr.default(rowptr, col, value, x, weight, bias)


def warp_perspective(image: Tensor, matrix: Tensor, size: Sequence[int] = (8, 8)) -> Tensor:
    """Resamples an image through a homography: OpenCV's warpPerspective, bilinear, constant zero border.

    Args:
        image: [H, W], [C, H, W] or [N, C, H, W], float32 or float64, on CUDA also float16 or bfloat16.
        matrix: [3, 3], or [N, 3, 3] for a 4-D image; float32 or float64. Maps (x, y, 1) of the source to the
            destination, in pixels, whose centres have integer coordinates.
        size: (height, width) of the result.

    Returns:
        The leading dimensions of `image`, then height and width; of its dtype; contiguous. On CUDA the image of a
        matrix that is not finite or is singular is NaN, and the gradient of `image` can differ by roundings from call
        to call.

    Raises:
        RuntimeError: a rank or size disagrees, devices are mixed, a dtype is not supported, or, on the CPU, a matrix
            is not finite or is singular.

    Source: extensions/include/opserve/warp_perspective.h
    """
    return torch.ops.opserve.warp_perspective.default(image, matrix, size)


def check_csr(rowptr: Tensor, col: Tensor, n: int) -> None:
    """Checks that rowptr and col describe an n by n matrix, as `graph_conv_csr` takes it.

    `graph_conv_csr` does this itself on the CPU. On CUDA it cannot without waiting for the GPU, and answers NaN in
    the rows concerned; this function waits, and says what is wrong. In a traced or compiled function it is dropped,
    since it has no result.

    Args:
        rowptr: [n + 1], int32 or int64.
        col: [nnz], of the dtype and device of `rowptr`.
        n: how many rows and columns.

    Raises:
        RuntimeError: `rowptr` does not start at 0, decreases or does not end at nnz, an element of `col` is outside
            [0, n), or a rank, size, dtype or device disagrees.

    Source: extensions/include/opserve/check_csr.h
    """
    torch.ops.opserve.check_csr.default(rowptr, col, n)


def cpu_capability() -> str:
    """The instruction set the CPU kernels run with: "default", "avx2" or "avx512"."""
    return torch.ops.opserve.cpu_capability.default()
