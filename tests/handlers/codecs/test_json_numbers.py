"""The numbers and strings that a JSON request may hold: the same at any length, and as in a plain reference."""

import json
import math
import random

import numpy
import pytest

from handlers.codecs import json_arrays
from handlers.codecs.decode import decode_request
from handlers.codecs.json_arrays import SMALL
from handlers.codecs.request import Part, Request
from handlers.errors import RequestError
from handlers.signature import TensorSpec


def spec(dtype: str, *shape: int) -> TensorSpec:
    return TensorSpec("x", numpy.dtype(dtype), shape or (-1,))


def decode(content: bytes, *specs: TensorSpec) -> dict[str, numpy.ndarray]:
    return decode_request(Request({"body": Part(bytearray(content), "application/json")}), specs, 1000).inputs


def either(numbers: list[str], dtype: str):
    """The array or the error for numbers in a short text and, after many others, in a long one."""
    outcomes = []
    filling = [numbers[0] if numbers[0] in ("true", "false") else "1"] * SMALL
    for before in ([], filling):
        text = f"[{', '.join(before + numbers)}]".encode()
        try:
            outcomes.append(decode(text, spec(dtype))["x"][len(before) :])
        except RequestError as error:
            assert (error.field, error.status) == ("x", 400), error.message
            outcomes.append(error.message)
    short, long = outcomes
    assert type(short) is type(long), (numbers, dtype, outcomes)
    if isinstance(short, numpy.ndarray):
        assert short.dtype == dtype
        assert short.tobytes() == long.tobytes(), (numbers, dtype, outcomes)
    return short


@pytest.mark.parametrize(
    ("dtype", "numbers", "expected"),
    [
        ("int64", ["9007199254740993", "1.0"], [2**53 + 1, 1]),
        ("int64", ["9223372036854775807", "-9223372036854775808"], [2**63 - 1, -(2**63)]),
        ("int64", ["9007199254740991.0", "-9007199254740991.0", "1e3"], [2**53 - 1, 1 - 2**53, 1000]),
        ("int64", ["-0", "-0.0", "0e999"], [0, 0, 0]),
        ("float64", ["9223372036854775808", "18446744073709551616", "1e308"], [2.0**63, 2.0**64, 1e308]),
        ("float64", ["9007199254740993", "0.5"], [2.0**53, 0.5]),
        ("float64", ["1e-999", "-0.0", "1" * 309], [0.0, -0.0, float("1" * 309)]),
        ("float32", ["1e-46", "3.4028235e38", "16777217"], [0.0, 3.4028235e38, 2.0**24]),
        ("float32", [str(2**60 + 2**36 + 1)], [2.0**60]),
        ("float64", ["NaN", "Infinity", "-Infinity"], [math.nan, math.inf, -math.inf]),
        ("bool", ["true", "false"], [True, False]),
    ],
)
def test_numbers_that_are_held(dtype, numbers, expected):
    got = either(numbers, dtype)
    assert got.tobytes() == numpy.array(expected, dtype).tobytes()


