"""Parses JSON whose bulk is numbers: those become arrays without ever having been Python objects.

simdjson parses the text and copies the numbers of an array out of its tape in one go, however they are nested. What it
does not say is how they were nested, so the shape is found here and proved: every array above the innermost ones is
looked at, and the count of `[` in the text shows that there is none inside those.

What a text may cost is bounded before it is parsed, by its length and by how many values its commas and brackets can
hold. The bounds keep a request of any shape below 1 GiB of memory and a few seconds of a processor.
"""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy
import orjson
import simdjson

from handlers.codecs.oip import DATATYPES
from handlers.codecs.request import Buffer
from handlers.errors import RequestError
from handlers.signature import EXACT_BELOW, TensorSpec, reaches

# Under so many bytes orjson and a list are faster than the handling of proxies.
SMALL = 1024
# A parser that is kept keeps its memory, which the system else hands out page by page for every request: twice the
# time. It is some 13 times the text at worst, so after larger texts it is given back.
KEPT = 4 << 20

# The longest text. `max_request_size` in config.properties is as much; gzip could hold more.
MAX_BYTES = 1 << 26
# simdjson counts the elements of an array in 24 bits, and of more than that it says 2**24 - 1.
MAX_VALUES = (1 << 24) - 2
# An array that is proved to be regular is looked at one by one.
MAX_ARRAYS = 1 << 22
# What is no plain array of numbers becomes Python objects, of 50 to 300 bytes each.
MAX_OBJECT_VALUES = 1 << 22
MAX_CONTAINERS = 1 << 20
# simdjson takes 8 to 25 µs for a number with an exponent and more than 19 digits, orjson a tenth. That is a second and
# a half of such numbers in a text of so many bytes, and as much in any text with so many exponents.
UNCOUNTED_EXPONENTS = 1 << 22
MAX_EXPONENTS = 1 << 16
# What is no tensor is looked at one by one, and each look-up of a name takes as long as there are names.
_LOOKED_AT = 256
_LOOKED_AT_PER_INPUT = 16

_PIECE = 1 << 17
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# Stands for a number beyond the range of any dtype.
_BEYOND = 10**400

_kept = threading.local()  # .parser, one a thread: what it parsed last lives in it


def parse_json(content: Buffer, field: str | None, specs: Sequence[TensorSpec], max_bytes: int = MAX_BYTES) -> Any:
    """Parses JSON text; of a large one, the values that are tensors come as arrays of float64 or int64.

    Tensors are the members of an object that `specs` name, the `data` of Open Inference Protocol inputs, and a bare
    array where there is one spec. NaN and Infinity, which JSON has not but many writers emit, are let through as
    numbers, and so is a byte order mark. All text can be encoded: lone surrogates are refused. A number too large for
    a float64 comes as an integer that is too large as well.

    Raises:
        RequestError: not JSON in UTF-8; or (413) longer than `max_bytes`, or of more values than one request may have.
    """
    if len(content) > max_bytes:
        raise _too_large(field, f"has {len(content)} bytes of JSON; at most {max_bytes} are accepted")
    if len(content) >= SMALL:
        arrays = _count(content, b"[")
        _check_counts(content, arrays, field)
        if len(content) <= UNCOUNTED_EXPONENTS or _count(content, b"eE") <= MAX_EXPONENTS:
            try:
                return _Document(content, specs, arrays).value
            except (_NotPlain, ValueError, TypeError, KeyError, RuntimeError):
                # Not JSON, or not as plain as it must be here: the general parsers say what it is.
                _kept.__dict__.clear()
        _check_object_counts(content, arrays, field)
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        try:
            # The strict parser is the fast one; the lenient one only decides which field is at fault.
            return _parse_leniently(content)
        except (ValueError, RecursionError):
            name = f"'{field}'" if field else "the request's body"
            raise RequestError(f"{name} is not valid JSON: {error}", field=field) from error


def _check_counts(content: Buffer, arrays: int, field: str | None) -> None:
    """Raises `RequestError` for more values than any request may have."""
    if arrays > MAX_ARRAYS:
        raise _too_large(field, f"holds more than {MAX_ARRAYS} JSON arrays")
    # Fewer bytes cannot hold as many: this costs the usual request nothing.
    if len(content) > MAX_VALUES and _count(content, b",{") + arrays > MAX_VALUES:
        raise _too_large(field, f"holds more than {MAX_VALUES} JSON values")


