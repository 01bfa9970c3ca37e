"""Fake kernels: the shape and dtype of each result, for tracing, compiling and exporting.

What all operators have in common is checked here: tensors of one type have one dtype, and all are on one device.
"""

from typing import Any

import torch
from torch import Tensor

from ._operator import OPERATORS, Arguments, Expect, Fake, Operator, bind


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _device_name(tensor: Tensor) -> str:
    return f"{tensor.device.type} (index {tensor.device.index or 0})"


def _check_types(expect: Expect, operator: Operator, arguments: Arguments) -> None:
    base_name, base = "", None
    for letter, names in operator.types.items():
        first_name, first = "", None
        # The gradient of a result is of type T, too.
        for name in (*names, "grad") if letter == "T" else names:
            tensor: Tensor | None = arguments.get(name)
            if tensor is None:
                continue
            dtype, device = _dtype_name(tensor), _device_name(tensor)
            if base is None:
                base_name, base = name, tensor
            if first is None:
                first_name, first = name, tensor
                is_index = tensor.dtype in (torch.int32, torch.int64)
                expect.that(letter != "I" or is_index, "{} must be int32 or int64, got {}", name, dtype)
            same_dtype, same_device = tensor.dtype == first.dtype, tensor.device == base.device
            message = "{} must have the dtype of {}, {}, got {}"
            expect.that(same_dtype, message, name, first_name, _dtype_name(first), dtype)
            message = "{} must be on the device of {}, {}, got {}"
            expect.that(same_device, message, name, base_name, _device_name(base), device)


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
