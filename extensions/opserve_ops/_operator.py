"""The declaration of an operator in Python, from which tracing, gradients and the ONNX export follow."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import SymBool, SymInt, Tensor

# Values by the names of the arguments.
Arguments = dict[str, Any]
Size: TypeAlias = int | SymInt
Condition: TypeAlias = bool | SymBool


class Expect:
    """The checks of sizes that a fake kernel makes, with the messages of the operator itself.

    Sizes may be symbolic. Values, and dtypes without kernels, are refused when the operator runs.
    """

    def __init__(self, op: str) -> None:
        self.op = op

    def that(self, condition: Condition, message: str, *values: object) -> None:
        """Raises RuntimeError unless the condition holds; the values are for the braces of the message."""
        torch._check(condition, lambda: f"opserve::{self.op}: {message.format(*values)}")

    def rank(self, name: str, tensor: Tensor, rank: int) -> torch.Size:
        """Checks the number of dimensions and returns the shape."""
        plural = "" if rank == 1 else "s"
        self.that(tensor.dim() == rank, "{} must have {} dimension{}, got {}", name, rank, plural, tensor.dim())
        return tensor.shape

    def shape(self, name: str, tensor: Tensor | None, *sizes: tuple[str, Size]) -> None:
        """Checks an optional vector or matrix against its sizes, each with what it is called."""
        if tensor is None:
            return
        units = ("elements",) if len(sizes) == 1 else ("rows", "columns")
        for size, unit, (called, expected) in zip(self.rank(name, tensor, len(sizes)), units, sizes, strict=True):
            self.that(size == expected, "{} must have {} = {} {}, got {}", name, called, expected, unit, size)

    def same_shape(self, name: str, tensor: Tensor, shape: Sequence[Size], other: str) -> None:
        """Checks a tensor of any rank against the shape of another."""
        message = "{} must have size {} in dimension {}, as {} has, got {}"
        for axis, size in enumerate(self.rank(name, tensor, len(shape))):
            self.that(size == shape[axis], message, name, shape[axis], axis, other, size)


class Fake(Protocol):
    """A fake kernel: takes all arguments of the operator and returns results without memory."""

    def __call__(self, expect: Expect, *arguments: Any) -> Any: ...


def gradient(like: Tensor, *, needed: bool, shape: Sequence[Size] | None = None) -> Tensor:
    """Returns the fake gradient of `like`, or of a tensor with another shape; an empty one if it is not needed."""
    return like.new_empty((like.shape if shape is None else shape) if needed else (0,))


OPERATORS: list["Operator"] = []


@dataclass(frozen=True)
class Operator:
    """What the schema of an operator does not say. Declaring one registers it in `OPERATORS`.

    Attributes:
        name: The name in `torch.ops.opserve`.
        types: The names of the tensor arguments by the letter of their type: T is floating-point, I int32 or int64, M
            float32 or float64. Arguments of one type have the dtype of the first; all are on the device of the very
            first.
        fake: The fake kernel.
        fake_backward: The fake kernel of the backward operator, `opserve::_<name>_backward`, if there is one.
        onnx: The name in ONNX, if it is there.
        results: The types of the results.
        not_deterministic: Takes the saved tensors, and which gradients are needed, by name; returns the names of
            those that CUDA sums in the order in which threads arrive, or an empty string.
    """

    name: str
    types: Mapping[str, Sequence[str]]
    fake: Fake
    fake_backward: Fake | None = None
    onnx: str | None = None
    results: Sequence[str] = ("T",)
    not_deterministic: Callable[[Mapping[str, Tensor], Mapping[str, bool]], str] = lambda saved, needed: ""

    def __post_init__(self) -> None:
        OPERATORS.append(self)

    @property
    def forward(self) -> torch._ops.OpOverload:
        """The operator."""
        return getattr(torch.ops.opserve, self.name).default

    @property
    def backward(self) -> torch._ops.OpOverload:
        """The backward operator."""
        return getattr(torch.ops.opserve, f"_{self.name}_backward").default


def bind(overload: torch._ops.OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Arguments:
    """Returns all arguments of a call by their names, in order, with defaults for those left out."""
    arguments = overload._schema.arguments
    given = dict(zip((argument.name for argument in arguments), args, strict=False)) | dict(kwargs)
    return {argument.name: given.get(argument.name, argument.default_value) for argument in arguments}
