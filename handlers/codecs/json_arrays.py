"""Parses JSON that is mostly numbers: these become arrays without first becoming Python objects.

simdjson parses the text and copies the numbers of an array out of its tape at once, however they are nested. It does
not say how they were nested, so the shape is found and proved here: every array above the innermost ones is visited,
and the number of `[` in the text shows that there is none inside those.

The cost of a text is bounded before it is parsed, by its length and by the number of values that its commas and
brackets can hold. The bounds keep any request below 1 GiB of memory and a few seconds of processor time.
"""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal

import numpy
import orjson
import simdjson

from handlers.codecs.datatypes import DATATYPES
from handlers.codecs.limits import MAX_JSON_BYTES
from handlers.codecs.request import Buffer, subject
from handlers.errors import RequestError
from handlers.signature import EXACT_BELOW, TensorSpec, has_magnitude

# Below this many bytes orjson and lists are faster than simdjson's proxies.
SMALL = 1024
# A parser that is kept keeps its memory, up to 13 times the text, which halves the time that a request takes; after
# texts larger than this it is released.
KEPT = 4 << 20

# simdjson counts the elements of an array in 24 bits, and reports 2**24 - 1 for any more.
MAX_VALUES = (1 << 24) - 2
# The arrays inside one that is proved to be regular are visited one by one.
MAX_ARRAYS = 1 << 22
# Everything except regular arrays of numbers becomes Python objects, of 50 to 300 bytes each.
MAX_OBJECT_VALUES = 1 << 22
MAX_CONTAINERS = 1 << 20
# simdjson takes 8 to 25 µs for a number with an exponent and more than 19 digits, ten times what orjson does: a second
# and a half for a text of this many bytes, or for any text with this many exponents.
UNCOUNTED_EXPONENTS = 1 << 22
MAX_EXPONENTS = 1 << 16
# How deep lists and objects are nested in a text that the strict parser, whose limit is 1024, refuses: the standard
# library's stops at a depth that depends on what called it, and never before this one.
MAX_LENIENT_DEPTH = 512
# Members and elements outside tensors are visited one by one, and looking up a name takes as long as there are names.
_MAX_VISITED = 256
_MAX_VISITED_PER_INPUT = 16

_PIECE = 1 << 17
_INTEGERS: tuple[tuple[Literal["i", "u"], type], ...] = (("i", numpy.int64), ("u", numpy.uint64))
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# Replaces a number beyond the range of every dtype.
_OUT_OF_RANGE = 10**400

_kept = threading.local()  # .parser, one per thread: it owns the document that it parsed last


def parse_json_tensors(
    content: Buffer, field: str | None, specs: Sequence[TensorSpec], max_bytes: int = MAX_JSON_BYTES
) -> Any:
    """Parses JSON text; in a large one, the values that are tensors become arrays of float64, int64 or uint64.

    Tensors are the members of an object that `specs` name, the `data` of Open Inference Protocol inputs, and a bare
    array if there is one spec. NaN and Infinity, which are not JSON but common, are accepted as numbers, and so is a
    byte order mark. All text can be encoded: lone surrogates are refused. A number too large for a float64 becomes an
    integer that is too large as well.

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
            except (_Irregular, ValueError, TypeError, KeyError, RuntimeError):
                # Not JSON, or not regular arrays: the general parsers decide.
                _kept.__dict__.clear()
        _check_object_counts(content, arrays, field)
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        try:
            # The strict parser is the fast one.
            return _parse_leniently(content)
        except (ValueError, RecursionError):
            raise RequestError(f"{subject(field)} is not valid JSON: {error}", field=field) from error


def _check_counts(content: Buffer, arrays: int, field: str | None) -> None:
    """Raises `RequestError` for more values than any request may have."""
    if arrays > MAX_ARRAYS:
        raise _too_large(field, f"holds more than {MAX_ARRAYS} JSON arrays")
    # A shorter text cannot hold as many, so usual requests are not counted.
    if len(content) > MAX_VALUES and _count(content, b",{") + arrays > MAX_VALUES:
        raise _too_large(field, f"holds more than {MAX_VALUES} JSON values")


def _check_object_counts(content: Buffer, arrays: int, field: str | None) -> None:
    """Raises `RequestError` for more values than may become Python objects."""
    if len(content) <= MAX_CONTAINERS:
        return
    containers = arrays + _count(content, b"{")
    values = containers + _count(content, b",") if len(content) > MAX_OBJECT_VALUES else 0
    if containers > MAX_CONTAINERS or values > MAX_OBJECT_VALUES:
        bounds = f"{MAX_CONTAINERS} arrays and objects or {MAX_OBJECT_VALUES} values"
        raise _too_large(field, f"holds more than {bounds}, not all of them in regular arrays of numbers")


def _too_large(field: str | None, reason: str) -> RequestError:
    message = f"{subject(field)} {reason}; send large tensors as .npy, .npz or binary data"
    return RequestError(message, field=field, status=413)


def _parse_leniently(content: Buffer) -> Any:
    """Parses a text with a byte order mark, NaN, Infinity or numbers that no float64 holds.

    Raises:
        ValueError: it is still not JSON.
        RecursionError: it is nested too deeply.
    """
    text = str(content, "utf-8-sig")  # json.loads would also accept UTF-16 and surrogates
    if not _SURROGATE.search(text):
        document = json.loads(text, parse_float=_number, parse_int=_number)
    else:
        document = json.loads(text, parse_float=_number, parse_int=_number, object_pairs_hook=_members)
        _check_texts(document)
    if text.count("[") + text.count("{") > MAX_LENIENT_DEPTH:
        _check_depth(document)
    return document


def _check_depth(document: Any) -> None:
    """Raises `ValueError` if lists and objects are nested more than MAX_LENIENT_DEPTH deep."""
    depth, level = 0, [document]
    while level := [item for item in level if isinstance(item, list | dict)]:
        depth += 1
        if depth > MAX_LENIENT_DEPTH:
            raise ValueError("depth limit exceeded")
        level = list(chain.from_iterable(item.values() if isinstance(item, dict) else item for item in level))


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The members of an object; values that others of the same name replace are checked before they are dropped."""
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            _check_texts(members[name])
        members[name] = value
    return members


