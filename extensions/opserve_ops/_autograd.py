"""Gradients: for each operator the formula of its backward operator, which itself has none.

Where extensions/bindings/autograd was built for this version of PyTorch, it has registered the same in C++, and nothing
here is used: from Python each of a few microseconds' calls costs ten more.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def _no_second_backward(op: str) -> None:
    """Makes a backward through a backward operator say that there is none."""

    def backward(ctx: Any, *grads: Tensor) -> None:
        raise RuntimeError(f"opserve::{op}: gradients of gradients are not supported (a second backward)")

    torch.library.register_autograd(f"opserve::{op}", backward)


def _alert_not_deterministic(op: str, gradients: str, tensor: Tensor) -> None:
    """For gradients that CUDA sums in the order in which threads come by: what PyTorch does for its own such operators.

    Args:
        op: the operator.
        gradients: those of what.
        tensor: any of the arguments.

    Raises:
        RuntimeError: `torch.use_deterministic_algorithms(True)` is set; with `warn_only=True` it is a warning.
    """
    if tensor.device.type != "cuda" or not torch.are_deterministic_algorithms_enabled():
        return
    message = (
        f"opserve::{op}: the gradient of {gradients} has no deterministic implementation on CUDA, and "
        "torch.use_deterministic_algorithms(True) is set. Compute it on the CPU, or let it differ by roundings from "
        "call to call: use_deterministic_algorithms(True, warn_only=True)"
    )
    if not torch.is_deterministic_algorithms_warn_only_enabled():
        raise RuntimeError(message)
    warnings.warn(message, stacklevel=2)


# --- scaled_add


def _save_scaled_add(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
    ctx.alpha = inputs[2]


def _scaled_add_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    grad_x, grad_y = torch.ops.opserve._scaled_add_backward.default(grad, ctx.alpha)
    return grad_x, grad_y, None


# --- warp_perspective


def _save_warp_perspective(ctx: Any, inputs: tuple[Tensor, Tensor, Sequence[int]], output: Tensor) -> None:
    image, matrix, size = inputs
    ctx.save_for_backward(image, matrix)
    ctx.size = size


def _warp_perspective_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    image, matrix = ctx.saved_tensors
    needs = ctx.needs_input_grad[:2]
    if needs[0]:
        _alert_not_deterministic("warp_perspective", "image", image)
    grad_image, grad_matrix = torch.ops.opserve._warp_perspective_backward.default(grad, image, matrix, ctx.size, needs)
    return grad_image if needs[0] else None, grad_matrix if needs[1] else None, None


# --- graph_conv


def _four(needs: tuple[bool, ...]) -> tuple[bool, ...]:
    """Without a word on the bias where the call left it out."""
    return (*needs, False)[:4]


def _save_graph_conv(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor | None], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])


def _graph_conv_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needs = _four(ctx.needs_input_grad)
    grads = torch.ops.opserve._graph_conv_backward.default(grad, *ctx.saved_tensors, needs)
    return tuple(grad if needed else None for grad, needed in zip(grads, needs, strict=True))


# --- graph_conv_csr


def _save_graph_conv_csr(ctx: Any, inputs: tuple[Tensor | None, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])


def _graph_conv_csr_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needs = _four(ctx.needs_input_grad[2:])
    f, k = ctx.saved_tensors[4].shape
    # The two that a product with the transposed matrix is for.
    if needs[1] or (needs[2] and k <= f):
        _alert_not_deterministic("graph_conv_csr", "x or weight", grad)
    grads = torch.ops.opserve._graph_conv_csr_backward.default(grad, *ctx.saved_tensors, needs)
    return (None, None, *(grad if needed else None for grad, needed in zip(grads, needs, strict=True)))


def register() -> None:
    """Makes autograd know these formulas."""
    for op, backward, save in (
        ("scaled_add", _scaled_add_backward, _save_scaled_add),
        ("warp_perspective", _warp_perspective_backward, _save_warp_perspective),
        ("graph_conv", _graph_conv_backward, _save_graph_conv),
        ("graph_conv_csr", _graph_conv_csr_backward, _save_graph_conv_csr),
    ):
        torch.library.register_autograd(f"opserve::{op}", backward, setup_context=save)
        _no_second_backward(f"_{op}_backward")