def _check_object_counts(content: Buffer, arrays: int, field: str | None) -> None:
    """Raises `RequestError` for more values than may become Python objects."""
    if len(content) <= MAX_CONTAINERS:
        return
    containers = arrays + _count(content, b"{")
    if containers > MAX_CONTAINERS or (
        len(content) > MAX_OBJECT_VALUES and containers + _count(content, b",") > MAX_OBJECT_VALUES
    ):
        raise _too_large(
            field,
            f"holds more than {MAX_CONTAINERS} arrays and objects or {MAX_OBJECT_VALUES} values, and not in regular "
            "arrays of numbers alone",
        )


def _too_large(field: str | None, reason: str) -> RequestError:
    name = f"'{field}'" if field else "the request's body"
    return RequestError(f"{name} {reason}; send large tensors as .npy, .npz or binary data", field=field, status=413)


def _parse_leniently(content: Buffer) -> Any:
    """A text with a byte order mark, NaN, Infinity or numbers that no float64 holds.

    Raises:
        ValueError, RecursionError: not JSON all the same.
    """
    text = str(content, "utf-8-sig")  # json.loads would take UTF-16, and surrogates, for text as well
    document = json.loads(text, parse_float=_number, parse_int=_number)
    if _SURROGATE.search(text):
        _check_texts(document)
    return document


def _number(text: str) -> int | float:
    """A number as the strict parser reads it; the standard library's takes long for long ones."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return _BEYOND


def _check_texts(document: Any) -> None:
    """Raises `ValueError` if a text of the document cannot be encoded."""
    left = [document]
    while left:
        item = left.pop()
        if isinstance(item, str):
            item.encode()
        elif isinstance(item, list):
            left += item
        elif isinstance(item, dict):
            left += item
            left += item.values()


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

    def __init__(self, content: Buffer, specs: Sequence[TensorSpec], brackets: int):
        self.arrays = 0  # JSON arrays seen and proved to hold what they should
        self.specs = {spec.name: spec for spec in specs}
        self.left = _LOOKED_AT + _LOOKED_AT_PER_INPUT * len(specs)  # to look at, of members and elements
        root = _parser(len(content)).parse(content)
        if isinstance(root, simdjson.Object):
            self.value = {name: self._member(name, root[name]) for name in self._names(root)}
        elif isinstance(root, simdjson.Array) and len(specs) == 1:
            self.value = self._tensor(root, len(specs[0].shape), specs[0].dtype.kind)
        else:
            raise _NotPlain
        # `[` within strings only makes this fail, and then the general parser is taken.
        if brackets != self.arrays:
            raise _NotPlain

    def _look_at(self, item: simdjson.Object | simdjson.Array) -> None:
        self.left -= len(item)
        if self.left < 0:
            raise _NotPlain

    def _names(self, item: simdjson.Object) -> list[str]:
        self._look_at(item)
        names = list(item)
        # Look-up by name finds the first of two, every other parser the last; and it takes NUL for the end of a name.
        if len(set(names)) < len(names) or any("\0" in name for name in names):
            raise _NotPlain
        return names

    def _elements(self, array: simdjson.Array) -> Iterator[Any]:
        self._look_at(array)
        self.arrays += 1
        return iter(array)

    def _member(self, name: str, value: Any) -> Any:
        if isinstance(value, simdjson.Array):
            if name in self.specs:
                spec = self.specs[name]
                return self._tensor(value, len(spec.shape), spec.dtype.kind)
            if name == "inputs":
                return [self._input(item) for item in self._elements(value)]
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
        # Not as_list() nor as_dict(): a list of theirs is as long as simdjson's count says, and is written to its end.
        if isinstance(value, simdjson.Array):
            return [self._plain(item) for item in self._elements(value)]
        if isinstance(value, simdjson.Object):
            return {name: self._plain(value[name]) for name in self._names(value)}
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
    """All numbers of an array, one after the other: int64 or uint64 if they are whole and `kind` is not float, or
    float64.
    """
    if kind != "f":
        for of_type, dtype in (("i", numpy.int64), ("u", numpy.uint64)):
            try:
                return numpy.frombuffer(root.as_buffer(of_type=of_type), dtype)
            except (TypeError, ValueError):
                pass  # 3.0 is a whole number too, and the conversion to the signature's dtype sees to that
    doubles = numpy.frombuffer(root.as_buffer(of_type="d"), numpy.float64)
    if kind != "f" and reaches(doubles, EXACT_BELOW):
        raise _NotPlain  # it depends on how each was written
    return doubles


def _count(content: Buffer, characters: bytes) -> int:
    """How often these stand in a text; piece by piece, so that what is compared stays in the processor's cache."""
    view = numpy.frombuffer(content, numpy.uint8)
    pieces = (view[start : start + _PIECE] for start in range(0, len(view), _PIECE))
    return sum(int(numpy.count_nonzero(piece == character)) for piece in pieces for character in characters)
