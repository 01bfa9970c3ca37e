"""Large JSON becomes arrays without lists of floats, and means the same as small JSON."""

import json
import math
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest

from handlers.codecs import json_arrays
from handlers.codecs.decode import decode_request
from handlers.codecs.json_arrays import SMALL, parse_json_tensors
from handlers.codecs.request import Part, Request
from handlers.errors import RequestError
from handlers.signature import TensorSpec

F32, I64 = numpy.dtype("float32"), numpy.dtype("int64")
X = TensorSpec("x", F32, (-1, -1))
EDGES = TensorSpec("edges", I64, (2, -1))
FLAT = TensorSpec("v", numpy.dtype("float64"), (-1,))
CUBE = TensorSpec("c", F32, (-1, -1, 2))
SCALE = TensorSpec("s", F32, ())
GENERATOR = numpy.random.default_rng(7)
ROWS = GENERATOR.random((50, 8)).tolist()


def parse(text: str, *specs: TensorSpec):
    return parse_json_tensors(bytearray(text.encode()), None, specs)


def decode(text: str, *specs: TensorSpec):
    return decode_request(Request({"body": Part(bytearray(text.encode()), "application/json")}), specs, 1000).inputs


@pytest.fixture
def no_general_parser(monkeypatch):
    """Makes texts fail that simdjson cannot parse, instead of parsing them again."""

    class Never:
        JSONDecodeError = json_arrays.orjson.JSONDecodeError

        @staticmethod
        def loads(content):
            raise AssertionError("the general parser was asked")

    monkeypatch.setattr(json_arrays, "orjson", Never)


@pytest.mark.usefixtures("no_general_parser")
class TestArraysWithoutLists:
    @pytest.mark.parametrize(
        ("spec", "value"),
        [
            (X, ROWS),
            (X, GENERATOR.integers(0, 255, (40, 30)).tolist()),
            (X, [[1.5] * 2] * 500),
            (X, [[1.5]] * 500),
            (X, [[0.5] * 1000]),
            (EDGES, GENERATOR.integers(-(2**62), 2**62, (2, 100)).tolist()),
            (EDGES, [[3.0] * 400, [4] * 400]),
            (FLAT, GENERATOR.random(200).tolist()),
            (FLAT, [1, 2.5, -0.0, 1e-320, 1e308] * 100),
            (CUBE, GENERATOR.random((10, 9, 2)).tolist()),
            (CUBE, [[[1, 2.5]]] * 200),
        ],
    )
    @pytest.mark.parametrize("bare", [True, False])
    def test_the_same_numbers_as_from_lists(self, spec, value, bare):
        text = json.dumps(value if bare else {spec.name: value})
        assert len(text) > SMALL
        got = decode(text, spec)[spec.name]
        expected = numpy.array(value, dtype=spec.dtype)
        assert (got.dtype, got.shape) == (spec.dtype, expected.shape)
        assert got.tobytes() == expected.tobytes()
        assert got.flags.carray

    def test_several_inputs_with_spaces_and_any_order(self):
        document = {"s": 2.5, "edges": [[0] * 300, [1] * 300], "x": ROWS}
        got = decode(json.dumps(document, indent=3), X, EDGES, SCALE)
        assert list(got) == ["x", "edges", "s"]
        numpy.testing.assert_array_equal(got["x"], numpy.array(ROWS, numpy.float32))
        assert got["edges"].sum() == 300 and got["s"] == 2.5

    def test_a_refused_text_does_not_spoil_the_next(self, monkeypatch):
        """The parser that is kept cannot be used while anything of its last text is still there."""
        good = json.dumps({"x": ROWS})
        for size in (json_arrays.KEPT, 0):
            monkeypatch.setattr(json_arrays, "KEPT", size)
            for _ in range(3):
                with pytest.raises(AssertionError, match="general parser was asked"):
                    decode(json.dumps({"x": [*ROWS, ["a"] * 8]}), X)
                assert decode(good, X)["x"].shape == decode(good, X)["x"].shape == (50, 8)

    def test_each_thread_has_its_own_parser(self):
        texts = [json.dumps({"x": [[number] * 8] * 200}) for number in range(8)]
        with ThreadPoolExecutor(4) as pool:
            arrays = list(pool.map(lambda text: decode(text, X)["x"], texts * 20))
        assert [array.max() for array in arrays] == [array.min() for array in arrays] == list(range(8)) * 20

    def test_a_whole_number_keeps_all_its_digits(self):
        big = 2**53 + 1
        assert decode(json.dumps({"edges": [[big] * 100] * 2}), EDGES)["edges"][0, 0] == big

    def test_inputs_of_the_open_inference_protocol(self):
        flat = numpy.ravel(ROWS).tolist()
        for data in (flat, ROWS):
            tensor = {"name": "x", "shape": [50, 8], "datatype": "FP32", "data": data, "parameters": {"a": [1]}}
            text = json.dumps({"id": "7", "inputs": [tensor], "outputs": [{"name": "y"}]})
            document = parse(text, X)
            assert isinstance(document["inputs"][0]["data"], numpy.ndarray)
            assert document["outputs"] == [{"name": "y"}] and document["id"] == "7"
            numpy.testing.assert_array_equal(decode(text, X)["x"], numpy.array(ROWS, numpy.float32))


