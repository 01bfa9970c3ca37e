"""JSON with arrays, written up to a bound that is checked while writing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import numpy
import orjson

# Characters of the longest number and its comma: -2.2250738585072014e-308,
_LONGEST_NUMBER = 26
_NUMBERS_AT_ONCE = 1 << 18
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


class ResponseTooLarge(Exception):
    """The response would be larger than it may be."""


def write_json(document: dict[str, Any], max_bytes: int) -> bytes:
    """The JSON of a document whose values may be arrays; NaN and infinity become null.

    Arrays whose text may be too long are written piece by piece, and no further than `max_bytes`. Everything else in
    the document is in memory already, and is measured once it is written.

    Raises:
        ResponseTooLarge: it has more than `max_bytes`.
        TypeError: it holds something that JSON cannot.
    """
    body = orjson.dumps(preserialize(document, max_bytes), _convert, _OPTIONS)
    if len(body) > max_bytes:
        raise ResponseTooLarge
    return body


def preserialize(document: dict[str, Any], max_bytes: int) -> dict[str, Any]:
    """The document with its arrays replaced by their text if that may be too long, or else the document itself.

    Raises:
        ResponseTooLarge: the text has more than `max_bytes`.
        TypeError: a name or a value is not one of JSON's.
    """
    if not _may_exceed(document, max_bytes):
        return document
    texts, left = {}, max_bytes
    for name, value in document.items():
        left -= len(dump({name: 0})) - len("{0}")
        text = b"".join(_text(value, left))
        left -= len(text)
        texts[name] = orjson.Fragment(text)
    return texts


def dump(document: Any) -> bytes:
    """The JSON of a document, whatever its size."""
    return orjson.dumps(document, _convert, _OPTIONS)


def _may_exceed(document: dict[str, Any], max_bytes: int) -> bool:
    """Whether the arrays of a document may take more than `max_bytes`; rarely wrong by more than a factor of four."""
    longest = 0
    for value in document.values():
        if isinstance(value, numpy.ndarray):
            longest += (value.size or _items(value)) * (_LONGEST_NUMBER + 2 * value.ndim)
    return longest > max_bytes


def _text(value: Any, max_bytes: int) -> list[bytes]:
    """The text of a value, in pieces.

    Raises:
        ResponseTooLarge: it is an array, and its text has more than `max_bytes`.
    """
    if not (isinstance(value, numpy.ndarray) and value.ndim and value.dtype.kind in "biuf"):
        return [dump(value)]
    pieces = []
    for piece in _pieces(value):
        max_bytes -= len(piece)
        if max_bytes < 0:
            raise ResponseTooLarge
        pieces.append(piece)
    return pieces


def _items(array: numpy.ndarray) -> int:
    """The number of numbers, or of innermost empty lists, in the text of an array."""
    return math.prod(takewhile(bool, array.shape))


def _pieces(array: numpy.ndarray) -> Iterator[bytes]:
    """The text of an array of one dimension or more, in pieces."""
    row = _items(array[0]) if len(array) else 0
    yield b"["
    if row > _NUMBERS_AT_ONCE and array.ndim > 1:
        for index, each in enumerate(array):
            if index:
                yield b","
            yield from _pieces(each)
    else:
        step = max(1, _NUMBERS_AT_ONCE // max(1, row))
        for start in range(0, len(array), step):
            if start:
                yield b","
            yield orjson.dumps(array[start : start + step], option=_OPTIONS, default=_convert)[1:-1]
    yield b"]"


def _convert(value: Any) -> Any:
    """Converts what orjson does not write by itself: arrays that are not contiguous, of text, or without dimensions.

    Numbers stay of their dtype: as a float64 a float32 would have more digits.
    """
    if isinstance(value, numpy.ndarray) and value.dtype.kind in "biuf" and value.itemsize <= 8:
        return numpy.ascontiguousarray(value) if value.ndim else value[()]
    if isinstance(value, numpy.ndarray | numpy.generic) and value.dtype.kind in "biufU":
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is not a JSON value")
