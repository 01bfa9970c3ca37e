"""Joins the inputs of several requests into one call of the model, and splits its outputs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import accumulate
from typing import Protocol

import numpy

from handlers.config import ModelConfig
from handlers.errors import ModelError, RequestError
from handlers.signature import Arrays, TensorSpec


class Batching(Protocol):
    """A way for requests to share a call."""

    def check(self, inputs: Arrays) -> None:
        """Raises `RequestError` for inputs that cannot be joined with any others."""

    def key(self, inputs: Arrays) -> Hashable:
        """A value that is equal for requests that can share a call."""

    def join(self, requests: Sequence[Arrays]) -> Arrays:
        """The inputs of one call for requests with equal keys."""

    def split(self, outputs: Arrays, requests: Sequence[Arrays]) -> list[Arrays]:
        """The outputs of each request.

        Raises:
            ModelError: an output's first dimension is not that of the joined requests.
        """


class NoBatching:
    """`batching: none`: one call per request."""

    def check(self, inputs: Arrays) -> None:
        """Accepts everything."""

    def key(self, inputs: Arrays) -> Hashable:
        """A new object, equal to nothing else."""
        return object()

    def join(self, requests: Sequence[Arrays]) -> Arrays:
        """The inputs of the only request, unchanged."""
        return requests[0]

    def split(self, outputs: Arrays, requests: Sequence[Arrays]) -> list[Arrays]:
        """The outputs, unchanged."""
        return [outputs]


class StackBatching:
    """`batching: stack`: inputs of equal shapes get a new first dimension."""

    def check(self, inputs: Arrays) -> None:
        """Accepts everything: requests of different shapes do not share a call."""

    def key(self, inputs: Arrays) -> Hashable:
        """The shapes of all inputs."""
        return tuple(value.shape for value in inputs.values())

    def join(self, requests: Sequence[Arrays]) -> Arrays:
        """[…] of each request becomes [N, …]; a single request is a view."""
        if len(requests) == 1:
            return {name: value[None] for name, value in requests[0].items()}
        return {name: _stack([inputs[name] for inputs in requests]) for name in requests[0]}

    def split(self, outputs: Arrays, requests: Sequence[Arrays]) -> list[Arrays]:
        """[N, …] becomes N arrays of […]."""
        count = len(requests)
        for name, value in outputs.items():
            if value.ndim == 0 or value.shape[0] != count:
                raise ModelError(
                    f"output '{name}' has shape {list(value.shape)} for {count} stacked request(s): with batching: "
                    "stack the model's first dimension is the request"
                )
        return [{name: value[index] for name, value in outputs.items()} for index in range(count)]


def _stack(arrays: list[numpy.ndarray]) -> numpy.ndarray:
    """numpy.stack for arrays of equal shapes, in half of its time for small ones."""
    shape = arrays[0].shape
    if not shape:
        return numpy.array(arrays)
    return numpy.concatenate(arrays).reshape(len(arrays), *shape)


class GraphBatching:
    """`batching: graph`: graphs in CSR form become one graph whose adjacency matrix is block-diagonal.

    Inputs: `rowptr` [n + 1] and `col` [nnz], `value` [nnz] if the model has it (ones if a request leaves it out),
    all others [n, …], one row per node. Outputs are [n, …].
    """

    ROWPTR, COL, VALUE = "rowptr", "col", "value"

    def __init__(self, specs: Sequence[TensorSpec]):
        self._value = next((spec for spec in specs if spec.name == self.VALUE), None)
        self._nodes = [spec.name for spec in specs if spec.name not in (self.ROWPTR, self.COL, self.VALUE)]

    def check(self, inputs: Arrays) -> None:
        """Checks a graph before any of its indices is used, and fills in absent edge values.

        Raises:
            RequestError: `rowptr` does not start with 0, decreases, or does not end with the number of columns; a
                column is not a node; another input does not have one row per node, or one value per edge.
        """
        rowptr, col = inputs[self.ROWPTR], inputs[self.COL]
        if len(rowptr) == 0 or rowptr[0] != 0:
            raise RequestError("'rowptr' must start with 0", field=self.ROWPTR)
        if (rowptr[1:] < rowptr[:-1]).any():
            raise RequestError("'rowptr' must not decrease", field=self.ROWPTR)
        nodes, edges = len(rowptr) - 1, len(col)
        if rowptr[-1] != edges:
            raise RequestError(
                f"'rowptr' must end with the number of columns, {edges}, got {rowptr[-1]}", field=self.ROWPTR
            )
        # Read as unsigned, a negative number is larger than any node: one pass instead of two.
        if edges and col.view(f"u{col.itemsize}").max() >= nodes:
            raise RequestError(f"'col' must hold nodes from 0 to {nodes - 1}", field=self.COL)
        if self._value is not None and self.VALUE not in inputs:
            inputs[self.VALUE] = numpy.ones(edges, self._value.dtype)
        for name in (self.VALUE, *self._nodes):
            want = edges if name == self.VALUE else nodes
            if name in inputs and len(inputs[name]) != want:
                per = "edge" if name == self.VALUE else "node"
                raise RequestError(
                    f"'{name}' must have a row for every {per}, {want}, got {len(inputs[name])}", field=name
                )

    def key(self, inputs: Arrays) -> Hashable:
        """The dimensions of the inputs beyond nodes and edges."""
        return tuple(inputs[name].shape[1:] for name in self._nodes)

    def join(self, requests: Sequence[Arrays]) -> Arrays:
        """Shifts columns by the number of preceding nodes, and row pointers by that of edges."""
        if len(requests) == 1:
            return requests[0]
        nodes = numpy.cumsum([0] + [len(inputs[self.ROWPTR]) - 1 for inputs in requests])
        edges = numpy.cumsum([0] + [len(inputs[self.COL]) for inputs in requests])
        for name, last in ((self.ROWPTR, edges[-1]), (self.COL, nodes[-1])):
            if last > numpy.iinfo(requests[0][name].dtype).max:
                raise ModelError(f"'{name}' of the joined graph does not fit its dtype")
        joined = {
            name: numpy.concatenate([inputs[name] for inputs in requests])
            for name in requests[0]
            if name not in (self.ROWPTR, self.COL)
        }
        dtype = requests[0][self.ROWPTR].dtype
        parts = [inputs[self.ROWPTR][1:] + dtype.type(before) for inputs, before in zip(requests, edges, strict=False)]
        joined[self.ROWPTR] = numpy.concatenate([numpy.zeros(1, dtype), *parts])
        dtype = requests[0][self.COL].dtype
        parts = [inputs[self.COL] + dtype.type(before) for inputs, before in zip(requests, nodes, strict=False)]
        joined[self.COL] = numpy.concatenate(parts)
        return joined

    def split(self, outputs: Arrays, requests: Sequence[Arrays]) -> list[Arrays]:
        """Views of each graph's rows; those of a single request are unchanged."""
        ends = list(accumulate(len(inputs[self.ROWPTR]) - 1 for inputs in requests))
        for name, value in outputs.items():
            if value.ndim == 0 or value.shape[0] != ends[-1]:
                raise ModelError(
                    f"output '{name}' has shape {list(value.shape)} for {ends[-1]} node(s): with batching: graph the "
                    "model's first dimension is the node"
                )
        if len(requests) == 1:
            return [outputs]
        # numpy.split takes longer than two layers of a small network.
        rows = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        return [{name: value[row] for name, value in outputs.items()} for row in rows]


