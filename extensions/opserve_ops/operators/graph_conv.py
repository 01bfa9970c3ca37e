"""graph_conv: a graph convolution over a dense matrix."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .._operator import Expect, Operator, gradient


def graph_conv(a: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Computes a·x·weight + bias, a graph convolution over a dense matrix, in the cheaper order of the products.

    Args:
        a: [n, n], float32 or float64, on CUDA also float16 or bfloat16.
        x: [n, f], with the dtype and device of `a`, like the rest.
        weight: [f, k].
        bias: [k], optional.

    Returns:
        [n, k], contiguous.

    Raises:
        RuntimeError: A rank or size does not match, dtypes or devices are mixed, or the dtype is not supported.

    Source: extensions/include/opserve/graph_conv.h. The layer is from Kipf and Welling, "Semi-Supervised
    Classification with Graph Convolutional Networks", 2017.
    """
    return torch.ops.opserve.graph_conv.default(a, x, weight, bias)


def _fake(expect: Expect, a: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    n, f = expect.rank("x", x, 2)
    k = expect.rank("weight", weight, 2)[1]
    expect.shape("a", a, ("n", n), ("n", n))
    expect.shape("weight", weight, ("f", f), ("k", k))
    expect.shape("bias", bias, ("k", k))
    return x.new_empty((n, k))


def _fake_backward(
    expect: Expect, grad: Tensor, a: Tensor, x: Tensor, weight: Tensor, output_mask: Sequence[bool]
) -> tuple[Tensor, ...]:
    k = weight.size(1)
    expect.shape("grad", grad, ("n", x.size(0)), ("k", k))
    return (
        gradient(a, needed=output_mask[0]),
        gradient(x, needed=output_mask[1]),
        gradient(weight, needed=output_mask[2]),
        gradient(x, needed=output_mask[3], shape=(k,)),
    )


Operator(
    "graph_conv",
    types={"T": ("x", "a", "weight", "bias")},
    fake=_fake,
    fake_backward=_fake_backward,
    onnx="GraphConv",
)
