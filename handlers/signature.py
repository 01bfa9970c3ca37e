"""What one named tensor of a request or an answer must look like, and the conversion of plain values to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy

from handlers.errors import RequestError


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of one tensor of one request (no batch dimension); -1 is any size, 0 included.

    An optional one may be left out of a request.
    """

    name: str
    dtype: numpy.dtype
    shape: tuple[int, ...]
    optional: bool = False

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
        """An array of this spec from an array, a number or nested lists of numbers.

        Numbers are converted only where nothing is lost but precision: 3.0 becomes an int64, 3.5 is refused. An array
        that is as it should be is returned itself, not a copy; the result is contiguous, aligned and writable.

        Args:
            value: the numbers.
            typed: their sender chose the dtype. Whole numbers are then not rounded to floats; those of JSON, which has
                but one kind, are.

        Raises:
            RequestError: not numbers, ragged, a value the dtype cannot hold, or another shape than asked for.
        """
        array = self._as_array(value)
        if not self.matches(array.shape):
            raise RequestError(
                f"'{self.name}' must be {self.describe()}, got shape {list(array.shape)}", field=self.name
            )
        if array.dtype != self.dtype:
            array = self._cast(array, typed)
        # A model or a hook may read and write it as it likes; views of a body need not lie on their own boundary.
        return array if array.flags.carray else numpy.array(array, order="C")

    def _as_array(self, value: Any) -> numpy.ndarray:
        if isinstance(value, numpy.ndarray):
            array = value
        else:
            try:
                array = numpy.array(value)
            except (ValueError, OverflowError) as error:
                raise RequestError(
                    f"'{self.name}' must be {self.describe()}; its lists have different lengths or too large numbers",
                    field=self.name,
                ) from error
            if array.size == 0 and array.dtype == numpy.float64:
                array = array.astype(self.dtype)  # an empty list says nothing of its type
        if array.dtype.kind not in "biuf":
            raise RequestError(
                f"'{self.name}' must be {self.describe()}, got {_kind(value, array)} where numbers are expected",
                field=self.name,
            )
        return array

    def _cast(self, array: numpy.ndarray, typed: bool) -> numpy.ndarray:
        if (array.dtype.kind == "b") != (self.dtype.kind == "b"):
            raise RequestError(f"'{self.name}' must be {self.describe()}, got {array.dtype} values", field=self.name)
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
            with numpy.errstate(invalid="ignore"):
                converted = array.astype(self.dtype)
                lossless = numpy.array_equal(converted.astype(array.dtype), array) and not _wraps(array, self.dtype)
        return self._held(lossless, converted)

    def _held(self, lossless: bool, converted: numpy.ndarray) -> numpy.ndarray:
        """A converted array, if nothing was lost."""
        if not lossless:
            raise RequestError(f"'{self.name}' holds a number that {self.dtype} cannot hold", field=self.name)
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


def _kind(value: Any, array: numpy.ndarray) -> str:
    if array.dtype.kind in "US":
        return "text"
    if array.dtype.kind == "O":
        return "null, an object or a mixture"
    return type(value).__name__