@pytest.mark.parametrize(
    ("dtype", "numbers", "message"),
    [
        ("int64", ["-9223372036854775809"], "int64 cannot hold"),
        ("int64", ["9223372036854775808"], "int64 cannot hold"),
        ("int64", ["18446744073709551615"], "int64 cannot hold"),
        ("int64", ["18446744073709551616"], "int64 cannot hold"),
        ("int64", ["9223372036854775808", "-1"], "int64 cannot hold"),
        ("int64", ["9007199254740993.0"], "int64 cannot hold exactly: from 2\\*\\*53 on, write whole numbers with all"),
        ("int64", ["1e18"], "int64 cannot hold exactly"),
        ("int64", ["1e18", "9007199254740993"], "int64 cannot hold exactly"),
        ("int64", ["0.5", "1"], "int64 cannot hold"),
        ("int64", ["NaN"], "int64 cannot hold"),
        ("int64", ["1e999"], "int64 cannot hold"),
        ("int64", ["1" * 400], "int64 cannot hold"),
        ("uint8", ["256"], "uint8 cannot hold"),
        ("float32", ["1e39"], "float32 cannot hold"),
        ("float32", ["-1e39", "NaN"], "float32 cannot hold"),
        ("float32", ["1e999"], "float32 cannot hold"),
        ("float64", ["1e999"], "float64 cannot hold"),
        ("float64", ["-1e999"], "float64 cannot hold"),
        ("float64", ["1.7976931348623159e308"], "float64 cannot hold"),
        ("float64", ["1" * 310], "float64 cannot hold"),
        ("float64", ["1" * 5000], "float64 cannot hold"),
        ("float64", ["NaN", "1e999"], "float64 cannot hold"),
        ("int64", ["1", "true"], "mixture of numbers with true or false"),
        ("int64", ["true", "1"], "mixture of numbers with true or false"),
        ("float32", ["0.5", "true"], "mixture of numbers with true or false"),
        ("float32", ["true"], "mixture of numbers with true or false|bool values"),
        ("bool", ["true", "1"], "mixture of numbers with true or false"),
        ("bool", ["1"], "int64 values"),
        ("bool", ["1.0"], "float64 values"),
        ("float32", ['"1"'], "got text where numbers"),
        ("float32", ["null"], "null, an object or a mixture"),
    ],
)
def test_numbers_that_are_not_held_are_refused(dtype, numbers, message):
    got = either(numbers, dtype)
    assert isinstance(got, str), got
    with pytest.raises(RequestError, match=message):
        decode(f"[{', '.join(numbers)}]".encode(), spec(dtype))


def test_a_scalar_is_held_to_the_same_rules():
    assert decode(b'{"x": 9007199254740993}', TensorSpec("x", numpy.dtype("int64"), ()))["x"] == 2**53 + 1
    for text in ("true", "1e18", "-9223372036854775809", '"1"', "null", "1e999", "{}"):
        with pytest.raises(RequestError):
            decode(f'{{"x": {text}}}'.encode(), TensorSpec("x", numpy.dtype("int64"), ()))


def test_unsigned_integers_of_the_open_inference_protocol_keep_all_their_digits():
    for count in (1, 400):
        tensor = {"name": "x", "shape": [count], "datatype": "UINT64", "data": [2**64 - 1] * count}
        with pytest.raises(RequestError, match="float64 cannot hold"):
            decode(json.dumps({"inputs": [tensor]}).encode(), spec("float64"))
        tensor["data"] = [2**63 - 1] * count
        assert decode(json.dumps({"inputs": [tensor]}).encode(), spec("int64"))["x"].tolist() == [2**63 - 1] * count


def long_and_short(text: str) -> list[bytes]:
    """A text, and one of the same meaning that is long enough for the other parser."""
    return [text.encode(errors="surrogatepass"), (text + " " * SMALL).encode(errors="surrogatepass")]


@pytest.mark.parametrize(
    "text",
    [
        r'{"x": [1], "\ud800": 1}',
        r'{"x": [1], "\udc00\ud800": 1}',
        r'{"x": [1, NaN], "\udc00": 1}',
        r'{"x": [1], "y": {"\ud800": 1}}',
        r'{"x": [1], "y": ["\ud83d", NaN]}',
        r'{"x": ["\ud800"], "x": [NaN]}',
        r'{"x": [1], "y": {"a": [{"\udc00": 1}], "a": NaN}}',
        r'{"inputs": [{"name": "\ud800", "shape": [1], "datatype": "FP32", "data": [1]}]}',
        r'{"inputs": [{"name": "x", "shape": [1], "datatype": "\ud800", "data": [1]}]}',
        r'{"id": "\ud800", "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}',
        r'{"outputs": [{"name": "\ud800"}], "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}',
        '{"x": [1], "\ud800": 1}',
    ],
)
def test_lone_surrogates_are_not_text(text):
    for content in long_and_short(text):
        with pytest.raises(RequestError, match="not valid JSON") as caught:
            decode(content, spec("float32"))
        json.dumps(caught.value.as_dict(), ensure_ascii=False).encode()


