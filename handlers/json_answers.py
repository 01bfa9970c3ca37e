"""JSON of arrays, to a bound that is watched while it is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy
import orjson

# What an answer may have: a bit less than what TorchServe takes from a worker (max_response_size of config.properties),
# which ends a worker that sends more.
MAX_RESPONSE_BYTES = 63 << 20

# Characters of the longest number and its comma: -2.2250738585072014e-308,
_LONGEST_NUMBER = 26
_NUMBERS_AT_ONCE = 1 << 18
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


class TooLarge(Exception):
    """The text would be longer than it may be."""


def write_json(document: dict[str, Any], max_bytes: int) -> bytes:
    """A document whose values may be arrays; NaN and infinity become null.

    Raises:
        TooLarge: it has more than `max_bytes`.
        TypeError: it holds what JSON cannot.
    """
    body = orjson.dumps(written(document, max_bytes), _unusual, _OPTIONS)
    if len(body) > max_bytes:
        raise TooLarge
    return body


def dump(document: dict[str, Any]) -> bytes:
    """A document as it is, whatever its size."""
    return orjson.dumps(document, option=_OPTIONS, default=_unusual)


def written(document: dict[str, Any], max_bytes: int) -> dict[str, Any]:
    """The document with its arrays replaced by their text, where that may be longer than is allowed.

    The text is written piece by piece, so that no more than `max_bytes` of it are ever there. What else the document
    holds is in memory already, and is not looked at.

    Raises:
        TooLarge: the arrays alone have more than `max_bytes`.
    """
    longest = 0
    for value in document.values():
        if isinstance(value, numpy.ndarray):
            longest += (value.size or _items(value)) * (_LONGEST_NUMBER + 2 * value.ndim)
    if longest <= max_bytes:
        return document
    texts, left = dict(document), max_bytes
    for name, value in document.items():
        if isinstance(value, numpy.ndarray) and value.ndim and value.dtype.kind in "biuf":
            pieces = []
            for piece in _pieces(value):
                left -= len(piece)
                if left < 0:
                    raise TooLarge
                pieces.append(piece)
            texts[name] = orjson.Fragment(b"".join(pieces))
    return texts


def _items(array: numpy.ndarray) -> int:
    """The numbers, or innermost empty lists, that the text of an array holds."""
    items = 1
    for length in array.shape:
        if length == 0:
            break
        items *= length
    return items


def _pieces(array: numpy.ndarray) -> Iterator[bytes]:
    """The text of an array of one dimension or more, in parts."""
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
            yield orjson.dumps(array[start : start + step], option=_OPTIONS, default=_unusual)[1:-1]
    yield b"]"


def _unusual(value: Any) -> Any:
    """What orjson does not write by itself: arrays that are not contiguous, of text, or of no dimension."""
    if isinstance(value, numpy.ndarray | numpy.generic) and value.dtype.kind in "biufU":
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is no JSON value")
