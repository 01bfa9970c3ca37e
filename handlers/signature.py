"""What one named tensor of a request or an answer must look like, and the conversion of plain values to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import numpy

from handlers.errors import RequestError

# A JSON number with a fraction or an exponent is read as a float64, in which whole numbers are exact below this only.
EXACT_BELOW = 2**53

# Lists nested deeper are no tensor of anybody's.
MAX_DIMENSIONS = 32

MAX_NAME = 128
NAME_RULE = f"1 to {MAX_NAME} printable ASCII characters other than spaces, quotes and backslashes"
# They stand between quotes in messages, and are the names of parts, files and members of an .npz.
_NAME = re.compile(rf"[!#-&(-\[\]-_a-~]{{1,{MAX_NAME}}}")

_BOOLEANS, _INTEGERS, _FLOATS, _NUMBERS = {bool}, {int}, {float}, {int, float}
_INT64, _UINT64, _FLOAT64 = numpy.dtype("int64"), numpy.dtype("uint64"), numpy.dtype("float64")


def is_tensor_name(text: str) -> bool:
    """Whether an input or an output may be called so, as `NAME_RULE` says."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of one tensor of one request (no batch dimension); -1 is any size, 0 included.

    An optional one may be left out of a request. With a minimum, its numbers must be finite and not below it.
    """

    name: str
    dtype: numpy.dtype
    shape: tuple[int, ...]
    optional: bool = False
    minimum: float | None = None

    DTYPES: ClassVar[tuple[str, ...]] = ("bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64")

    def describe(self) -> str:
        """For messages: `float32 [4, 2]`; any size is written `?`."""
        return f"{self.dtype} [{', '.join('?' if size < 0 else str(size) for size in self.shape)}]"

    def matches(self, shape: tuple[int, ...]) -> bool:
        """Whether `shape` has the rank and the fixed sizes asked for."""
        if len(shape) != len(self.shape):
            return False
        for want, got in zip(self.shape, shape, strict=True):  # noqa: SIM110  all() takes twice as long
            if want not in (got, -1):
                return False
        return True

    def convert(self, value: Any, typed: bool = False) -> numpy.ndarray:
        """An array of this spec from an array, or from what a JSON parser gives: a number or nested lists of numbers.

        Numbers are converted only where nothing is lost but precision: 3.0 becomes an int64, 3.5 is refused. An array
        that is as it should be is returned itself, not a copy; the result is contiguous, aligned and writable.

        JSON has one kind of number. For floats each is read as a float64, then rounded to the dtype. For integers,
        those without a fraction and an exponent are exact; others must be whole and below `EXACT_BELOW`.

        Args:
            value: the numbers.
            typed: their sender chose the dtype, so every number is the one that was meant: whole numbers are then not
                rounded to floats, and whole floats are integers up to the dtype's own limits.

        Raises:
            RequestError: not numbers, ragged, a value the dtype cannot hold, another shape than asked for, or a number
                below the minimum.
        """
        array = self._checked(value) if isinstance(value, numpy.ndarray) else self._from_json(value)
        if not self.matches(array.shape):
            raise self._refusal(f"got shape {list(array.shape)}")
        if array.dtype != self.dtype:
            array = self._cast(array, typed)
        if self.minimum is not None:
            self._check_minimum(array, self.minimum)
        # A model or a hook may read and write it as it likes; views of a body need not lie on their own boundary.
        return array if array.flags.carray else numpy.array(array, order="C")

    def _checked(self, array: numpy.ndarray) -> numpy.ndarray:
        if array.dtype.kind not in "biuf":
            raise self._refusal(f"got {array.dtype} values where numbers are expected")
        return array

    def _from_json(self, value: Any) -> numpy.ndarray:
        """The array of a parsed JSON value, in the widest dtype of its kind."""
        leaves, shape = self._leaves(value)
        # NumPy by itself would take true for 1 beside a number, and room for the longest text as often as there are
        # elements.
        kinds = set(map(type, leaves))
        if kinds == _BOOLEANS:
            array = numpy.array(leaves, bool)
        elif not kinds <= _NUMBERS:
            raise self._no_numbers(kinds)
        elif not leaves:
            array = numpy.empty(0, self.dtype)  # an empty list says nothing of its type
        elif self.dtype.kind != "f" and kinds == _INTEGERS:
            array = self._integers(leaves)
        elif self.dtype.kind in "iu" and kinds == _NUMBERS:
            array = self._integers([number if type(number) is int else self._whole(number) for number in leaves])
        else:
            try:
                array = numpy.array(leaves, _FLOAT64)
            except OverflowError as error:
                raise self._not_held() from error
        return array if len(shape) == 1 else array.reshape(shape)

    def _leaves(self, value: Any) -> tuple[list, list[int]]:
        """What stands in the innermost lists, one after the other, and the shape."""
        if type(value) is not list:
            return [value], []
        leaves, shape = value, [len(value)]
        while leaves and type(leaves[0]) is list:
            if set(map(type, leaves)) != {list} or len(widths := set(map(len, leaves))) != 1:
                raise self._ragged()
            if len(shape) == MAX_DIMENSIONS:
                raise self._refusal(f"got lists that are nested more than {MAX_DIMENSIONS} deep")
            shape.append(widths.pop())
            leaves = list(chain.from_iterable(leaves))
        return leaves, shape

    def _integers(self, numbers: list[int]) -> numpy.ndarray:
        for dtype in (_INT64, _UINT64):
            try:
                return numpy.array(numbers, dtype)
            except OverflowError:
                pass
        raise self._not_held()

    def _whole(self, number: float) -> int:
        """The integer that a decimal certainly is."""
        if not number.is_integer():
            raise self._not_held()
        if abs(number) >= EXACT_BELOW:
            raise self._inexact()
        return int(number)

    def _check_minimum(self, array: numpy.ndarray, minimum: float) -> None:
        # NaN passes neither comparison.
        if array.size and not (array.min() >= minimum and array.max() < numpy.inf):
            raise RequestError(f"'{self.name}' must hold finite numbers of {minimum:g} or more", field=self.name)

    def _refusal(self, reason: str) -> RequestError:
        return RequestError(f"'{self.name}' must be {self.describe()}, {reason}", field=self.name)

    def _ragged(self) -> RequestError:
        message = f"'{self.name}' must be {self.describe()}; its lists have different lengths"
        return RequestError(message, field=self.name)

    def _not_held(self, why: str = "") -> RequestError:
        return RequestError(f"'{self.name}' holds a number that {self.dtype} cannot hold{why}", field=self.name)

    def _inexact(self) -> RequestError:
        return self._not_held(" exactly: from 2**53 on, write whole numbers with all their digits")

    def _no_numbers(self, kinds: set[type]) -> RequestError:
        if list in kinds:
            return self._ragged()
        if kinds <= _NUMBERS | _BOOLEANS:
            return self._refusal("got a mixture of numbers with true or false")
        found = "text" if str in kinds else "null, an object or a mixture"
        return self._refusal(f"got {found} where numbers are expected")

    def _cast(self, array: numpy.ndarray, typed: bool) -> numpy.ndarray:
        if (array.dtype.kind == "b") != (self.dtype.kind == "b"):
            raise self._refusal(f"got {array.dtype} values")
        if array.dtype.kind == self.dtype.kind == "f":
            return self._held(*_as_float(array, self.dtype))
        exactly = typed and array.dtype.kind in "iu" and self.dtype.kind == "f"
        # NumPy calls int64 to float64 safe, which it is up to 2**53.
        if numpy.can_cast(array.dtype, self.dtype, "safe") and not (exactly and array.itemsize == 8):
            return array.astype(self.dtype)
        if self.dtype.kind == "f":
            lossless, converted = _as_float(array, self.dtype)
            if exactly and lossless:
                lossless = not _wraps(converted, array.dtype) and numpy.array_equal(
                    converted.astype(array.dtype), array
                )
        else:
            if not typed and array.dtype.kind == "f" and reaches(array, EXACT_BELOW):
                raise self._inexact()
            with numpy.errstate(invalid="ignore"):
                converted = array.astype(self.dtype)
                lossless = numpy.array_equal(converted.astype(array.dtype), array) and not _wraps(array, self.dtype)
        return self._held(lossless, converted)

    def _held(self, lossless: bool, converted: numpy.ndarray) -> numpy.ndarray:
        """A converted array, if nothing was lost."""
        if not lossless:
            raise self._not_held()
        return converted


def _as_float(array: numpy.ndarray, dtype: numpy.dtype) -> tuple[bool, numpy.ndarray]:
    """Whether every number lies in the range of a float dtype, and the converted array; precision may be lost."""
    try:
        return True, _round(array, dtype)
    except FloatingPointError:
        return False, array


@numpy.errstate(over="raise")  # as a decorator it costs half
def _round(array: numpy.ndarray, dtype: numpy.dtype) -> numpy.ndarray:
    return array.astype(dtype)


def _wraps(array: numpy.ndarray, dtype: numpy.dtype) -> bool:
    """Whether a value lies outside the integer dtype; a cast and its way back can agree all the same (2**63)."""
    if array.size == 0 or array.dtype.kind == "b":
        return False
    limits = numpy.iinfo(dtype)
    if array.dtype.kind in "iu":
        return int(array.min()) < limits.min or int(array.max()) > limits.max
    return float(array.min()) < float(limits.min) or float(array.max()) >= float(limits.max) + 1.0


def reaches(array: numpy.ndarray, bound: int) -> bool:
    """Whether a number is `bound` or more, or as much below zero."""
    return array.size > 0 and bool(array.max() >= bound or array.min() <= -bound)
