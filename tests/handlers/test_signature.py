"""Conversion of plain values to the arrays of a signature."""

import numpy
import pytest

from handlers.errors import RequestError
from handlers.signature import TensorSpec


def spec(dtype: str, *shape: int) -> TensorSpec:
    return TensorSpec("x", numpy.dtype(dtype), shape)


@pytest.mark.parametrize(
    ("want", "value"),
    [
        (spec("float32", 2), [1, 2.5]),
        (spec("float32", -1, 2), [[1, 2]]),
        (spec("float64"), 3),
        (spec("int64", 1), [3.0]),
        (spec("int32", 0), []),
        (spec("float32", 0, 3), numpy.empty((0, 3))),
        (spec("uint8", 2), [0, 255]),
        (spec("int64", 1), [2**63 - 1]),
        (spec("int64", 1), numpy.array([2**63 - 300], dtype=numpy.uint64)),
        (spec("int64", 1), numpy.array([2**63 - 300], dtype=">i8")),
        (spec("float32", 3), numpy.array([1e-50, numpy.inf, numpy.nan])),
        (spec("bool", 2), [True, False]),
        (spec("float32", 1), numpy.array([7], dtype=numpy.uint8)),
    ],
)
def test_values_that_fit_are_converted(want, value):
    array = want.convert(value)
    assert array.dtype == want.dtype
    assert array.flags.c_contiguous
    assert want.matches(array.shape)
    numpy.testing.assert_array_equal(array, numpy.asarray(value, dtype=want.dtype))


@pytest.mark.parametrize(
    ("want", "value", "message"),
    [
        (spec("float32", 2), [1, 2, 3], r"'x' must be float32 \[2\], got shape \[3\]"),
        (spec("float32", -1, -1), [[1], [2, 3]], "different lengths"),
        (spec("float32", 1), ["1"], "got text"),
        (spec("float32", 1), [None], "null"),
        (spec("float32", 1), {"a": 1}, "null, an object"),
        (spec("float32", 1), [10**40], "float32 cannot hold"),
        (spec("float32", 1), [1e39], "float32 cannot hold"),
        (spec("int64", 1), [3.5], "int64 cannot hold"),
        (spec("int64", 1), [float("nan")], "int64 cannot hold"),
        (spec("uint8", 1), [256], "uint8 cannot hold"),
        (spec("uint8", 1), [-1], "uint8 cannot hold"),
        (spec("int64", 1), [9.3e18], "int64 cannot hold"),
        (spec("int64", 1), numpy.array([2**63], dtype=numpy.uint64), "int64 cannot hold"),
        (spec("float32", 1), [True], "bool values"),
        (spec("bool", 1), [1], "int64 values"),
    ],
)
def test_values_that_do_not_fit_are_refused_by_name(want, value, message):
    with pytest.raises(RequestError, match=message) as caught:
        want.convert(value)
    assert caught.value.field == "x"
    assert caught.value.status == 400


def test_nan_and_infinity_pass_into_floats():
    got = spec("float32", 3).convert([float("nan"), float("inf"), -float("inf")])
    assert numpy.isnan(got[0]) and got[1] == numpy.inf and got[2] == -numpy.inf


@pytest.mark.parametrize(
    ("want", "value"),
    [
        (spec("float32", 1), numpy.array([2**24 + 1], dtype=numpy.int32)),
        (spec("float64", 1), numpy.array([2**53 + 1], dtype=numpy.int64)),
        (spec("float32", 1), numpy.array([2**63 - 1], dtype=numpy.int64)),
        (spec("float64", 1), numpy.array([2**64 - 1], dtype=numpy.uint64)),
    ],
)
def test_whole_numbers_of_a_dtype_are_not_rounded_but_those_of_json_are(want, value):
    with pytest.raises(RequestError, match="cannot hold"):
        want.convert(value, typed=True)
    assert want.convert(value)[0] == want.dtype.type(value[0])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16"])
def test_smaller_dtypes_are_widened(dtype):
    value = numpy.array([0, 1, 100], dtype)
    for want in ("int64", "float32", "float64"):
        got = spec(want, 3).convert(value, typed=True)
        assert got.dtype == want and got.tolist() == [0, 1, 100]


def test_every_float16_is_the_same_float32():
    halves = numpy.arange(1 << 16, dtype=numpy.uint16).view(numpy.float16)
    got = spec("float32", 1 << 16).convert(halves, typed=True)
    with numpy.errstate(invalid="ignore"):  # some are signalling NaNs
        numpy.testing.assert_array_equal(got.astype(numpy.float64), halves.astype(numpy.float64))


@pytest.mark.parametrize("value", [[], [0], [2.5, 0.0, 7]])
def test_numbers_from_the_minimum_on_pass(value):
    want = TensorSpec("x", numpy.dtype("float32"), (-1,), minimum=0)
    assert want.convert(value).tolist() == value


@pytest.mark.parametrize("value", [[-1], [1, -1e-30], [float("nan"), 1], [1, float("inf")]])
@pytest.mark.parametrize("source", [list, lambda value: numpy.array(value, numpy.float32)])
def test_numbers_below_the_minimum_or_not_finite_are_refused_by_name(value, source):
    want = TensorSpec("x", numpy.dtype("float32"), (-1,), minimum=0)
    with pytest.raises(RequestError, match=r"^'x' must hold finite numbers of 0 or more$") as caught:
        want.convert(source(value))
    assert caught.value.field == "x"