def _number(text: str) -> int | float:
    """A number as the strict parser reads it; the standard library's is slow for long ones."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return _OUT_OF_RANGE


def _check_texts(document: Any) -> None:
    """Raises `ValueError` if a string of the document cannot be encoded."""
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


class _Irregular(Exception):
    """There is something other than regular arrays of numbers where a tensor should be."""


class _Document:
    """A parsed text; `value` is its contents, with tensors as arrays.

    Raises:
        _Irregular: a tensor is not a regular array of numbers.
        ValueError: the text is not JSON; or, as TypeError, KeyError and RuntimeError, something in it is unexpected.
    """

    def __init__(self, content: Buffer, specs: Sequence[TensorSpec], brackets: int):
        self.arrays = 0  # those visited, or proved to be part of a regular array
        self.specs = {spec.name: spec for spec in specs}
        self.left = _MAX_VISITED + _MAX_VISITED_PER_INPUT * len(specs)  # members and elements yet to be visited
        self.value: Any
        root = _parser(len(content)).parse(content)
        if isinstance(root, simdjson.Object):
            self.value = {name: self._member(name, root[name]) for name in self._names(root)}
        elif isinstance(root, simdjson.Array) and len(specs) == 1:
            self.value = self._tensor(root, len(specs[0].shape), specs[0].dtype.kind)
        else:
            raise _Irregular
        # A `[` inside a string makes this fail too, and then a general parser is used.
        if brackets != self.arrays:
            raise _Irregular

    def _visit(self, item: simdjson.Object | simdjson.Array) -> None:
        self.left -= len(item)
        if self.left < 0:
            raise _Irregular

    def _names(self, item: simdjson.Object) -> list[str]:
        self._visit(item)
        names = list(item)
        # Looking up a name finds the first of two, other parsers keep the last; and it takes NUL for the end of a name.
        if len(set(names)) < len(names) or any("\0" in name for name in names):
            raise _Irregular
        return names

    def _elements(self, array: simdjson.Array) -> Iterator[Any]:
        self._visit(array)
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
            raise _Irregular
        members: dict[str, Any] = {name: item[name] for name in self._names(item)}
        read = {name: self._plain(value) for name, value in members.items() if name != "data"}
        if "data" in members:
            data, shape = members["data"], read.get("shape")
            rank = 1
            if isinstance(next(iter(data), None), simdjson.Array):
                if not isinstance(shape, list):  # a text has a length too, and may have millions of characters
                    raise _Irregular
                rank = len(shape)
            read["data"] = self._tensor(data, rank, DATATYPES[read["datatype"]].kind)
        return read

    def _plain(self, value: Any) -> Any:
        """A value without tensors, as Python objects."""
        # as_list() and as_dict() trust simdjson's count of elements, and write to the end of a list of that length.
        if isinstance(value, simdjson.Array):
            return [self._plain(item) for item in self._elements(value)]
        if isinstance(value, simdjson.Object):
            return {name: self._plain(value[name]) for name in self._names(value)}
        return value

    def _tensor(self, root: simdjson.Array, rank: int, kind: str) -> numpy.ndarray:
        """The numbers of an array nested `rank` deep."""
        if kind == "b" or not isinstance(root, simdjson.Array):
            raise _Irregular  # simdjson has no buffers of booleans
        shape = [len(root)]
        level: Iterable[Any] = [root]
        for depth in range(1, rank):
            level = chain.from_iterable(level)
            if depth < rank - 1:
                level = list(level)  # it is iterated over twice
            (size,) = set(map(len, level))
            shape.append(size)
        flat = _numbers(root, kind)
        self.arrays += sum(math.prod(shape[:depth]) for depth in range(rank))
        return flat.reshape(shape)


def _numbers(root: simdjson.Array, kind: str) -> numpy.ndarray:
    """All numbers of an array in order: int64 or uint64 if they are whole and `kind` is not "f", else float64."""
    if kind != "f":
        for of_type, dtype in _INTEGERS:
            try:
                return numpy.frombuffer(root.as_buffer(of_type=of_type), dtype)
            except (TypeError, ValueError):
                pass  # 3.0 is whole too, which the conversion to the signature's dtype takes care of
    doubles = numpy.frombuffer(root.as_buffer(of_type="d"), numpy.float64)
    if kind != "f" and has_magnitude(doubles, EXACT_BELOW):
        raise _Irregular  # whether they are exact depends on how each was written
    return doubles


def _count(content: Buffer, characters: bytes) -> int:
    """How often these occur in a text; counted in pieces that fit into the processor's cache."""
    view = numpy.frombuffer(content, numpy.uint8)
    pieces = (view[start : start + _PIECE] for start in range(0, len(view), _PIECE))
    return sum(int(numpy.count_nonzero(piece == character)) for piece in pieces for character in characters)
