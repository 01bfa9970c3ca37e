"""What one call costs beside its work: scaled_add on 16 elements against the same operator written against ATen."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

from benchmarks.ops import _native
from benchmarks.ops_bench import Contest


@cache
def _register_gradient() -> None:
    """As opserve_ops registers its own, the gradient itself in ATen's operators."""

    def save(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        ctx.alpha = inputs[2]

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        return grad * ctx.alpha, grad, None

    torch.library.register_autograd("opserve_unstable::scaled_add_python_gradient", backward, setup_context=save)


def contests(quick: bool) -> Iterator[Contest]:
    _native.unstable_operators()
    _register_gradient()
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(16, generator=generator) for _ in range(2))
    trained_x, trained_y = x.clone().requires_grad_(), y.clone().requires_grad_()
    # Without the functions of Python around them.
    ours = torch.ops.opserve.scaled_add.default
    unstable = torch.ops.opserve_unstable.scaled_add.default
    in_python = torch.ops.opserve_unstable.scaled_add_python_gradient.default
    common = {"op": "one call", "goal": 1 / 1.1, "threads": (1,)}
    yield Contest(
        **common,
        against="an unstable ATen operator",
        case="16 elements, inference_mode",
        ours=lambda: ours(x, y),
        peers={"unstable": lambda: unstable(x, y)},
    )
    yield Contest(
        **common,
        against="an unstable ATen operator",
        case="16 elements",
        ours=lambda: ours(x, y),
        peers={"unstable": lambda: unstable(x, y)},
        gradients=True,
    )
    yield Contest(
        **common,
        against="the same, its gradient in Python",
        case="16 elements, requires_grad",
        ours=lambda: ours(trained_x, trained_y),
        peers={"register_autograd": lambda: in_python(trained_x, trained_y)},
        gradients=True,
    )
    yield Contest(
        **common,
        against="the same, its gradient in C++",
        case="16 elements, requires_grad",
        ours=lambda: ours(trained_x, trained_y),
        peers={"torch::autograd::Function": lambda: unstable(trained_x, trained_y)},
        gradients=True,
    )