def long(value) -> list:
    """Valid rows, and a last one that holds `value`."""
    return [*ROWS, [0.5] * 7 + [value]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (long("0.5"), "got text"),
        (long(None), "null"),
        (long({}), "null, an object"),
        ([*ROWS, [0.5] * 7], "different lengths"),
        ([*ROWS, [0.5] * 9], "different lengths"),
        ([*ROWS, []], "different lengths"),
        ([*ROWS, 0.5], "different lengths"),
        (long([]), "different lengths"),
        (long([0.5]), "different lengths"),
        ([[[0.5, 0.5]] * 4] * 100, r"got shape \[100, 4, 2\]"),
        ([0.5] * 400, r"got shape \[400\]"),
        (long(10**40), "cannot hold|too large"),
        (long(1e39), "float32 cannot hold"),
        ([[True] * 8] * 100, "bool values"),
        ("[" * 2000, "got text"),
        ({"a": ROWS}, "null, an object"),
    ],
)
def test_other_values_than_tensors_are_refused_by_name_as_in_small_json(value, message):
    text = json.dumps({"x": value})
    assert len(text) > SMALL
    with pytest.raises(RequestError, match=message) as caught:
        decode(text, X)
    assert (caught.value.field, caught.value.status) == ("x", 400)


def test_an_array_hidden_in_a_row_of_the_right_length_is_seen():
    """Its numbers, flattened, would fill the shape."""
    value = [*ROWS, [0.5] * 7 + [[0.5]]]
    with pytest.raises(RequestError, match="different lengths"):
        decode(json.dumps(value), X)
    value = [*ROWS, [0.5] * 6 + [[], [0.5, 0.5]]]
    with pytest.raises(RequestError, match="different lengths"):
        decode(json.dumps({"x": value}), X)
    flat = [0.5] * 398 + [[], [0.5, 0.5]]
    tensor = {"name": "x", "shape": [50, 8], "datatype": "FP32", "data": flat}
    with pytest.raises(RequestError, match="different lengths"):
        decode(json.dumps({"inputs": [tensor]}), X)


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity"])
def test_tokens_beyond_json_are_accepted(token):
    text = json.dumps({"x": ROWS}).replace("]]", f"], [{', '.join([token] * 8)}]]")
    got = decode(text, X)["x"]
    assert got.shape == (51, 8)
    numpy.testing.assert_array_equal(got[-1], numpy.full(8, float(token), numpy.float32))


@pytest.mark.parametrize("damage", [lambda t: t[:-1], lambda t: t + "]", lambda t: t[:900] + "x" + t[900:]])
def test_invalid_json_is_reported_as_such(damage):
    with pytest.raises(RequestError, match="the request's body is not valid JSON"):
        decode(damage(json.dumps({"x": ROWS})), X)


def test_the_last_of_two_equal_names_counts_at_any_size():
    small = decode('{"x": [[1]], "x": [[2]]}', X)["x"]
    large = decode('{"x": ' + json.dumps([[1] * 8] * 50) + ', "x": ' + json.dumps(ROWS) + "}", X)["x"]
    assert small.tolist() == [[2]]
    numpy.testing.assert_array_equal(large, numpy.array(ROWS, numpy.float32))


def test_brackets_in_strings_are_not_arrays():
    text = json.dumps({"id": "a[0]", "inputs": [{"name": "x", "shape": [50, 8], "datatype": "FP64", "data": ROWS}]})
    assert decode(text, X)["x"].shape == (50, 8)


def test_empty_rows_and_deep_nesting():
    assert decode(json.dumps({"x": [[]] * 600}), X)["x"].shape == (600, 0)
    for text in ("[" * 5000, '{"x": ' + "[" * 1500 + "]" * 1500 + "}"):
        with pytest.raises(RequestError):
            decode(text, X)


@pytest.mark.parametrize("value", [[0.5], [1e18], [2**64], [300]])
def test_the_shape_counts_before_the_values_at_any_size(value):
    spec = TensorSpec("v", numpy.dtype("uint8"), (2,))
    for padding in ("", " " * SMALL):
        with pytest.raises(RequestError, match=r"got shape \[1\]"):
            decode(json.dumps({"v": value}) + padding, spec)


def test_small_and_large_agree_on_every_kind_of_value(monkeypatch):
    """The fast parser and the general one, on the same texts."""
    values = [0, 1, -1, 1.5, 2**31, 2**63 - 1, 2**63, -(2**63), 1e16, 1e-7, math.pi, True, None, "a", [], [1], {}]

    def outcome(text, spec, small):
        monkeypatch.setattr(json_arrays, "SMALL", small)
        try:
            array = decode(text, spec)["v"]
            return array.dtype, array.tobytes()
        except RequestError as error:
            return error.field, error.status, error.message

    for dtype in TensorSpec.DTYPES:
        spec = TensorSpec("v", numpy.dtype(dtype), (-1,))
        for left in values:
            for right in values:
                text = json.dumps({"v": [left, right]})
                assert outcome(text, spec, 0) == outcome(text, spec, 10**9), (dtype, text)
