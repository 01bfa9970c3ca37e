"""check_csr: whether indices describe a matrix in CSR form."""

import torch
from torch import Tensor

from .._operator import Expect, Operator


def check_csr(rowptr: Tensor, col: Tensor, n: int) -> None:
    """Checks that rowptr and col describe an n by n matrix, as `graph_conv_csr` takes it.

    `graph_conv_csr` does this itself on the CPU. On CUDA it cannot without waiting for the GPU, and returns NaN in the
    rows concerned; this function waits, and reports the error. A traced or compiled function leaves it out, since it
    has no result.

    Args:
        rowptr: [n + 1], int32 or int64.
        col: [nnz], with the dtype and device of `rowptr`.
        n: The number of rows and columns.

    Raises:
        RuntimeError: `rowptr` does not start at 0, decreases or does not end at nnz, an element of `col` is outside
            [0, n), or a rank, size, dtype or device does not match.

    Source: extensions/include/opserve/check_csr.h
    """
    torch.ops.opserve.check_csr.default(rowptr, col, n)


def _fake(expect: Expect, rowptr: Tensor, col: Tensor, n: int) -> None:
    expect.rank("col", col, 1)
    expect.shape("rowptr", rowptr, ("n+1", n + 1))


Operator("check_csr", types={"I": ("rowptr", "col")}, fake=_fake)
