"""The name, dtype and shape of one tensor of a request or a response, and the conversion of plain values to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import numpy

from handlers.errors import RequestError

Arrays = dict[str, numpy.ndarray]

# A JSON number with a fraction or an exponent is read as a float64, in which only smaller whole numbers are exact.
EXACT_BELOW = 2**53

# No tensor has lists nested deeper.
MAX_DIMENSIONS = 32

MAX_NAME = 128
NAME_RULE = f"1 to {MAX_NAME} printable ASCII characters other than spaces, quotes and backslashes"
# Messages put them in quotes, and they name parts, files and members of an .npz.
_NAME = re.compile(rf"[!#-&(-\[\]-_a-~]{{1,{MAX_NAME}}}")

_BOOLEANS, _INTEGERS, _FLOATS, _NUMBERS = {bool}, {int}, {float}, {int, float}
_INT64, _UINT64, _FLOAT64 = numpy.dtype("int64"), numpy.dtype("uint64"), numpy.dtype("float64")


def is_tensor_name(text: str) -> bool:
    """Whether a text follows `NAME_RULE`, as the names of inputs and outputs must."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of one request (no batch dimension).

    Attributes:
        name: the name of the input or output.
        dtype: one of DTYPES.
        shape: the sizes; -1 is any size, including 0.
        optional: whether a request may leave it out.
        minimum: if given, its numbers must be finite and not less.
    """

    name: str
    dtype: numpy.dtype
    shape: tuple[int, ...]
    optional: bool = False
    minimum: float | None = None

    DTYPES: ClassVar[tuple[str, ...]] = ("bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64")

    def describe(self) -> str:
        """Dtype and shape for messages: `float32 [4, 2]`; `?` is any size."""
        return f"{self.dtype} [{', '.join('?' if size < 0 else str(size) for size in self.shape)}]"

    def matches(self, shape: tuple[int, ...]) -> bool:
        """Whether `shape` has the rank and the fixed sizes of this tensor."""
        if len(shape) != len(self.shape):
            return False
        for want, got in zip(self.shape, shape, strict=True):  # noqa: SIM110  all() takes twice as long
            if want not in (got, -1):
                return False
        return True

    def convert(self, value: Any, *, typed: bool = False) -> numpy.ndarray:
        """Returns the array for another array, or for parsed JSON: a number or nested lists of numbers.

        Numbers are converted only if nothing but precision is lost: 3.0 becomes an int64, 3.5 is refused. An array that
        needs no conversion is returned itself, not a copy; the result is contiguous, aligned and writable.

        JSON has one kind of number. For float dtypes each is read as a float64, then rounded. For integer dtypes, those
        without a fraction and an exponent are exact; others must be whole and below `EXACT_BELOW`.

        Args:
            value: the numbers.
            typed: whether the sender chose their dtype, so that every number is meant exactly: whole numbers are then
                not rounded to floats, and whole floats are integers up to the limits of the dtype.

        Raises:
            RequestError: not numbers, ragged, a value the dtype cannot hold, another shape, or a number below the
                minimum.
        """
        array = self._checked(value) if isinstance(value, numpy.ndarray) else self._from_json(value)
        if array.dtype != self.dtype:
            array = self._cast(array, typed=typed)
        if self.minimum is not None:
            self._check_minimum(array, self.minimum)
        # Models and hooks may write to it, and views of a body need not be aligned.
        return array if array.flags.carray else numpy.array(array, order="C")

    def _checked(self, array: numpy.ndarray) -> numpy.ndarray:
        if array.dtype.kind not in "biuf":
            raise self._refusal(f"got {array.dtype} values where numbers are expected")
        self._require_shape(array.shape)
        return array

    def _require_shape(self, shape: tuple[int, ...]) -> None:
        if not self.matches(shape):
            raise self._refusal(f"got shape {list(shape)}")

    def _from_json(self, value: Any) -> numpy.ndarray:
        """The array for a parsed JSON value, in the widest dtype of its kind."""
        leaves, shape = self._leaves(value)
        # NumPy itself would read true next to a number as 1, and reserve space for the longest text in every element.
        kinds = set(map(type, leaves))
        if kinds != _BOOLEANS and not kinds <= _NUMBERS:
            raise self._not_numbers(kinds)
        self._require_shape(tuple(shape))  # before the values, as for arrays: a message depends on no text's length
        if kinds == _BOOLEANS:
            array = numpy.array(leaves, bool)
        elif not leaves:
            array = numpy.empty(0, self.dtype)  # an empty list has no type
        elif self.dtype.kind != "f" and kinds == _INTEGERS:
            array = self._integers(leaves)
        elif self.dtype.kind in "iu" and kinds == _NUMBERS:
            array = self._integers([each if type(each) is int else self._as_integer(each) for each in leaves])
        else:
            try:
                array = numpy.array(leaves, _FLOAT64)
            except OverflowError as error:
                raise self._out_of_range() from error
        return array if len(shape) == 1 else array.reshape(shape)

    def _leaves(self, value: Any) -> tuple[list, list[int]]:
        """The contents of the innermost lists, one after the other, and the shape."""
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
        raise self._out_of_range()

    def _as_integer(self, number: float) -> int:
        """The integer that a decimal number certainly equals."""
        if not number.is_integer():
            raise self._out_of_range()
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

    def _out_of_range(self, why: str = "") -> RequestError:
        return RequestError(f"'{self.name}' holds a number that {self.dtype} cannot hold{why}", field=self.name)

    def _inexact(self) -> RequestError:
        return self._out_of_range(" exactly: from 2**53 on, write whole numbers with all their digits")

    def _not_numbers(self, kinds: set[type]) -> RequestError:
        if list in kinds:
            return self._ragged()
        if kinds <= _NUMBERS | _BOOLEANS:
            return self._refusal("got a mixture of numbers with true or false")
        found = "text" if str in kinds else "null, an object or a mixture"
        return self._refusal(f"got {found} where numbers are expected")

    def _cast(self, array: numpy.ndarray, *, typed: bool) -> numpy.ndarray:
        if (array.dtype.kind == "b") != (self.dtype.kind == "b"):
            raise self._refusal(f"got {array.dtype} values")
        if array.dtype.kind == self.dtype.kind == "f":
            lossless, converted = _as_float(array, self.dtype)
            return self._require(converted, lossless=lossless)
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
            if not typed and array.dtype.kind == "f" and has_magnitude(array, EXACT_BELOW):
                raise self._inexact()
            with numpy.errstate(invalid="ignore", over="ignore"):
                converted = array.astype(self.dtype)
                lossless = numpy.array_equal(converted.astype(array.dtype), array) and not _wraps(array, self.dtype)
        return self._require(converted, lossless=lossless)

    def _require(self, converted: numpy.ndarray, *, lossless: bool) -> numpy.ndarray:
        """Returns a converted array if nothing was lost, and refuses it otherwise."""
        if not lossless:
            raise self._out_of_range()
        return converted


def _as_float(array: numpy.ndarray, dtype: numpy.dtype) -> tuple[bool, numpy.ndarray]:
    """Whether every number is in the range of a float dtype, and the converted array; precision may be lost."""
    try:
        return True, _round(array, dtype)
    except FloatingPointError:
        return False, array


@numpy.errstate(over="raise")  # half the cost of a with statement
def _round(array: numpy.ndarray, dtype: numpy.dtype) -> numpy.ndarray:
    return array.astype(dtype)


def _wraps(array: numpy.ndarray, dtype: numpy.dtype) -> bool:
    """Whether a value is outside an integer dtype; casting forth and back does not always show it (2**63)."""
    if array.size == 0 or array.dtype.kind == "b":
        return False
    limits = numpy.iinfo(dtype)
    if array.dtype.kind in "iu":
        return int(array.min()) < limits.min or int(array.max()) > limits.max
    return float(array.min()) < float(limits.min) or float(array.max()) >= float(limits.max) + 1.0


def has_magnitude(array: numpy.ndarray, bound: int) -> bool:
    """Whether a number has an absolute value of `bound` or more."""
    return array.size > 0 and bool(array.max() >= bound or array.min() <= -bound)
