"""Parses JSON whose bulk is numbers: those become arrays without ever having been Python objects.

simdjson parses the text and copies the numbers of an array out of its tape in one go, however they are nested. What it
does not say is how they were nested, so the shape is found here and proved: every array above the innermost ones is
looked at, and the count of `[` in the text shows that there is none inside those.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy
import orjson
import simdjson

from handlers.errors import RequestError
from handlers.oip import DATATYPES
from handlers.request import Buffer
from handlers.signature import TensorSpec

# Under so many bytes orjson and a list are faster than the handling of proxies.
SMALL = 1024
# A parser that is kept keeps its memory, which the system else hands out page by page for every request: twice the
# time. It is some 13 times the text at worst, so after larger texts it is given back.
KEPT = 4 << 20

_PIECE = 1 << 17

_kept = threading.local()  # .parser, one a thread: what it parsed last lives in it


def parse_json(content: Buffer, field: str | None, specs: Sequence[TensorSpec]) -> Any:
    """Parses JSON text; of a large one, the values that are tensors come as arrays of float64 or int64.

    Tensors are the members of an object that `specs` name, the `data` of Open Inference Protocol inputs, and a bare
    array where there is one spec. NaN and Infinity, which JSON has not but many writers emit, are let through as
    numbers.

    Raises:
        RequestError: not JSON.
    """
    if len(content) >= SMALL:
        try:
            return _Document(content, specs).value
        except (_NotPlain, ValueError, TypeError, KeyError, RuntimeError):
            # Not JSON, or not as plain as it must be here: the general parsers say what it is.
            _kept.__dict__.clear()
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        try:
            # The strict parser is the fast one; the lenient one only decides which field is at fault.
            return json.loads(bytes(content))
        except (ValueError, RecursionError):
            name = f"'{field}'" if field else "the request's body"
            raise RequestError(f"{name} is not valid JSON: {error}", field=field) from error


def _parser(size: int) -> simdjson.Parser:
    """A parser for a text of `size` bytes."""
    if size > KEPT:
        return simdjson.Parser()
    if not hasattr(_kept, "parser"):
        _kept.parser = simdjson.Parser()
    return _kept.parser


class _NotPlain(Exception):
    """Something other than regular arrays of numbers stands where they should."""


class _Document:
    """One parsed text; `value` is what it says, tensors as arrays.

    Raises:
        _NotPlain, ValueError, TypeError, KeyError, RuntimeError: it is no JSON, or not all of it is what it should be.
    """

    def __init__(self, content: Buffer, specs: Sequence[TensorSpec]):
        self.arrays = 0  # JSON arrays seen and proved to hold what they should
        self.specs = {spec.name: spec for spec in specs}
        root = _parser(len(content)).parse(content)
        if isinstance(root, simdjson.Object):
            self.value = {name: self._member(name, root[name]) for name in self._names(root)}
        elif isinstance(root, simdjson.Array) and len(specs) == 1:
            self.value = self._tensor(root, len(specs[0].shape), specs[0].dtype.kind)
        else:
            raise _NotPlain
        # `[` within strings only makes this fail, and then the general parser is taken.
        if _count_brackets(content) != self.arrays:
            raise _NotPlain

    @staticmethod
    def _names(item: simdjson.Object) -> list[str]:
        names = list(item)
        if len(set(names)) < len(names):
            raise _NotPlain  # look-up by name finds the first, every other parser the last
        return names

    def _member(self, name: str, value: Any) -> Any:
        if isinstance(value, simdjson.Array):
            if name in self.specs:
                spec = self.specs[name]
                return self._tensor(value, len(spec.shape), spec.dtype.kind)
            if name == "inputs":
                self.arrays += 1
                return [self._input(item) for item in value]
        return self._plain(value)

    def _input(self, item: simdjson.Object) -> dict[str, Any]:
        """A tensor of the Open Inference Protocol."""
        if not isinstance(item, simdjson.Object):
            raise _NotPlain
        members = {name: item[name] for name in self._names(item)}
        read = {name: self._plain(value) for name, value in members.items() if name != "data"}
        if "data" in members:
            data = members["data"]
            rank = len(read["shape"]) if isinstance(next(iter(data), None), simdjson.Array) else 1
            read["data"] = self._tensor(data, rank, DATATYPES[read["datatype"]].kind)
        return read

    def _plain(self, value: Any) -> Any:
        """A value without tensors, as Python objects."""
        if isinstance(value, simdjson.Array):
            value = value.as_list()
        elif isinstance(value, simdjson.Object):
            value = value.as_dict()
        self.arrays += _count_lists(value)
        return value

    def _tensor(self, root: simdjson.Array, rank: int, kind: str) -> numpy.ndarray:
        """The numbers of an array nested `rank` deep."""
        if kind == "b" or not isinstance(root, simdjson.Array):
            raise _NotPlain  # simdjson has no buffers of true and false
        shape = [len(root)]
        level = [root]
        for depth in range(1, rank):
            children = chain.from_iterable(level)
            if depth < rank - 1:
                level = list(children)
                children = level
            (size,) = set(map(len, children))
            shape.append(size)
        flat = _numbers(root, kind)
        self.arrays += sum(math.prod(shape[:depth]) for depth in range(rank))
        return flat.reshape(shape)


def _numbers(root: simdjson.Array, kind: str) -> numpy.ndarray:
    """All numbers of an array, one after the other: int64 if they are whole and `kind` is not float, or float64."""
    if kind != "f":
        try:
            return numpy.frombuffer(root.as_buffer(of_type="i"), numpy.int64)
        except (TypeError, ValueError):
            pass  # 3.0 is a whole number too, and the conversion to the signature's dtype sees to that
    return numpy.frombuffer(root.as_buffer(of_type="d"), numpy.float64)


def _count_brackets(content: Buffer) -> int:
    """How often `[` stands in a text; piece by piece, so that what is compared stays in the processor's cache."""
    view = numpy.frombuffer(content, numpy.uint8)
    pieces = (view[start : start + _PIECE] for start in range(0, len(view), _PIECE))
    return sum(int(numpy.count_nonzero(piece == ord("["))) for piece in pieces)


def _count_lists(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_count_lists, value.values()))
    return 1 + sum(map(_count_lists, value)) if isinstance(value, list) else 0
