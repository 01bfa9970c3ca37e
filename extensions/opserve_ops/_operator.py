"""What Python adds to an operator, declared once for tracing, gradients and ONNX."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import SymInt, Tensor

# By the names of the arguments.
Arguments = dict[str, Any]
Size = int | SymInt


class Expect:
    """The checks of sizes that a fake kernel makes, with the messages of the operator itself.

    Sizes may be symbolic. What values and dtypes decide is refused when the operator runs.
    """

    def __init__(self, op: str) -> None:
        self.op = op

    def that(self, condition: bool | torch.SymBool, message: Callable[[], str]) -> None:
        """Raises RuntimeError with the message unless the condition holds."""
        torch._check(condition, lambda: f"opserve::{self.op}: {message()}")

    def rank(self, name: str, tensor: Tensor, rank: int) -> torch.Size:
        """Checks the number of dimensions and returns the shape."""
        plural = "" if rank == 1 else "s"
        self.that(tensor.dim() == rank, lambda: f"{name} must have {rank} dimension{plural}, got {tensor.dim()}")
        return tensor.shape

    def shape(self, name: str, tensor: Tensor | None, *sizes: tuple[str, Size]) -> None:
        """Checks a vector or a matrix against its sizes, each with its name; an optional one may be left out."""
        if tensor is None:
            return
        self.rank(name, tensor, len(sizes))
        units = ("elements",) if len(sizes) == 1 else ("rows", "columns")
        for (meaning, expected), size, unit in zip(sizes, tensor.shape, units, strict=True):
            self.that(
                size == expected,
                lambda m=meaning, e=expected, s=size, u=unit: f"{name} must have {m} = {e} {u}, got {s}",  # type: ignore[misc]
            )

    def same_shape(self, name: str, tensor: Tensor, shape: Sequence[Size], other: str) -> None:
        """Checks a tensor of any rank against the shape of `other`."""
        self.rank(name, tensor, len(shape))
        for axis, (size, expected) in enumerate(zip(tensor.shape, shape, strict=True)):
            self.that(
                size == expected,
                lambda a=axis, e=expected, s=size: (  # type: ignore[misc]
                    f"{name} must have size {e} in dimension {a}, as {other} has, got {s}"
                ),
            )


class Fake(Protocol):
    """A fake kernel: takes the arguments of the operator, all of them, and returns results without memory."""

    def __call__(self, expect: Expect, *arguments: Any) -> Any: ...


def gradient(like: Tensor, needed: bool, shape: Sequence[Size] | None = None) -> Tensor:
    """Returns the fake gradient of a tensor, or of one with another shape; empty where it is not needed."""
    return like.new_empty((like.shape if shape is None else shape) if needed else (0,))


OPERATORS: list["Operator"] = []


@dataclass(frozen=True)
class Operator:
    """What the schema of an operator does not say. Declaring one registers it in `OPERATORS`.

    Attributes:
        name: That of `torch.ops.opserve.<name>`.
        types: The tensors among the arguments by the letter of their type; those of one type have the dtype of the
            first. T is floating-point, I int32 or int64, M float32 or float64. The first of all is the one on whose
            device the others must be.
        fake: The fake kernel.
        fake_backward: That of `opserve::_<name>_backward`, which is its gradient; an operator without one has none.
        onnx: The name in ONNX, if it is there.
        results: The types of the results.
        not_deterministic: Says of the saved tensors and the gradients that are needed, both by name, which gradients
            CUDA sums in the order in which its threads come; empty if none.
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
        """The operator itself."""
        return getattr(torch.ops.opserve, self.name).default

    @property
    def backward(self) -> torch._ops.OpOverload:
        """Its backward operator."""
        return getattr(torch.ops.opserve, f"_{self.name}_backward").default


def bind(overload: torch._ops.OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Arguments:
    """Returns all arguments of a call by their names, in order, with defaults for those left out."""
    arguments = overload._schema.arguments
    given = dict(zip((argument.name for argument in arguments), args, strict=False)) | dict(kwargs)
    return {argument.name: given.get(argument.name, argument.default_value) for argument in arguments}
