"""Fake kernels: the shape and dtype of each result, for tracing, compiling and exporting.

Sizes may be symbolic, so nothing here depends on their values. The checks are those that shapes and dtypes
alone can decide; their messages are the operators' own.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def _expect(condition: bool | torch.SymBool, message: str) -> None:
    torch._check(condition, lambda: message)


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _expect_rank(op: str, name: str, tensor: Tensor, rank: int) -> None:
    plural = "" if rank == 1 else "s"
    _expect(
        tensor.dim() == rank,
        f"opserve::{op}: {name} must have {rank} dimension{plural}, got {tensor.dim()}",
    )


def _expect_dtype(op: str, name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    _expect(
        tensor.dtype == other.dtype,
        f"opserve::{op}: {name} must have the dtype of {other_name}, {_dtype_name(other)}, got {_dtype_name(tensor)}",
    )


def _device_name(tensor: Tensor) -> str:
    return f"{tensor.device.type} (index {tensor.device.index or 0})"


def _expect_device(op: str, name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    _expect(
        tensor.device == other.device,
        f"opserve::{op}: {name} must be on the device of {other_name}, {_device_name(other)}, "
        f"got {_device_name(tensor)}",
    )


def _expect_size(op: str, name: str, tensor: Tensor, axis: int, meaning: str, expected: int) -> None:
    unit = "elements" if tensor.dim() == 1 else ("rows", "columns")[axis]
    torch._check(
        tensor.size(axis) == expected,
        lambda: f"opserve::{op}: {name} must have {meaning} = {expected} {unit}, got {tensor.size(axis)}",
    )


def _expect_optional_vector(
    op: str, name: str, tensor: Tensor | None, other_name: str, other: Tensor, meaning: str, expected: int
) -> None:
    if tensor is None:
        return
    _expect_rank(op, name, tensor, 1)
    _expect_dtype(op, name, tensor, other_name, other)
    _expect_device(op, name, tensor, other_name, other)
    _expect_size(op, name, tensor, 0, meaning, expected)


@torch.library.register_fake("opserve::scaled_add")
def _(x: Tensor, y: Tensor, alpha: float = 2.0) -> Tensor:
    op = "scaled_add"
    _expect_dtype(op, "y", y, "x", x)
    _expect_device(op, "y", y, "x", x)
    _expect_rank(op, "y", y, x.dim())
    for axis in range(x.dim()):
        torch._check(
            y.size(axis) == x.size(axis),
            lambda axis=axis: (
                f"opserve::{op}: y must have size {x.size(axis)} in dimension {axis}, as x has, got {y.size(axis)}"
            ),
        )
    return x.new_empty(x.shape)


@torch.library.register_fake("opserve::graph_conv")
def _(a: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    op = "graph_conv"
    for name, tensor in (("a", a), ("x", x), ("weight", weight)):
        _expect_rank(op, name, tensor, 2)
        _expect_dtype(op, name, tensor, "x", x)
        _expect_device(op, name, tensor, "x", x)
    _expect_size(op, "a", a, 0, "n", x.size(0))
    _expect_size(op, "a", a, 1, "n", x.size(0))
    _expect_size(op, "weight", weight, 0, "f", x.size(1))
    _expect_optional_vector(op, "bias", bias, "x", x, "k", weight.size(1))
    return x.new_empty((x.size(0), weight.size(1)))


@torch.library.register_fake("opserve::graph_conv_csr")
def _(
    rowptr: Tensor, col: Tensor, value: Tensor | None, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    op = "graph_conv_csr"
    _expect_rank(op, "rowptr", rowptr, 1)
    _expect_rank(op, "col", col, 1)
    _expect_rank(op, "x", x, 2)
    _expect_rank(op, "weight", weight, 2)
    _expect(
        rowptr.dtype in (torch.int32, torch.int64),
        f"opserve::{op}: rowptr must be int32 or int64, got {_dtype_name(rowptr)}",
    )
    _expect_dtype(op, "col", col, "rowptr", rowptr)
    _expect_dtype(op, "weight", weight, "x", x)
    for name, tensor in (("rowptr", rowptr), ("col", col), ("weight", weight)):
        _expect_device(op, name, tensor, "x", x)
    _expect_size(op, "rowptr", rowptr, 0, "n+1", x.size(0) + 1)
    _expect_size(op, "weight", weight, 0, "f", x.size(1))
    _expect_optional_vector(op, "value", value, "x", x, "nnz", col.size(0))
    _expect_optional_vector(op, "bias", bias, "x", x, "k", weight.size(1))
    return x.new_empty((x.size(0), weight.size(1)))


@torch.library.register_fake("opserve::warp_perspective")
def _(image: Tensor, matrix: Tensor, size: Sequence[int] = (8, 8)) -> Tensor:
    op = "warp_perspective"
    _expect(
        2 <= image.dim() <= 4,
        f"opserve::{op}: image must have 2, 3 or 4 dimensions, got {image.dim()}",
    )
    _expect_device(op, "matrix", matrix, "image", image)
    _expect(
        matrix.dim() == 2 or (matrix.dim() == 3 and image.dim() == 4),
        f"opserve::{op}: matrix must be [3, 3], or [N, 3, 3] for a 4-D image, got {matrix.dim()} dimensions",
    )
    for axis in (-2, -1):
        torch._check(
            matrix.size(axis) == 3,
            lambda: f"opserve::{op}: matrix must be 3 by 3, got {matrix.size(-2)} by {matrix.size(-1)}",
        )
    if matrix.dim() == 3:
        torch._check(
            matrix.size(0) == image.size(0),
            lambda: f"opserve::{op}: matrix must hold N = {image.size(0)} matrices, got {matrix.size(0)}",
        )
    _expect(
        len(size) == 2,
        f"opserve::{op}: size must be (height, width), 2 numbers, got {len(size)}",
    )
    for i, side in enumerate(size):
        torch._check(
            0 <= side < 2**31 - 8,
            lambda i=i, side=side: f"opserve::{op}: size[{i}] must be at least 0 and below 2^31 - 8, got {side}",
        )
    return image.new_empty((*image.shape[:-2], *size))


@torch.library.register_fake("opserve::_scaled_add_backward")
def _(grad: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    return grad.new_empty(grad.shape), grad.new_empty(grad.shape)


@torch.library.register_fake("opserve::_warp_perspective_backward")
def _(grad: Tensor, image: Tensor, matrix: Tensor, size: Sequence[int], needs: Sequence[bool]) -> tuple[Tensor, Tensor]:
    op = "_warp_perspective_backward"
    _expect_rank(op, "grad", grad, image.dim())
    _expect_dtype(op, "grad", grad, "image", image)
    _expect_device(op, "grad", grad, "image", image)
    _expect_device(op, "matrix", matrix, "image", image)
    expected = (*image.shape[:-2], *size)
    for axis in range(grad.dim()):
        torch._check(
            grad.size(axis) == expected[axis],
            lambda axis=axis: (
                f"opserve::{op}: grad must have size {expected[axis]} in dimension {axis}, as the result has, "
                f"got {grad.size(axis)}"
            ),
        )
    return (
        image.new_empty(image.shape if needs[0] else (0,)),
        matrix.new_empty(matrix.shape if needs[1] else (0,)),
    )


@torch.library.register_fake("opserve::check_csr")
def _(rowptr: Tensor, col: Tensor, n: int) -> None:
    op = "check_csr"
    _expect_rank(op, "rowptr", rowptr, 1)
    _expect_rank(op, "col", col, 1)
    _expect_dtype(op, "col", col, "rowptr", rowptr)
    _expect_device(op, "col", col, "rowptr", rowptr)
    _expect_size(op, "rowptr", rowptr, 0, "n+1", n + 1)


@torch.library.register_fake("opserve::_graph_conv_backward")
def _(
    grad: Tensor, a: Tensor, x: Tensor, weight: Tensor, needs: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    op = "_graph_conv_backward"
    _expect_graph_conv_grad(op, grad, x, weight)
    _expect_device(op, "a", a, "x", x)
    return (
        a.new_empty(a.shape if needs[0] else (0,)),
        x.new_empty(x.shape if needs[1] else (0,)),
        weight.new_empty(weight.shape if needs[2] else (0,)),
        x.new_empty((weight.size(1) if needs[3] else 0,)),
    )


@torch.library.register_fake("opserve::_graph_conv_csr_backward")
def _(
    grad: Tensor,
    rowptr: Tensor,
    col: Tensor,
    value: Tensor | None,
    x: Tensor,
    weight: Tensor,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    op = "_graph_conv_csr_backward"
    _expect_graph_conv_grad(op, grad, x, weight)
    for name, tensor in (("rowptr", rowptr), ("col", col), ("value", value)):
        if tensor is not None:
            _expect_device(op, name, tensor, "x", x)
    return (
        # What is not there has no gradient.
        x.new_empty(value.shape if value is not None and needs[0] else (0,)),
        x.new_empty(x.shape if needs[1] else (0,)),
        weight.new_empty(weight.shape if needs[2] else (0,)),
        x.new_empty((weight.size(1) if needs[3] else 0,)),
    )


def _expect_graph_conv_grad(op: str, grad: Tensor, x: Tensor, weight: Tensor) -> None:
    _expect_rank(op, "grad", grad, 2)
    _expect_dtype(op, "grad", grad, "x", x)
    _expect_device(op, "grad", grad, "x", x)
    _expect_device(op, "weight", weight, "x", x)
    _expect_size(op, "grad", grad, 0, "n", x.size(0))
    _expect_size(op, "grad", grad, 1, "k", weight.size(1))
