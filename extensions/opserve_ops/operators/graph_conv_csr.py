"""graph_conv_csr: a graph convolution over a matrix in CSR form."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .._operator import Expect, Operator, gradient


def graph_conv_csr(
    rowptr: Tensor, col: Tensor, value: Tensor | None, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Computes A·x·weight + bias, a graph convolution over an adjacency matrix A in CSR form.

    Several graphs are one call, over their block-diagonal matrix.

    Args:
        rowptr: [n + 1], int32 or int64: row i holds the entries rowptr[i] to rowptr[i + 1] - 1.
        col: [nnz], with the dtype of `rowptr`: the columns of the entries; a column that repeats is summed.
        value: [nnz], optional: by default ones.
        x: [n, f], float32 or float64, on CUDA also float16 or bfloat16, like `value`, `weight` and `bias`.
        weight: [f, k].
        bias: [k], optional. A row without entries is the bias.

    Returns:
        [n, k], contiguous. On CUDA, rows whose entries in `rowptr` or `col` are out of range are NaN: `check_csr`
        finds them. There the gradient of `x`, and that of `weight` if k <= f, can differ by roundings from call to
        call.

    Raises:
        RuntimeError: A rank or size does not match, dtypes or devices are mixed, or, on the CPU, `rowptr` does not
            start at 0, decreases or does not end at nnz, or an element of `col` is outside [0, n).

    Source: extensions/include/opserve/graph_conv_csr.h. The layer is from Kipf and Welling,
    "Semi-Supervised Classification with Graph Convolutional Networks", 2017.
    """
    return torch.ops.opserve.graph_conv_csr.default(rowptr, col, value, x, weight, bias)


def _fake(
    expect: Expect,
    rowptr: Tensor,
    col: Tensor,
    value: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
) -> Tensor:
    n, f = expect.rank("x", x, 2)
    k = expect.rank("weight", weight, 2)[1]
    (nnz,) = expect.rank("col", col, 1)
    expect.shape("rowptr", rowptr, ("n+1", n + 1))
    expect.shape("weight", weight, ("f", f), ("k", k))
    expect.shape("value", value, ("nnz", nnz))
    expect.shape("bias", bias, ("k", k))
    return x.new_empty((n, k))


def _fake_backward(
    expect: Expect,
    grad: Tensor,
    rowptr: Tensor,
    col: Tensor,
    value: Tensor | None,
    x: Tensor,
    weight: Tensor,
    output_mask: Sequence[bool],
) -> tuple[Tensor, ...]:
    k = weight.size(1)
    expect.shape("grad", grad, ("n", x.size(0)), ("k", k))
    return (
        # A value that was left out has no gradient.
        gradient(x, needed=output_mask[0] and value is not None, shape=col.shape),
        gradient(x, needed=output_mask[1]),
        gradient(weight, needed=output_mask[2]),
        gradient(x, needed=output_mask[3], shape=(k,)),
    )


def _not_deterministic(saved: Mapping[str, Tensor], needed: Mapping[str, bool]) -> str:
    # The two that a product with the transposed matrix is for.
    f, k = saved["weight"].shape
    return "x or weight" if needed["x"] or (needed["weight"] and k <= f) else ""


Operator(
    "graph_conv_csr",
    types={"T": ("x", "value", "weight", "bias"), "I": ("rowptr", "col")},
    fake=_fake,
    fake_backward=_fake_backward,
    onnx="GraphConvCSR",
    not_deterministic=_not_deterministic,
)
