"""No JSON text costs too much memory or time, or crashes a C library, whatever its shape."""

import contextlib
import gc
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest
from isal import igzip

from handlers.codecs import json_arrays
from handlers.codecs.decode import decode_request
from handlers.codecs.request import Part, Request
from handlers.errors import RequestError
from handlers.signature import TensorSpec
from tests.handlers.codecs.costly_json import MOST_MIB, MOST_SECONDS, SHAPES

ROOT = Path(__file__).parents[3]
X = TensorSpec("x", numpy.dtype("float32"), (-1,))
# `python -m tests.handlers.codecs.costly_json` takes the others too.
COSTLIEST = [
    "numbers",
    "whole numbers",
    "rows",
    "rows of rows",
    "objects",
    "some objects",
    "members",
    "texts of many",
    "surrogates",
    "one wide name",
    "numbers and NaN",
    "decimals for integers",
    "long decimals",
    "halfway decimals and NaN",
    "the most exponents that are accepted",
    "one whole number",
    "colons",
    "inputs of one name",
    "many parameters",
    "a text for a shape",
    "a long datatype",
]


def body(content: bytes, **headers: str) -> Request:
    return Request({"body": Part(bytearray(content), "application/json")}, headers)


def decode(content: bytes, *specs: TensorSpec, **limits: int) -> dict[str, numpy.ndarray]:
    return decode_request(body(content), specs or (X,), 1000, **limits).inputs


def in_a_child(*command: str) -> list[dict]:
    """The lines of JSON that a separate process prints, so that a crash ends only that process."""
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}{done.stdout[-2000:]}"
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_shape_stays_within_the_bounds_of_memory_and_time():
    assert set(COSTLIEST) <= set(SHAPES)
    for measured in in_a_child("-m", "tests.handlers.codecs.costly_json", *COSTLIEST):
        assert measured["mib"] <= MOST_MIB, measured
        assert measured["seconds"] <= MOST_SECONDS, measured


LONG = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
import numpy
from handlers.codecs.decode import decode_request
from handlers.errors import RequestError
from handlers.codecs.request import Part, Request
from handlers.signature import TensorSpec

SPECS = (TensorSpec("x", numpy.dtype("float32"), (-1,)),)
PLACES = (
    b'%s',
    b'{"x": %s}',
    b'{"x": [1], "y": %s}',
    b'{"x": [1], "y": {"z": [%s]}}',
    b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": %s, "data": [1]}]}',
    b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1], "parameters": {"a": %s}}]}',
    b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": %s}]}',
    b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}], "outputs": %s}',
    b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}], "id": %s}',
    b'{"inputs": %s}',
)
for place in PLACES:
    for power in (8, 16, 24):
        for count in range((1 << power) - 1, (1 << power) + 1):
            for item in (b"1", b"[]", b'""') if power < 24 else (b"1",):
                text = place % (b"[" + b",".join([item] * count) + b"]")
                try:
                    array = decode_request(Request({"body": Part(text, "application/json")}), SPECS, 1).inputs["x"]
                    outcome = list(array.shape)
                except RequestError as error:
                    outcome = error.status
                print(json.dumps([place.decode(), item.decode(), count, outcome]), flush=True)
"""


def test_lists_of_any_length_in_any_place_are_read_or_refused():
    """Around 2**24, where simdjson's count of elements ends and a list of that length is written past its end."""
    outcomes = in_a_child("-c", LONG)
    assert len(outcomes) == 10 * (2 * 2 * 3 + 2)
    read = {(place, count): outcome for place, item, count, outcome in outcomes if item == "1"}
    assert read["%s", 65536] == read['{"x": %s}', 65536] == [65536]
    assert read["%s", 2**24 - 1] == 413
    assert read['{"x": [1], "y": %s}', 2**24] == 413
    assert {outcome for *_, outcome in outcomes if isinstance(outcome, int)} == {400, 413}


def test_more_values_than_simdjson_counts_are_refused_before_it_sees_them(monkeypatch):
    monkeypatch.setattr(json_arrays, "MAX_VALUES", 2000)
    text = "[" + ",".join(["1"] * 1999) + "]"
    assert decode(text.encode())["x"].shape == (1999,)
    monkeypatch.setattr(json_arrays, "simdjson", None)
    for longer in ("[" + ",".join(["1"] * 2001) + "]", json.dumps({"x": [{}] * 2001})):
        with pytest.raises(
            RequestError, match=r"holds more than 2000 JSON values; send large tensors as \.npy"
        ) as caught:
            decode(longer.encode())
        assert caught.value.status == 413


def test_more_arrays_than_are_visited_are_refused(monkeypatch):
    monkeypatch.setattr(json_arrays, "MAX_ARRAYS", 1000)
    rows = TensorSpec("x", numpy.dtype("float32"), (-1, -1))
    assert decode(json.dumps([[1]] * 999).encode(), rows)["x"].shape == (999, 1)
    with pytest.raises(RequestError, match="more than 1000 JSON arrays") as caught:
        decode(json.dumps([[1]] * 1000).encode(), rows)
    assert caught.value.status == 413


