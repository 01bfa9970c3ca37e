"""Gradients: those of each operator are what its backward operator gives, which itself has none.

Where extensions/bindings/autograd was built for this version of PyTorch, it has registered the same in C++, and nothing
here is used: Python would add ten microseconds to a call that takes a few.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._operator import OPERATORS, Operator


def _alert_not_deterministic(op: str, gradients: str, tensor: Tensor) -> None:
    """Does what PyTorch does for its own operators whose gradients CUDA sums in the order in which threads come.

    Args:
        op: The operator.
        gradients: The names of the arguments concerned.
        tensor: Any of the arguments.

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


def formulas(operator: Operator) -> tuple[Callable[..., None], Callable[..., tuple[Tensor | None, ...]]]:
    """Returns how autograd saves the arguments of an operator, and how it computes their gradients.

    The schemas say all about both: a backward operator takes the gradient of the (last) result, those arguments of the
    operator that it names, and, if it computes only what is needed, a list of bools; it returns the gradients of the
    operator's last tensors.
    """
    arguments = operator.forward._schema.arguments
    names = [argument.name for argument in arguments]
    takes = [argument.name for argument in operator.backward._schema.arguments[1:]]
    tensors = [argument.name for argument in arguments if "Tensor" in str(argument.type)]
    differentiable = tensors[-len(operator.backward._schema.returns) :]
    saved_tensors = [name for name in takes if name in tensors]
    saved_numbers = [name for name in takes if name in names and name not in tensors]

    def save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        given = dict(zip(names, inputs, strict=True))
        ctx.save_for_backward(*(given[name] for name in saved_tensors))
        ctx.numbers = {name: given[name] for name in saved_numbers}

    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[-1]
        # An argument that the call left out is not counted.
        counted = dict(zip(names, ctx.needs_input_grad, strict=False))
        needed = {name: counted.get(name, False) for name in differentiable}
        saved = dict(zip(saved_tensors, ctx.saved_tensors, strict=True))
        gradients = operator.not_deterministic(saved, needed)
        if gradients:
            _alert_not_deterministic(operator.name, gradients, grad)
        values = {**saved, **ctx.numbers, "needs": tuple(needed.values())}
        results = operator.backward(grad, *(values[name] for name in takes))
        results = (results,) if isinstance(results, Tensor) else results
        found = dict(zip(differentiable, results, strict=True))
        return tuple(found[name] if needed.get(name, False) else None for name in names)

    return save, backward


def _no_second_backward(overload: torch._ops.OpOverload) -> None:
    """Makes a backward through a backward operator raise an error that says there is none."""

    def backward(ctx: Any, *grads: Tensor) -> None:
        raise RuntimeError(f"{overload._schema.name}: gradients of gradients are not supported (a second backward)")

    torch.library.register_autograd(overload, backward)


def register() -> None:
    """Registers the gradients of all operators that have a backward operator."""
    for operator in OPERATORS:
        if operator.fake_backward is not None:
            save, backward = formulas(operator)
            torch.library.register_autograd(operator.forward, backward, setup_context=save)
            _no_second_backward(operator.backward)
