"""Every input an operator refuses, with the message it gives, eager and traced."""

import re

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

import opserve_ops

F32, F64, I32, I64 = torch.float32, torch.float64, torch.int32, torch.int64


def zeros(*shape: int, dtype: torch.dtype = F32) -> Tensor:
    return torch.zeros(shape, dtype=dtype)


def index(*values: int, dtype: torch.dtype = I64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


NAN, INF = float("nan"), float("inf")
EYE = torch.eye(3)
A, X, W, B = zeros(3, 3), zeros(3, 2), zeros(2, 4), zeros(4)
ROWPTR, COL, VALUE = index(0, 1, 1, 2), index(2, 0), zeros(2)

# (operator, arguments, message after "opserve::<operator>: "): decided by shapes and dtypes alone.
SHAPES = [
    ("scaled_add", (zeros(3), zeros(3, dtype=F64)), "y must have the dtype of x, float32, got float64"),
    ("scaled_add", (zeros(3), zeros(3, 1)), "y must have 1 dimension, got 2"),
    ("scaled_add", (zeros(3, 2), zeros(3)), "y must have 2 dimensions, got 1"),
    ("scaled_add", (zeros(3, 2), zeros(3, 1)), "y must have size 2 in dimension 1, as x has, got 1"),
    ("graph_conv", (zeros(9), X, W, B), "a must have 2 dimensions, got 1"),
    ("graph_conv", (A, zeros(3), W, B), "x must have 2 dimensions, got 1"),
    ("graph_conv", (A, X, zeros(2), B), "weight must have 2 dimensions, got 1"),
    ("graph_conv", (A, X, W, zeros(1, 4)), "bias must have 1 dimension, got 2"),
    ("graph_conv", (zeros(4, 3), X, W, B), "a must have n = 3 rows, got 4"),
    ("graph_conv", (zeros(3, 4), X, W, B), "a must have n = 3 columns, got 4"),
    ("graph_conv", (A, X, zeros(3, 4), B), "weight must have f = 2 rows, got 3"),
    ("graph_conv", (A, X, W, zeros(3)), "bias must have k = 4 elements, got 3"),
    ("graph_conv", (A.double(), X, W, B), "a must have the dtype of x, float32, got float64"),
    ("graph_conv", (A, X, W.double(), B), "weight must have the dtype of x, float32, got float64"),
    ("graph_conv", (A, X, W, B.double()), "bias must have the dtype of x, float32, got float64"),
    ("graph_conv_csr", (ROWPTR[None], COL, None, X, W), "rowptr must have 1 dimension, got 2"),
    ("graph_conv_csr", (ROWPTR, COL[None], None, X, W), "col must have 1 dimension, got 2"),
    ("graph_conv_csr", (ROWPTR, COL, VALUE[None], X, W), "value must have 1 dimension, got 2"),
    ("graph_conv_csr", (ROWPTR, COL, None, X[0], W), "x must have 2 dimensions, got 1"),
    ("graph_conv_csr", (ROWPTR, COL, None, X, W[0]), "weight must have 2 dimensions, got 1"),
    ("graph_conv_csr", (ROWPTR, COL, None, X, W, B[None]), "bias must have 1 dimension, got 2"),
    ("graph_conv_csr", (zeros(4), COL, None, X, W), "rowptr must be int32 or int64, got float32"),
    (
        "graph_conv_csr",
        (ROWPTR, COL.int(), None, X, W),
        "col must have the dtype of rowptr, int64, got int32",
    ),
    (
        "graph_conv_csr",
        (ROWPTR, COL, VALUE.double(), X, W),
        "value must have the dtype of x, float32, got float64",
    ),
    (
        "graph_conv_csr",
        (ROWPTR, COL, None, X, W.double()),
        "weight must have the dtype of x, float32, got float64",
    ),
    (
        "graph_conv_csr",
        (ROWPTR, COL, None, X, W, B.double()),
        "bias must have the dtype of x, float32, got float64",
    ),
    (
        "graph_conv_csr",
        (zeros(34, dtype=I64), COL, None, zeros(34, 2), W),
        "rowptr must have n+1 = 35 elements, got 34",
    ),
    (
        "graph_conv_csr",
        (zeros(0, dtype=I64), COL, None, zeros(0, 2), W),
        "rowptr must have n+1 = 1 elements, got 0",
    ),
    ("graph_conv_csr", (ROWPTR, COL, zeros(3), X, W), "value must have nnz = 2 elements, got 3"),
    ("graph_conv_csr", (ROWPTR, COL, None, X, zeros(3, 4)), "weight must have f = 2 rows, got 3"),
    ("graph_conv_csr", (ROWPTR, COL, None, X, W, zeros(3)), "bias must have k = 4 elements, got 3"),
    ("gcn_norm", (ROWPTR[None], COL, VALUE), "rowptr must have 1 dimension, got 2"),
    ("gcn_norm", (ROWPTR, COL[None], VALUE), "col must have 1 dimension, got 2"),
    ("gcn_norm", (ROWPTR, COL, VALUE[None]), "value must have 1 dimension, got 2"),
    ("gcn_norm", (ROWPTR, COL.int(), VALUE), "col must have the dtype of rowptr, int64, got int32"),
    ("gcn_norm", (ROWPTR, COL, VALUE[:1]), "value must have nnz = 2 elements, got 1"),
    ("gcn_norm", (ROWPTR[:0], COL, VALUE), "rowptr must have n+1 elements, 1 or more, got 0"),
    ("warp_perspective", (zeros(5), EYE), "image must have 2, 3 or 4 dimensions, got 1"),
    ("warp_perspective", (zeros(1, 1, 1, 5, 5), EYE), "image must have 2, 3 or 4 dimensions, got 5"),
    ("warp_perspective", (zeros(5, 5), zeros(9)), "matrix must be [3, 3]"),
    ("warp_perspective", (zeros(5, 5), EYE[None]), "matrix must be [3, 3]"),
    ("warp_perspective", (zeros(2, 5, 5), EYE.expand(2, 3, 3)), "matrix must be [3, 3]"),
    ("warp_perspective", (zeros(5, 5), zeros(2, 3)), "matrix must be 3 by 3, got 2 by 3"),
    ("warp_perspective", (zeros(5, 5), zeros(3, 4)), "matrix must be 3 by 3, got 3 by 4"),
    ("warp_perspective", (zeros(2, 1, 5, 5), EYE.expand(3, 3, 3)), "matrix must hold N = 2 matrices, got 3"),
    ("warp_perspective", (zeros(5, 5), EYE, (8,)), "size must be (height, width), 2 numbers, got 1"),
    ("warp_perspective", (zeros(5, 5), EYE, (8, 8, 8)), "size must be (height, width), 2 numbers, got 3"),
    (
        "warp_perspective",
        (zeros(5, 5), EYE, (8, -1)),
        "size[1] must be at least 0 and below 2^31 - 8, got -1",
    ),
    (
        "warp_perspective",
        (zeros(5, 5), EYE, (2**31, 1)),
        "size[0] must be at least 0 and below 2^31 - 8, got 2147483648",
    ),
]

# Decided by values, or by what the CPU kernels offer: eager only.
VALUES = [
    ("gcn_norm", (ROWPTR, COL, VALUE.half()), "value must be float32 or float64 on the CPU, got float16"),
    ("gcn_norm", (ROWPTR, COL, VALUE.int()), "value must be of a floating-point dtype, got int32"),
    ("gcn_norm", (ROWPTR + 1, COL, VALUE), "rowptr must start at 0, got 1"),
    ("gcn_norm", (ROWPTR, COL + 1, VALUE), "col must be in [0, n = 3), got col[0] = 3"),
    (
        "scaled_add",
        (zeros(3, dtype=torch.float16),) * 2,
        "x must be float32 or float64 on the CPU, got float16",
    ),
    ("scaled_add", (zeros(3, dtype=I64),) * 2, "x must be of a floating-point dtype, got int64"),
    (
        "scaled_add",
        (zeros(3, dtype=torch.complex64),) * 2,
        "x must be of a floating-point dtype, got another dtype",
    ),
    (
        "graph_conv",
        (A.bfloat16(), X.bfloat16(), W.bfloat16()),
        "x must be float32 or float64 on the CPU, got bfloat16",
    ),
    ("graph_conv", (A.int(), X.int(), W.int()), "x must be of a floating-point dtype, got int32"),
    (
        "graph_conv_csr",
        (ROWPTR, COL, None, X.half(), W.half()),
        "x must be float32 or float64 on the CPU, got float16",
    ),
    ("graph_conv_csr", (index(1, 1, 1, 2), COL, None, X, W), "rowptr must start at 0, got 1"),
    ("graph_conv_csr", (index(-1, 1, 1, 2), COL, None, X, W), "rowptr must start at 0, got -1"),
    (
        "graph_conv_csr",
        (index(0, 2, 1, 2), COL, None, X, W),
        "rowptr must not decrease, got rowptr[2] = 1 after 2",
    ),
    ("graph_conv_csr", (index(0, 1, 1, 3), COL, None, X, W), "rowptr must end at nnz = 2, got 3"),
    ("graph_conv_csr", (index(0, 1, 1, 1), COL, None, X, W), "rowptr must end at nnz = 2, got 1"),
    (
        "graph_conv_csr",
        (index(0, 9, 9, 2), COL, None, X, W),
        "rowptr must not decrease, got rowptr[3] = 2 after 9",
    ),
    ("graph_conv_csr", (ROWPTR, index(2, 3), None, X, W), "col must be in [0, n = 3), got col[1] = 3"),
    ("graph_conv_csr", (ROWPTR, index(-1, 0), None, X, W), "col must be in [0, n = 3), got col[0] = -1"),
    (
        "graph_conv_csr",
        (ROWPTR, index(0, 2**40), None, X, W),
        "col must be in [0, n = 3), got col[1] = 1099511627776",
    ),
    ("graph_conv_csr", (index(0), index(0), None, X[:0], W), "rowptr must end at nnz = 1, got 0"),
    (
        "graph_conv_csr",
        (ROWPTR.int(), index(2**31 - 1, 0, dtype=I32), None, X, W),
        "col must be in [0, n = 3), got col[0] = 2147483647",
    ),
    (
        "warp_perspective",
        (zeros(5, 5, dtype=torch.uint8), EYE),
        "image must be of a floating-point dtype, got another dtype",
    ),
    (
        "warp_perspective",
        (zeros(5, 5).half(), EYE),
        "image must be float32 or float64 on the CPU, got float16",
    ),
    ("warp_perspective", (zeros(5, 5), EYE.int()), "matrix must be float32 or float64, got int32"),
    ("warp_perspective", (zeros(5, 5), zeros(3, 3)), "matrix must be invertible, got a singular matrix 0"),
    ("warp_perspective", (zeros(5, 5), EYE[[0, 1, 1]]), "matrix must be invertible, got a singular matrix 0"),
    ("warp_perspective", (zeros(5, 5), EYE * NAN), "matrix must be finite, got nan at [0, 0] of matrix 0"),
    (
        "warp_perspective",
        (zeros(2, 1, 5, 5), torch.stack((EYE, EYE.index_put((index(2), index(1)), torch.tensor(INF))))),
        "matrix must be finite, got inf at [2, 1] of matrix 1",
    ),
]


def case_id(case: object) -> str | None:
    return case if isinstance(case, str) else ""


@pytest.mark.parametrize(("op", "args", "message"), SHAPES + VALUES, ids=case_id)
def test_eager(op: str, args: tuple, message: str) -> None:
    with pytest.raises(RuntimeError) as error:
        getattr(opserve_ops, op)(*args)
    assert str(error.value).startswith(f"opserve::{op}: {message}")


@pytest.mark.parametrize(("op", "args", "message"), SHAPES, ids=case_id)
def test_traced(op: str, args: tuple, message: str) -> None:
    with FakeTensorMode() as mode:
        fake = tuple(mode.from_tensor(arg) if isinstance(arg, Tensor) else arg for arg in args)
        with pytest.raises((RuntimeError, ValueError), match=re.escape(f"opserve::{op}: {message}")):
            getattr(opserve_ops, op)(*fake)


def test_collinear_corners_are_singular() -> None:
    """As a handler would compute it from corners on one line: not exactly singular, but to rounding."""
    source = torch.tensor([[0.1, 0.1], [3.3, 3.3], [7.7, 7.7], [9.1, 9.1]], dtype=F64)
    line = torch.cat((source[:3], torch.ones(3, 1, dtype=F64)), 1).T
    for dtype in (F32, F64):
        with pytest.raises(RuntimeError, match="must be invertible"):
            opserve_ops.warp_perspective(zeros(5, 5), line.to(dtype), (8, 8))


def test_an_empty_batch_does_not_check_matrices_it_has_not() -> None:
    assert opserve_ops.warp_perspective(zeros(0, 1, 5, 5), zeros(0, 3, 3)).shape == (0, 1, 8, 8)


NEEDS = [True] * 4
# Good arguments of every operator, the backward ones included.
GOOD = {
    "scaled_add": (zeros(3), zeros(3)),
    "graph_conv": (A, X, W, B),
    "graph_conv_csr": (ROWPTR, COL, VALUE, X, W, B),
    "warp_perspective": (zeros(5, 5), EYE),
    "check_csr": (ROWPTR, COL, 3),
    "gcn_norm": (ROWPTR, COL, VALUE),
    "_gcn_norm_backward": (zeros(5), ROWPTR, COL, VALUE, 1.0),
    "_graph_conv_backward": (zeros(3, 4), A, X, W, NEEDS),
    "_graph_conv_csr_backward": (zeros(3, 4), ROWPTR, COL, VALUE, X, W, NEEDS),
    "_warp_perspective_backward": (zeros(8, 8), zeros(5, 5), EYE, (8, 8), NEEDS[:2]),
}
MIXED = [(op, at) for op, args in GOOD.items() for at, arg in enumerate(args) if isinstance(arg, Tensor)]


@pytest.mark.parametrize(("op", "at"), MIXED)
def test_tensors_on_another_device(op: str, at: int) -> None:
    """One that has no memory, which PyTorch hands to the fake kernel; and one of a GPU, traced."""
    args = GOOD[op]
    overload = getattr(torch.ops.opserve, op).default
    message = rf"^opserve::{op}: \w+ must be on the device of \w+, \w+ \(index \d\), got \w+ \(index \d\)"
    moved = [arg.to("meta") if i == at else arg for i, arg in enumerate(args)]
    with pytest.raises(RuntimeError, match=message):
        overload(*moved)
    with FakeTensorMode() as mode:
        fake = [mode.from_tensor(arg) if isinstance(arg, Tensor) else arg for arg in args]
        overload(*fake)
        fake[at] = FakeTensor(mode, moved[at], torch.device("cuda", 1))
        with pytest.raises(RuntimeError, match=message):
            overload(*fake)


def large(*shape: int, dtype: torch.dtype = F32) -> Tensor:
    """Of sizes that no memory has: one element, again and again."""
    return torch.zeros(1, dtype=dtype).expand(shape)


N, SIDE, FAR = 2**31, 2**30, 2**62
NARROW, WIDE = zeros(N, 0), zeros(0, FAR)
OVERFLOWING = [
    ("scaled_add", (large(2**61, dtype=F64),) * 2, "x"),
    ("graph_conv", (large(N, N), NARROW, WIDE), "the result"),
    ("graph_conv_csr", (large(N + 1, dtype=I64), large(5, dtype=I64), None, NARROW, WIDE), "the result"),
    ("warp_perspective", (zeros(N, N, 0, 0), EYE, (SIDE, SIDE)), "the result"),
    ("gcn_norm", (large(2**60, dtype=I64), index(), zeros(0)), "the result"),
    ("_gcn_norm_backward", (large(2**60 - 1), large(2**60, dtype=I64), index(), zeros(0), 1.0), "the result"),
    ("_scaled_add_backward", (large(2**61, dtype=F64), 2.0), "grad"),
    ("_graph_conv_backward", (large(N, SIDE), large(N, N), NARROW, WIDE, NEEDS), "the result"),
    (
        "_graph_conv_csr_backward",
        (large(N, SIDE), large(N + 1, dtype=I64), large(5, dtype=I64), None, NARROW, WIDE, NEEDS),
        "the result",
    ),
    ("_warp_perspective_backward", (large(5, 5), zeros(N, N, 0, 0), EYE, (SIDE, SIDE), NEEDS[:2]), "the result"),
]


@pytest.mark.parametrize(("op", "args", "name"), OVERFLOWING, ids=case_id)
def test_sizes_that_overflow(op: str, args: tuple, name: str) -> None:
    """Before anything is read or allocated, or this test would never end."""
    with pytest.raises(RuntimeError) as error:
        getattr(torch.ops.opserve, op).default(*args)
    message = rf"opserve::\w+: {name} must fit in 2\^63 bytes, got sizes whose product does not"
    assert re.match(message, str(error.value))


def test_rows_that_are_too_many_for_rowptr() -> None:
    rows = large(2**63 - 1, 0)
    with pytest.raises(RuntimeError, match=r"x must have fewer than 2\^63 - 1 rows"):
        opserve_ops.graph_conv_csr(ROWPTR, COL, None, rows, zeros(0, 1))
