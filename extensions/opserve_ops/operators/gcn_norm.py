"""gcn_norm: the normalisation of a graph convolution over a matrix in CSR form."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .._operator import Expect, Operator, gradient


def gcn_norm(rowptr: Tensor, col: Tensor, value: Tensor, fill_value: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Computes D^-1/2·(A + I)·D^-1/2: adds self-loops to a graph and scales its weights by the degrees of both ends.

    What `torch_geometric.nn.conv.gcn_conv.gcn_norm` does, over the CSR form of the matrix that aggregates: row i holds
    the edges into node i, and the degrees are the sums of the rows. The result is what `graph_conv_csr` takes. Several
    graphs are one call over their block-diagonal matrix.

    Args:
        rowptr: [n + 1], int32 or int64: row i holds the entries rowptr[i] to rowptr[i + 1] - 1.
        col: [nnz], with the dtype of `rowptr`: the columns of the entries; a column that repeats is summed.
        value: [nnz], the weights of the entries, ones for a graph without weights; float32 or float64, on CUDA also
            float16 or bfloat16.
        fill_value: The weight of the self-loop that a node without one gets, rounded to the dtype of `value`: 2 is
            PyTorch Geometric's `improved`, 0 gives the same matrix as its `add_self_loops=False`.

    Returns:
        rowptr [n + 1], col and value [nnz + n], contiguous, with the dtypes of the arguments. Each row begins with the
        self-loop that was added; if the node had one already, the added one weighs 0. A node of degree 0 gets the
        weights 0. On CUDA all values are NaN if `rowptr` is wrong, and so is that of an entry whose column is out of
        range: `check_csr` finds them. There the gradient of `value` can differ by roundings from call to call.

    Raises:
        RuntimeError: A rank or size does not match, dtypes or devices are mixed, nnz + n does not fit the dtype of
            `rowptr`, or, on the CPU, `rowptr` does not start at 0, decreases or does not end at nnz, or an element of
            `col` is outside [0, n).

    Source: extensions/include/opserve/gcn_norm.h. The normalisation is from Kipf and Welling, "Semi-Supervised
    Classification with Graph Convolutional Networks", 2017.
    """
    return torch.ops.opserve.gcn_norm.default(rowptr, col, value, fill_value)


def _fake(
    expect: Expect, rowptr: Tensor, col: Tensor, value: Tensor, fill_value: float
) -> tuple[Tensor, Tensor, Tensor]:
    (rows,) = expect.rank("rowptr", rowptr, 1)
    (nnz,) = expect.rank("col", col, 1)
    expect.shape("value", value, ("nnz", nnz))
    expect.that(rows >= 1, "rowptr must have n+1 elements, 1 or more, got 0")
    out_nnz = nnz + rows - 1
    return rowptr.new_empty((rows,)), col.new_empty((out_nnz,)), value.new_empty((out_nnz,))


def _fake_backward(
    expect: Expect, grad: Tensor, rowptr: Tensor, col: Tensor, value: Tensor, fill_value: float
) -> Tensor:
    out_nnz = _fake(expect, rowptr, col, value, fill_value)[2].size(0)
    expect.shape("grad", grad, ("nnz+n", out_nnz))
    return gradient(value, needed=True)


def _not_deterministic(saved: Mapping[str, Tensor], needed: Mapping[str, bool]) -> str:
    # The sums over columns.
    return "value" if needed["value"] else ""


Operator(
    "gcn_norm",
    types={"T": ("value",), "I": ("rowptr", "col")},
    results=("I", "I", "T"),
    fake=_fake,
    fake_backward=_fake_backward,
    onnx="GCNNorm",
    not_deterministic=_not_deterministic,
)