def test_pairs_of_surrogates_and_escaped_backslashes_are_text():
    for text in (r'"\ud83d\ude00"', r'"\\ud800"', r'"\\\\ud800"', r'"\\\ud83d\ude00"'):
        document = rf'{{"id": {text}, "inputs": [{{"name": "x", "shape": [1], "datatype": "FP32", "data": [NaN]}}]}}'
        for content in long_and_short(document):
            assert numpy.isnan(decode(content, spec("float32"))["x"])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "latin-1"])
def test_text_in_another_encoding_is_not_json(encoding):
    for text in ('{"x": [1], "é": 2}', '{"x": [1], "é": 2}' + " " * SMALL):
        with pytest.raises(RequestError, match="not valid JSON"):
            decode(text.encode(encoding), spec("float32"))


def test_a_byte_order_mark_is_accepted():
    for value in ([1], [1] * SMALL, [True]):
        text = json.dumps(value).encode("utf-8-sig")
        dtype = "bool" if value == [True] and value[0] is True else "float32"
        assert decode(text, spec(dtype))["x"].tolist() == value
        part = Request({"x": Part(bytearray(text))})
        assert decode_request(part, (spec(dtype),), 1).inputs["x"].tolist() == value


@pytest.mark.parametrize(
    "text",
    [
        "[01]",
        "[+1]",
        "[1.]",
        "[.5]",
        "[1e]",
        "[1,]",
        "[,1]",
        "[1]\x00",
        "[1]]",
        "[0x1]",
        "[1_0]",
        "[-]",
        "[- 1]",
        "[-NaN]",
        "[nan]",
        "[inf]",
        "[Infinit]",
        "[True]",
        "[1 2]",
        '["\t"]',
        "['a']",
        "[1]//",
        "\x0c[1]",
        "\xa0[1]",
        "[\u0661]",
        "",
        "[",
    ],
)
def test_almost_json_is_refused(text):
    for content in (text, text + "\n" * SMALL, "\n" * SMALL + text):
        with pytest.raises(RequestError):
            decode(content.encode(), spec("float32"))


def test_nul_is_not_the_end_of_a_name():
    """Simdjson looks a name up to its first NUL."""
    tensor = {"name": "x", "shape": [400], "datatype": "FP32", "data": [1] * 400, "parameters": {"a\0b": 1}}
    tensor |= {"data\0": [2] * 400}
    assert decode(json.dumps({"inputs": [tensor]}).encode(), spec("float32"))["x"].tolist() == [1] * 400
    document = json.dumps({"x": [1] * 400, "x\0": [2] * 400}).encode()
    parsed = json_arrays.parse_json_tensors(document, None, (spec("float32"),))
    assert [list(values) for values in parsed.values()] == [[1] * 400, [2] * 400]


# -- against a reference ----------------------------------------------------------------------------------------------


class Refused(Exception):
    pass


class Overflow:
    pass


def reference(content: bytes, wanted: TensorSpec) -> numpy.ndarray:
    """The meaning of a JSON object, or of a bare array for one input, by the standard library and number by number."""

    def decimal(text: str):
        value = float(text)
        return Overflow if math.isinf(value) else value

    def whole(text: str):
        return int(text) if len(text) < 4000 else Overflow

    try:
        text = content.decode("utf-8-sig")
        document = json.loads(text, parse_float=decimal, parse_int=whole)
        json.dumps(json.loads(text, parse_int=float), ensure_ascii=False).encode()  # no lone surrogates
    except (ValueError, RecursionError) as error:
        raise Refused from error
    if isinstance(document, dict):
        if document.keys() != {wanted.name}:
            raise Refused
        document = document[wanted.name]

    def shape(value) -> tuple:
        if not isinstance(value, list):
            return ()
        inner = {shape(item) for item in value}
        if len(inner) > 1:
            raise Refused
        return (len(value), *(inner.pop() if inner else ()))

    def leaves(value):
        if isinstance(value, list):
            for item in value:
                yield from leaves(item)
        else:
            yield number(value)

    def number(value):
        if wanted.dtype.kind == "b":
            if type(value) is not bool:
                raise Refused
            return value
        if type(value) not in (int, float):
            raise Refused
        if wanted.dtype.kind == "f":
            try:
                value = float(value)
            except OverflowError as error:
                raise Refused from error
            with numpy.errstate(over="ignore"):
                rounded = wanted.dtype.type(value)
            if math.isfinite(value) and not numpy.isfinite(rounded):
                raise Refused
            return rounded
        if type(value) is float:
            if not value.is_integer() or abs(value) >= 2**53:
                raise Refused
            value = int(value)
        limits = numpy.iinfo(wanted.dtype)
        if not limits.min <= value <= limits.max:
            raise Refused
        return value

    found = shape(document)
    if not wanted.matches(found):
        raise Refused
    return numpy.array(list(leaves(document)), wanted.dtype).reshape(found)


