"""${name}: scale * x^2, element by element."""

import torch
from torch import Tensor

from .._operator import Expect, Operator


def ${name}(x: Tensor, scale: float = 1.0) -> Tensor:
    """scale * x^2, element by element.

    Args:
        x: Any shape; float32 or float64, on CUDA also float16 or bfloat16.
        scale: A number; rounded to the dtype of `x`.

    Returns:
        A contiguous tensor of the shape and dtype of `x`.

    Raises:
        RuntimeError: The dtype is not supported.

    Source: extensions/include/opserve/${name}.h
    """
    return torch.ops.opserve.${name}.default(x, scale)


def _fake(expect: Expect, x: Tensor, scale: float) -> Tensor:
    return x.new_empty(x.shape)


def _fake_backward(expect: Expect, grad: Tensor, x: Tensor, scale: float) -> Tensor:
    expect.same_shape("grad", grad, x.shape, "x")
    return x.new_empty(x.shape)


Operator("${name}", types={"T": ("x",)}, fake=_fake, fake_backward=_fake_backward, onnx="${Class}")
