"""scaled_add: alpha * x + y, element by element."""

import torch
from torch import Tensor

from .._operator import Expect, Operator, gradient


def scaled_add(x: Tensor, y: Tensor, alpha: float = 2.0) -> Tensor:
    """Computes alpha * x + y, element by element.

    Args:
        x: Any shape; float32 or float64, on CUDA also float16 or bfloat16.
        y: The shape, dtype and device of `x`; nothing is broadcast.
        alpha: Rounded to the dtype of `x`.

    Returns:
        A contiguous tensor of the shape and dtype of `x`.

    Raises:
        RuntimeError: Shapes, dtypes or devices differ, or the dtype is not supported.

    Source: extensions/include/opserve/scaled_add.h
    """
    return torch.ops.opserve.scaled_add.default(x, y, alpha)


def _fake(expect: Expect, x: Tensor, y: Tensor, alpha: float) -> Tensor:
    expect.same_shape("y", y, x.shape, "x")
    return x.new_empty(x.shape)


def _fake_backward(expect: Expect, grad: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    return gradient(grad, needed=True), gradient(grad, needed=True)


Operator("scaled_add", types={"T": ("x", "y")}, fake=_fake, fake_backward=_fake_backward, onnx="ScaledAdd")
