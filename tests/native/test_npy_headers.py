"""Both workers read the headers of .npy files alike: Python literals, however they are written, and what is none."""

import struct
from random import Random

import pytest

from handlers.codecs.request import BODY, Part, Request
from tests.native.codecs import NativeCodecs, PythonCodecs
from tests.native.comparison import found
from tests.native.decode_tool import PROGRAM
from tests.native.models import configure
from tests.native.outcomes import outcome_of

CASES = 3000
MODEL = "one float32"

pytestmark = pytest.mark.skipif(not PROGRAM.is_file(), reason="the native worker was not built; make ext says why")

SPACES = ["", "", "", "", " ", "\t", "\n", " # it's a comment\n", "\f", "\r\n", "\r"]
NUMBERS = [
    *("0", "1", "4", "00", "0_0", "04", "1_0", "0x4", "0xf_f", "0o4", "0b100", "9223372036854775807", "1_", "1__0"),
    *("9223372036854775808", "4.", ".5", "4e0", "4E+1", "1e", "4j", "04j", "04.5", "4L", "0b2", "0x", "4or", "4if"),
]
TEXTS = [
    *("''", "'descr'", '"shape"', "'''fortran_order'''", '"""a\n"b"""', "'a\nb'", "u'descr'", "R'shape'", "b'descr'"),
    *("rb'a'", "bR'a'", "br''", "f'descr'", "ur'a'", "b'\xe9'", "'\xe9'", "'''a''''", "''''a'''", "'", "'''"),
]
NAMES = ["True", "False", "None", "...", "set()", "(set) ( )", "set", "true", "dict()"]


def literal(generator: Random, depth: int) -> str:
    """A literal, or nearly one."""

    def space() -> str:
        return generator.choice(SPACES)

    def inner() -> str:
        return space() + literal(generator, depth - 1) + space()

    kind = generator.randrange(10 if depth else 4)
    if kind < 2:
        return generator.choice(NUMBERS)
    if kind < 3:
        return space().join(generator.choice(TEXTS) for _ in range(generator.choice((1, 1, 1, 2, 3))))
    if kind < 4:
        return generator.choice(NAMES)
    if kind < 5:
        return generator.choice("+-") + inner()
    if kind < 6:
        return inner() + generator.choice("+-") + inner()
    opening, closing = generator.choice(("()", "()", "[]", "{}"))
    items = [inner() for _ in range(generator.randrange(4))]
    if kind < 8 and opening == "{":
        items = [f"{inner()}:{item}" for item in items]
    return opening + ",".join(items) + generator.choice(("", "", ",")) + space() + closing


def header(generator: Random) -> str:
    """The text of a header: often a sound one, whatever its spaces and quotes are."""

    def spaced(text: str) -> str:
        return generator.choice(SPACES) + text + generator.choice(SPACES)

    values = {
        "descr": "'<f4'",
        "fortran_order": "False",
        "shape": generator.choice(("(4,)", "(2+0,)", "(0x4,)", "(+4,)")),
    }
    for name in values:
        if generator.random() < 0.15:
            values[name] = literal(generator, 2)
    quote = generator.choice(("'", '"', "'''"))
    items = [spaced(f"{quote}{name}{quote}") + ":" + spaced(value) for name, value in values.items()]
    generator.shuffle(items)
    if generator.random() < 0.1:
        items.append(spaced(literal(generator, 1)) + ":" + spaced(literal(generator, 2)))
    before = generator.choice(("", "", "", "# a comment\n", "\n \n", "# a comment\n  ", "\xa0"))
    after = generator.choice(("", "", "\n", "\n # a comment", "\x0c", "\n1", ",", ";", "\x85"))
    text = before + "{" + ",".join(items) + generator.choice(("", ",", ", ")) + "}" + after
    if generator.random() < 0.2:
        at = generator.randrange(len(text))
        text = text[:at] + generator.choice(("", "(", "}", "'", "#", chr(generator.randrange(256)))) + text[at + 1 :]
    return text


def file(text: str) -> bytes:
    """An `.npy` file of four numbers."""
    content = text.encode("latin-1")
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(content)) + content + bytes(16)


@pytest.fixture(scope="module")
def codecs():
    models = configure("opserve-headers-")
    with NativeCodecs(PROGRAM, models) as native:
        yield PythonCodecs(models), native


@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
def test_headers_are_read_alike(codecs):
    generator = Random(1)
    accepted = 0
    for _ in range(CASES):
        text = header(generator) if generator.random() < 0.7 else literal(generator, 3)
        request = Request({BODY: Part(bytearray(file(text)), "application/x-npy")})
        expected, got = (outcome_of(each.decode(MODEL, request)) for each in codecs)
        assert found("decode", expected, got) is None, text
        accepted += hasattr(expected, "inputs")
    assert CASES / 10 < accepted < CASES / 2


@pytest.mark.parametrize("depth", [199, 200, 201])
@pytest.mark.parametrize("brackets", ["()", "[]"])
def test_brackets_in_brackets(codecs, depth, brackets):
    request = Request({BODY: Part(bytearray(file(brackets[0] * depth + brackets[1] * depth)), "application/x-npy")})
    expected, got = (outcome_of(each.decode(MODEL, request)) for each in codecs)
    assert found("decode", expected, got) is None
