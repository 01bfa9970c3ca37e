"""Joins the inputs of several requests into calls of the model, and splits what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy

from handlers.errors import ModelError
from handlers.signature import TensorSpec

Tensors = dict[str, numpy.ndarray]


def group_by_shape(requests: Sequence[Mapping[str, numpy.ndarray]]) -> list[list[int]]:
    """Positions of the requests whose inputs all have equal shapes, in order of first appearance."""
    groups: dict[tuple, list[int]] = {}
    for position, inputs in enumerate(requests):
        groups.setdefault(tuple(value.shape for value in inputs.values()), []).append(position)
    return list(groups.values())


def stack(requests: Sequence[Mapping[str, numpy.ndarray]]) -> Tensors:
    """Joins inputs of equal shapes along a new first dimension."""
    return {name: numpy.stack([inputs[name] for inputs in requests]) for name in requests[0]}


def unstack(outputs: Mapping[str, numpy.ndarray], count: int) -> list[Tensors]:
    """The outputs of each of `count` stacked requests.

    Raises:
        ModelError: an output's first dimension is not the number of requests.
    """
    for name, value in outputs.items():
        if value.ndim == 0 or value.shape[0] != count:
            raise ModelError(
                f"output '{name}' has shape {list(value.shape)} for {count} stacked request(s): with batching: stack "
                "the model's first dimension is the request"
            )
    return [{name: value[index] for name, value in outputs.items()} for index in range(count)]


def check_outputs(outputs: Mapping[str, numpy.ndarray], specs: Sequence[TensorSpec]) -> None:
    """Holds the outputs of one request against the signature.

    Raises:
        ModelError: naming the output whose dtype or shape is another.
    """
    for spec in specs:
        value = outputs[spec.name]
        if value.dtype != spec.dtype or not spec.matches(value.shape):
            raise ModelError(
                f"output '{spec.name}' is {value.dtype} {list(value.shape)}; its signature promises {spec.describe()}"
            )
