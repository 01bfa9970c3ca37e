"""The cost of one call besides its work: scaled_add on 16 elements against the same operator written against ATen."""

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.common.comparison import Comparison
from benchmarks.ops.native import register_unstable_operators


@cache
def _register_gradient() -> None:
    """Registers a gradient in Python, as opserve_ops registers its own; the gradient itself uses ATen's operators."""

    def save(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        ctx.alpha = inputs[2]

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        return grad * ctx.alpha, grad, None

    torch.library.register_autograd("opserve_unstable::scaled_add_python_gradient", backward, setup_context=save)


def comparisons(*, quick: bool) -> Iterator[Comparison]:
    """Generates the comparisons; there are few in any case."""
    register_unstable_operators()
    _register_gradient()
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(16, generator=generator) for _ in range(2))
    trained_x, trained_y = x.clone().requires_grad_(), y.clone().requires_grad_()
    # The operators themselves, without the Python functions around them.
    ours = torch.ops.opserve.scaled_add.default
    unstable = torch.ops.opserve_unstable.scaled_add.default
    in_python = torch.ops.opserve_unstable.scaled_add_python_gradient.default
    one_call = partial(Comparison, subject="one call", goal=1 / 1.1, threads=(1,))
    for gradients in (False, True):
        yield one_call(
            baseline="an unstable ATen operator",
            case="16 elements" if gradients else "16 elements, inference_mode",
            ours=lambda: ours(x, y),
            forms={"unstable": lambda: unstable(x, y)},
            gradients=gradients,
        )
    yield one_call(
        baseline="the same, its gradient in Python",
        case="16 elements, requires_grad",
        ours=lambda: ours(trained_x, trained_y),
        forms={"register_autograd": lambda: in_python(trained_x, trained_y)},
        gradients=True,
    )
    yield one_call(
        baseline="the same, its gradient in C++",
        case="16 elements, requires_grad",
        ours=lambda: ours(trained_x, trained_y),
        forms={"torch::autograd::Function": lambda: unstable(trained_x, trained_y)},
        gradients=True,
    )
