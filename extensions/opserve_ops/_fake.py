"""Fake kernels: the shape and dtype of each result, for tracing, compiling and exporting.

What is common to all operators is here: the tensors of one type have one dtype, and all are on one device.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ._operator import OPERATORS, Arguments, Expect, Fake, Operator, bind


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _device_name(tensor: Tensor) -> str:
    return f"{tensor.device.type} (index {tensor.device.index or 0})"


def _groups(operator: Operator, arguments: Arguments) -> Iterator[tuple[str, list[tuple[str, Tensor]]]]:
    """Yields each type with the tensors of it that the call has; the gradient of a result is of type T."""
    for letter, names in operator.types.items():
        present = [(name, arguments[name]) for name in names if arguments.get(name) is not None]
        if letter == "T" and "grad" in arguments:
            present.append(("grad", arguments["grad"]))
        if present:
            yield letter, present


def _check_types(expect: Expect, operator: Operator, arguments: Arguments) -> None:
    groups = list(_groups(operator, arguments))
    base_name, base = groups[0][1][0]
    for letter, tensors in groups:
        first_name, first = tensors[0]
        if letter == "I":
            expect.that(
                first.dtype in (torch.int32, torch.int64),
                lambda: f"{first_name} must be int32 or int64, got {_dtype_name(first)}",  # noqa: B023
            )
        for name, tensor in tensors:
            expect.that(
                tensor.dtype == first.dtype,
                lambda: (
                    f"{name} must have the dtype of {first_name}, {_dtype_name(first)}, got {_dtype_name(tensor)}"  # noqa: B023
                ),
            )
            expect.that(
                tensor.device == base.device,
                lambda: (
                    f"{name} must be on the device of {base_name}, {_device_name(base)}, got {_device_name(tensor)}"  # noqa: B023
                ),
            )


def _register(operator: Operator, overload: torch._ops.OpOverload, fake: Fake) -> None:
    expect = Expect(overload._schema.name.removeprefix("opserve::"))

    def run(*args: Any, **kwargs: Any) -> Any:
        arguments = bind(overload, args, kwargs)
        _check_types(expect, operator, arguments)
        return fake(expect, *arguments.values())

    torch.library.register_fake(overload, run)


def register() -> None:
    """Registers the fake kernels of all operators."""
    for operator in OPERATORS:
        _register(operator, operator.forward, operator.fake)
        if operator.fake_backward is not None:
            _register(operator, operator.backward, operator.fake_backward)
