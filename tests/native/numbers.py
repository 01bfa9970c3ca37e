"""Numbers that conversions and parsers get wrong first, and the ways to write them."""

from __future__ import annotations

import math
import struct

import numpy

from tests.native.chances import Chances

BORDERS = [2**n + more for n in (7, 8, 15, 16, 24, 31, 32, 53, 63, 64) for more in (-1, 0, 1)]
WHOLE = [0, 1, 2, 10, 1000, *BORDERS, *(-each for each in BORDERS), 10**19, 10**20, 10**40, 2**1023, 2**1024]
BROKEN = [
    *(0.5, -0.0, 1e-3, 0.1, 1 / 3, 2.5, -1.5, 65503.9, 65504.0, 65519.99, 65520.0, 1e-8, 6e-8, 2.98e-8),
    *(3.4028234663852886e38, 3.4028235677973366e38, 3.5e38, 1e-45, 7e-46, 1.1754943508222875e-38, 1e308),
    *(
        5e-324,
        2.2250738585072014e-308,
        1.7976931348623157e308,
        2.0**53,
        2.0**63,
        2.0**64,
        -(2.0**63),
        9007199254740994.0,
    ),
    *(math.nan, math.inf, -math.inf),
]
# Texts that are numbers to some parsers and not to others, or that are read in several ways.
ODD_NUMBERS = [
    *("-0", "-0.0", "0e0", "0E-0", "1E5", "1e+5", "0.1e1", "10e-1", "100e-2", "1.0", "1.00000000000000000000000001"),
    *("9007199254740993", "9007199254740993.0", "9007199254740992e0", "9223372036854775807", "9223372036854775808"),
    *("-9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616", "9.3e18"),
    *("1e19", "1e22", "1e23", "1e39", "3.4028235677973366e38", "3.4028235677973367e38", "1e308", "1.8e308", "1e309"),
    *(
        "1e400",
        "-1e400",
        "1e-400",
        "0e400",
        "0e99999999999999999999",
        "1e99999999999999999999",
        "-1e-99999999999999999999",
    ),
    *("4.9406564584124654e-324", "2.4703282292062327e-324", "2.4703282292062328e-324", "2.2250738585072011e-308"),
    *(
        "179769313486231570814527423731704356798070e267",
        "1.7976931348623158079372897140530341507993413271003782693617377898044496829276475094664901797758720709633028641669288791094655554785194040263065748867150582068190890200070838367627385484581771153176447573027006985557136695962284291481986083493647529271907416844436551070434271155969950809304288017790417449779e308",
    ),
    *(
        "1" * 19,
        "1" * 20,
        "9" * 300,
        "9" * 400,
        "0." + "0" * 320 + "1",
        "0." + "1" * 400,
        "1" + "0" * 308,
        "1" + "0" * 309,
    ),
    *(
        "01",
        "-01",
        "00",
        "-",
        "+1",
        ".5",
        "1.",
        "-.5",
        "1e",
        "1e+",
        "1.e5",
        "0x1",
        "1_0",
        "1,5",
        "1 2",
        "--1",
        "1-",
        "\u0661",
        "\u22121",
    ),
    *("NaN", "-NaN", "nan", "NAN", "Infinity", "-Infinity", "+Infinity", "Inf", "inf", "-Infinity1", "Infinit", "NaNs"),
    *(
        "true",
        "false",
        "null",
        "True",
        "None",
        "tru",
        "nul",
        '"1"',
        '""',
        "[]",
        "{}",
        "[1]",
        "[[]]",
        '{"a":1}',
        "1.0f",
        "1n",
    ),
]


def number(generator: Chances, dtype: numpy.dtype, *, odd: float, minimum: float | None = None) -> int | float | bool:
    """A number that an array of this dtype may hold, not below `minimum`; so many of them are any numbers at all."""
    if generator.random() < odd:
        return generator.choice(WHOLE if generator.random() < 0.5 else BROKEN)
    if minimum is not None and dtype.kind != "b" and not generator.errs(0.02):
        return math.ceil(minimum) + generator.choice((0, 1, 7, generator.random() if dtype.kind == "f" else 2))
    if dtype.kind == "b":
        return generator.random() < 0.5
    if dtype.kind == "f":
        return generator.choice(
            (
                generator.randrange(-9, 9),
                generator.random(),
                generator.gauss(0, 1e3),
                generator.uniform(-1, 1) * 10 ** generator.randrange(-12, 12),
            )
        )
    low, high = (0, 9) if generator.random() < 0.9 else (int(numpy.iinfo(dtype).min), int(numpy.iinfo(dtype).max))
    return generator.randint(low, high)


def plainly(value: object) -> str:
    """A number as JSON, as most programs write it."""
    return spelled(value, None)


def spelled(value: object, generator: Chances | None) -> str:
    """A number as JSON, as one of many texts that mean the same."""
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int):
        if generator is None or abs(value) > 10**15:
            return str(value)
        return generator.choice(
            (f"{value}.0", f"{value}e0", f"{value}.000", f"{value}.0e0", f"{value / 10!r}e1", f"{value}E+00")
        )
    assert isinstance(value, float)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if generator is None:
        return repr(value)
    return generator.choice(
        (f"{value:.17g}", f"{value:.25g}", f"{value:.40e}", f"{value:.3e}", f"{value:.6E}", f"{value:.9f}")
    )


def bits(generator: Chances, dtype: numpy.dtype, count: int) -> numpy.ndarray:
    """An array of any bits at all; a bool is rarely neither 0 nor 1."""
    content = generator.randbytes(count * dtype.itemsize)
    if dtype.kind == "b":
        content = bytes(byte & 1 for byte in content) if generator.random() < 0.95 else content
    return numpy.frombuffer(content, dtype)


def halfway(generator: Chances) -> str:
    """A decimal number midway between two float64, or next to that."""
    lower = struct.unpack("<d", generator.randbytes(8))[0]
    if not math.isfinite(lower) or lower == 0:
        return "0.5"
    from fractions import Fraction

    middle = (
        (Fraction(lower) + Fraction(math.nextafter(lower, math.inf))) / 2 if abs(lower) < 1e300 else Fraction(lower)
    )
    digits = generator.randrange(15, 60)
    exponent = math.floor(math.log10(abs(lower)))
    scaled = round(middle * Fraction(10) ** (digits - exponent))
    return f"{scaled}e{exponent - digits}"
