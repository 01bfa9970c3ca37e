"""${name}: scale * the sum of x^2, row by row."""

import torch
from torch import Tensor

from .._operator import Expect, Operator


def ${name}(x: Tensor, scale: float = 1.0) -> Tensor:
    """scale * the sum of x^2, row by row.

    Args:
        x: [n, f], float32 or float64, on CUDA also float16 or bfloat16.
        scale: A number; rounded to the dtype of `x`.

    Returns:
        [n], of the dtype of `x`.

    Raises:
        RuntimeError: `x` is not a matrix, or its dtype is not supported.

    Source: extensions/include/opserve/${name}.h
    """
    return torch.ops.opserve.${name}.default(x, scale)


def _fake(expect: Expect, x: Tensor, scale: float) -> Tensor:
    n, _ = expect.rank("x", x, 2)
    return x.new_empty((n,))


def _fake_backward(expect: Expect, grad: Tensor, x: Tensor, scale: float) -> Tensor:
    n, _ = expect.rank("x", x, 2)
    expect.shape("grad", grad, ("n", n))
    return x.new_empty(x.shape)


Operator("${name}", types={"T": ("x",)}, fake=_fake, fake_backward=_fake_backward, onnx="${Class}")