PIECES = (
    """0 1 -1 7 255 256 -129 1.5 -0 -0.0 1e3 1E+2 1e-7 1e39 -1e39 1e308 1e309 1e999 1e-400 3.0 01 1. .5 + - e [ ] [[ ]]
    , , ,, : { } " "a" "x" "\\ud800" "\\ud83d\\ude00" "\\\\ud800" true false null NaN Infinity -Infinity \ufeff \0 \t é
    9007199254740991 9007199254740992 9007199254740993 -9007199254740993 9007199254740993.0 1e15 1e16 1e18
    9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809 18446744073709551615
    18446744073709551616 123456789012345678901234567890 3.4028235e38 3.4028236e38 16777217 1.7976931348623157e308
    1.7976931348623159e308 0.1234567890123456789012345 1.00000000000000000000000000000001e-300"""
).split(" ")


def document(generator: random.Random, dtype: str, rank: int) -> str:
    """A valid document, or almost: numbers of a dtype and sometimes something else."""
    usual = {
        "b": ["true", "false"],
        "i": ["0", "1", "-7", "100", "3.0"],
        "u": ["0", "1", "200"],
        "f": ["0.5", "1", "-2e3"],
    }
    kind = usual[numpy.dtype(dtype).kind]
    odd = generator.choice([0, 0.02, 0.2])

    def element() -> str:
        return (
            generator.choice([piece.strip() for piece in PIECES])
            if generator.random() < odd
            else generator.choice(kind)
        )

    sizes = [generator.choice([0, 1, 2, 3, 5])] + [generator.choice([1, 2, 3]) for _ in range(rank - 1)]

    def nested(sizes: list[int]) -> str:
        if not sizes:
            return element()
        count = sizes[0] + (generator.random() < odd / 4)
        return "[" + ", ".join(nested(sizes[1:]) for _ in range(count)) + "]"

    value = nested(sizes)
    if generator.random() < 0.3:  # a long text of the same kind
        filling = nested([generator.choice([250, 500]), *sizes[1:]])
        value = filling[:-1] + ", " + value[1:] if value != "[]" else filling
    text = generator.choice(['{"x": %s}', '{ "x":\t%s }\n', "%s"]) % value
    for _ in range(generator.choice([0, 0, 0, 1, 2])):  # damage
        at = generator.randrange(len(text) + 1)
        text = text[:at] + generator.choice(PIECES).strip(" ") + text[at + generator.choice([0, 0, 1, 3]) :]
    return text


@pytest.mark.parametrize("dtype", TensorSpec.DTYPES)
def test_every_document_means_the_same_as_to_the_reference(dtype, monkeypatch):
    generator = random.Random(f"{dtype} of JSON")
    held = 0
    for _ in range(1500):
        rank = generator.choice([1, 1, 2, 3])
        wanted = spec(dtype, *[-1] * rank)
        content = document(generator, dtype, rank).encode(errors="surrogatepass")
        try:
            expected = reference(content, wanted)
            held += 1
        except Refused:
            expected = None
        for small in (0, 1024, 10**9):
            monkeypatch.setattr(json_arrays, "SMALL", small)
            try:
                got = decode(content, wanted)["x"]
            except RequestError as error:
                assert 400 <= error.status < 500
                assert expected is None, (content, wanted, small, error.message)
            else:
                assert expected is not None, (content, wanted, small, got)
                assert (got.shape, got.tobytes()) == (expected.shape, expected.tobytes()), (content, wanted, small)
    assert 300 < held < 1400