@pytest.mark.parametrize("value", [[{}] * 1100, [[], [1]] * 600, {str(index): [] for index in range(1100)}])
def test_more_objects_than_python_should_hold_are_refused(monkeypatch, value):
    monkeypatch.setattr(json_arrays, "MAX_CONTAINERS", 1000)
    with pytest.raises(RequestError, match="more than 1000 arrays and objects") as caught:
        decode(json.dumps({"x": value}).encode())
    assert caught.value.status == 413


@pytest.mark.parametrize("value", [[True] * 2001, ["a"] * 2001, [0.5] * 2000 + [None], [0.5] * 2000 + [float("nan")]])
def test_more_values_outside_regular_arrays_are_refused(monkeypatch, value):
    monkeypatch.setattr(json_arrays, "MAX_CONTAINERS", 1000)
    monkeypatch.setattr(json_arrays, "MAX_OBJECT_VALUES", 2000)
    with pytest.raises(RequestError, match="or 2000 values, not all of them in regular arrays") as caught:
        decode(json.dumps({"x": value}).encode())
    assert caught.value.status == 413
    assert decode(json.dumps({"x": [0.5] * 2001}).encode())["x"].shape == (2001,)


def test_numbers_that_simdjson_reads_slowly_are_left_to_the_other_parser(monkeypatch):
    value = b"[" + b",".join([b"1.2345678901234567890123e-30"] * 100) + b"]"
    expected = numpy.full(100, 1.2345678901234567890123e-30, numpy.float32)
    numpy.testing.assert_array_equal(decode(value)["x"], expected)
    monkeypatch.setattr(json_arrays, "UNCOUNTED_EXPONENTS", 1000)
    monkeypatch.setattr(json_arrays, "MAX_EXPONENTS", 99)
    monkeypatch.setattr(json_arrays, "simdjson", None)
    numpy.testing.assert_array_equal(decode(value)["x"], expected)
    numpy.testing.assert_array_equal(decode(value.replace(b"e", b"E"))["x"], expected)


@pytest.mark.parametrize("size", [10, json_arrays.SMALL + 1])
def test_a_text_is_bounded_after_it_is_unpacked(size):
    text = b"[1]" + b" " * (size - 3)
    assert decode(text, max_json_bytes=size)["x"] == [1]
    packed = body(igzip.compress(text), **{"Content-Encoding": "gzip"})
    form = Request({"x": Part(bytearray(text)), "y": Part(bytearray(text))})
    protocol = body(text + bytes(5), **{"Inference-Header-Content-Length": str(size)})
    for request in (body(text), packed, form, protocol):
        with pytest.raises(RequestError, match=rf"has {size} bytes of JSON; at most {size - 1} are accepted") as caught:
            specs = (X, X.__class__("y", X.dtype, (-1,))) if request is form else (X,)
            decode_request(request, specs, 1, max_json_bytes=size - 1)
        assert caught.value.status == 413
        assert caught.value.field == ("x" if request is form else None)


GROWING = {
    "names": lambda count: {str(index): index for index in range(count)},
    "names of objects": lambda count: {"x": {str(index): {} for index in range(count)}},
    "names in parameters": lambda count: {
        "inputs": [{"name": "x", "shape": [0], "datatype": "FP32", "data": [], "parameters": names(count)}]
    },
    "names in an input": lambda count: {"inputs": [names(count) | {"name": "x"}]},
    "inputs": lambda count: {"inputs": [{"name": str(index), "shape": [0]} for index in range(count)]},
    "outputs": lambda count: {"inputs": [], "outputs": [{"name": str(index)} for index in range(count)]},
    "texts": lambda count: {"x": ["a" * 40] * count},
    "one long text": lambda count: {"x": [1] * count + ["a" * count]},
    "lists": lambda count: {"x": [[1, 2]] * count},
    "lists of lists": lambda count: {"x": [[[]] * 4] * count},
    "truths": lambda count: {"x": [True] * 8 * count},
    "NaN": lambda count: {"x": [float("nan")] * count},
}


def names(count: int) -> dict[str, int]:
    return {str(index): index for index in range(count)}


def seconds_to_decode(text: bytes) -> float:
    """The least processor time, without the garbage collector, whose runs depend on the tests before."""
    best = float("inf")
    gc.disable()
    try:
        for _ in range(3):
            begun = time.process_time()
            with contextlib.suppress(RequestError):
                decode(text)
            best = min(best, time.process_time() - begun)
    finally:
        gc.enable()
    return best


@pytest.mark.parametrize("shape", GROWING)
def test_time_grows_no_faster_than_the_text(shape):
    few, many = (json.dumps(GROWING[shape](count)).encode() for count in (20_000, 160_000))
    # Eight times as much takes eight times as long, caches aside; were it quadratic, sixty-four times.
    assert seconds_to_decode(many) < 30 * max(seconds_to_decode(few), 0.001)


TEXT_AMONG_NUMBERS = """
import json
from tests.handlers.codecs.costly_json import status
from tests.handlers.codecs.test_json_bounds import RequestError, decode
text = json.dumps({"x": [1] * 40_000 + ["a" * 40_000]}).encode()
before = status("VmHWM")
try:
    decode(text)
except RequestError as error:
    print(json.dumps({"message": error.message, "mib": (status("VmHWM") - before) >> 10}))
"""


def test_a_string_among_numbers_takes_no_memory_for_each_of_them():
    (result,) = in_a_child("-c", TEXT_AMONG_NUMBERS)
    assert "got text where numbers are expected" in result["message"]
    assert result["mib"] < 50