def make_batching(config: ModelConfig) -> Batching:
    """The batching that a configuration asks for."""
    if config.batching == "graph":
        return GraphBatching(config.inputs)
    return StackBatching() if config.batching == "stack" else NoBatching()


def group(requests: Mapping[int, Arrays], batching: Batching, *, hooked: bool = False) -> list[list[int]]:
    """The keys of `requests` in groups that can share a call, each in order.

    Args:
        requests: the inputs.
        batching: the way they share a call.
        hooked: whether they come from a hook, so that their names and dtypes may differ too.
    """
    if len(requests) < 2:
        return [list(requests)] if requests else []
    groups: dict[Hashable, list[int]] = {}
    for position, inputs in requests.items():
        key = batching.key(inputs)
        if hooked:
            key = (key, *((name, value.dtype) for name, value in inputs.items()))
        groups.setdefault(key, []).append(position)
    return list(groups.values())


def check_outputs(outputs: Mapping[str, numpy.ndarray], specs: Sequence[TensorSpec]) -> None:
    """Checks the outputs of one request against the signature.

    Raises:
        ModelError: an output has another dtype or shape.
    """
    for spec in specs:
        value = outputs[spec.name]
        if value.dtype != spec.dtype or not spec.matches(value.shape):
            raise ModelError(
                f"output '{spec.name}' is {value.dtype} {list(value.shape)}; its signature promises {spec.describe()}"
            )
