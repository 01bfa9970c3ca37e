"""What a JSON request of each shape costs: `python -m tests.handlers.codecs.costly_json [SHAPE …]` measures them.

The shapes are those that take the most memory or time per byte, each as long as a request may be. They are sent as
gzip, so that a few kilobytes are all that a client needs.
"""

from __future__ import annotations

import decimal
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
from isal import igzip

from handlers.codecs.decode import decode_request
from handlers.codecs.json_arrays import (
    MAX_ARRAYS,
    MAX_CONTAINERS,
    MAX_EXPONENTS,
    MAX_OBJECT_VALUES,
    MAX_VALUES,
    UNCOUNTED_EXPONENTS,
)
from handlers.codecs.limits import MAX_JSON_BYTES
from handlers.codecs.request import Part, Request
from handlers.errors import RequestError
from handlers.signature import TensorSpec

# Four times the largest legal request, and what its decoding may take of a processor.
MOST_MIB = 1024
MOST_SECONDS = 5.0

SPECS = {
    "float32": (TensorSpec("x", numpy.dtype("float32"), (-1,)),),
    "int64": (TensorSpec("x", numpy.dtype("int64"), (-1,)),),
    "bool": (TensorSpec("x", numpy.dtype("bool"), (-1,)),),
    "rows": (TensorSpec("x", numpy.dtype("float32"), (-1, -1)),),
    "cube": (TensorSpec("x", numpy.dtype("float32"), (-1, -1, -1)),),
}
# A number midway between two of float64's, with all the digits that it takes to see which is nearer.
decimal.getcontext().prec = 1100
HALFWAY = f"{decimal.Decimal(2) ** -1074 * 1001 / 2:E}".encode()


def filled(
    item: bytes, count: int | None = None, start: bytes = b"[", end: bytes = b"]", size: int = MAX_JSON_BYTES
) -> bytes:
    """A list of one item repeated `count` times, or as often as fits."""
    fits = (size - len(start) - len(end)) // (len(item) + 1)
    return start + b",".join([item] * min(fits, count or fits)) + end


def numbered(form: str, count: int, start: bytes = b"{", end: bytes = b"}") -> bytes:
    """Like `filled`, with each item's number in it."""
    return start + ",".join(form % index for index in range(count)).encode() + end


NAN = b",NaN]"
SHAPES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "numbers": ("float32", lambda: filled(b"1", MAX_VALUES - 1)),
    "whole numbers": ("int64", lambda: filled(b"1", MAX_VALUES - 1)),
    "too many numbers": ("float32", lambda: filled(b"1")),
    "rows": ("rows", lambda: filled(b"[1,2,3]", MAX_ARRAYS - 1)),
    "empty rows": ("rows", lambda: filled(b"[]", MAX_ARRAYS - 1)),
    "rows of rows": ("cube", lambda: filled(b"[[1]]", MAX_ARRAYS // 2 - 1)),
    "uneven rows": ("rows", lambda: filled(b"[1]", MAX_ARRAYS - 2, end=b",[]]")),
    "too many rows": ("rows", lambda: filled(b"[]")),
    "lists": ("float32", lambda: filled(b"[]", MAX_CONTAINERS - 2)),
    "objects": ("float32", lambda: filled(b"{}")),
    "some objects": ("float32", lambda: numbered('{"%d":0}', MAX_CONTAINERS - 2, b"[", b"]")),
    "members": ("float32", lambda: numbered('"%d":1', MAX_OBJECT_VALUES - 2)),
    "too many members": ("float32", lambda: numbered('"%d":1', MAX_OBJECT_VALUES + 2)),
    "long members": ("float32", lambda: numbered('"' + "a" * 240 + '%06d":1', MAX_JSON_BYTES // 252)),
    "texts": ("float32", lambda: filled(b'"ab"', MAX_OBJECT_VALUES - 2)),
    "texts of many": ("float32", lambda: filled('"é"'.encode(), MAX_OBJECT_VALUES - 2)),
    "one text": ("float32", lambda: b'["' + "\U0001f600".encode() + b"a" * (MAX_JSON_BYTES - 10) + b'"]'),
    "one text of escapes": ("float32", lambda: filled(rb"\u0041", start=b'["', end=b'"]').replace(b",", b" ")),
    "surrogates": ("float32", lambda: filled(rb'"\ud83d\ude00"', MAX_OBJECT_VALUES - 2, end=NAN)),
    "one wide text and NaN": (
        "float32",
        lambda: b'["' + "\U0001f600".encode() + b"a" * (MAX_JSON_BYTES - 20) + b'"' + NAN,
    ),
    "one wide name": ("float32", lambda: b'{"' + "\U0001f600".encode() + b"a" * (MAX_JSON_BYTES - 20) + b'":NaN}'),
    "truths": ("bool", lambda: filled(b"true", MAX_OBJECT_VALUES - 2)),
    "too many truths": ("bool", lambda: filled(b"true")),
    "numbers and NaN": ("float32", lambda: filled(b"1e9", MAX_OBJECT_VALUES - 2, end=NAN)),
    "decimals for integers": ("int64", lambda: filled(b"300.0", MAX_OBJECT_VALUES - 2, end=b",9007199254740993]")),
    "long decimals": ("float32", lambda: filled(b"0." + b"1" * 22)),
    "long decimals with exponents": ("float32", lambda: filled(b"1." + b"234567890" * 2 + b"12e-310")),
    "halfway decimals": ("float32", lambda: filled(HALFWAY)),
    "the most exponents that are accepted": ("float32", lambda: filled(HALFWAY, MAX_EXPONENTS, end=NAN)),
    "exponents that are not counted": (
        "float32",
        lambda: filled(b"1." + b"234567890" * 2 + b"12e-310", size=UNCOUNTED_EXPONENTS),
    ),
    "halfway decimals and NaN": ("float32", lambda: filled(HALFWAY, end=NAN)),
    "short halfway decimals and NaN": ("float32", lambda: filled(HALFWAY[:80] + b"e-321", end=NAN)),
    "one decimal": ("float32", lambda: b"[0." + b"1" * (MAX_JSON_BYTES - 10) + b"]"),
    "one whole number": ("float32", lambda: b"[" + b"1" * (MAX_JSON_BYTES - 10) + b"]"),
    "whole numbers of 4300 digits": ("float32", lambda: filled(b"1" * 4300)),
    "deep": ("float32", lambda: filled(b"[" * 900 + b"]" * 900, MAX_CONTAINERS // 900 - 1)),
    "open brackets": ("float32", lambda: b"[" * MAX_JSON_BYTES),
    "colons": ("float32", lambda: b":" * MAX_JSON_BYTES),
    "commas": ("float32", lambda: b"[" + b"," * (MAX_JSON_BYTES - 1)),
    "quotes": ("float32", lambda: b'"' * MAX_JSON_BYTES),
    "spaces": ("float32", lambda: b" " * MAX_JSON_BYTES),
    "inputs": (
        "float32",
        lambda: numbered('{"name":"%d","shape":[0],"datatype":"BOOL","data":[]}', 340_000, b'{"inputs":[', b"]}"),
    ),
    "inputs of one name": (
        "float32",
        lambda: filled(b'{"name":"x","shape":[0],"datatype":"FP32","data":[]}', 340_000, b'{"inputs":[', b"]}"),
    ),
    "outputs": (
        "float32",
        lambda: numbered(
            '{"name":"%d"}',
            1_000_000,
            b'{"inputs":[{"name":"x","shape":[0],"datatype":"FP32","data":[]}],"outputs":[',
            b"]}",
        ),
    ),
    "a long shape": (
        "float32",
        lambda: filled(
            b"1", MAX_OBJECT_VALUES - 20, b'{"inputs":[{"name":"x","datatype":"FP32","data":[],"shape":[', b"]}]}"
        ),
    ),
    "many parameters": (
        "float32",
        lambda: numbered(
            '"%d":1',
            MAX_OBJECT_VALUES - 20,
            b'{"inputs":[{"name":"x","datatype":"FP32","data":[],"shape":[0],"parameters":{',
            b"}}]}",
        ),
    ),
    "a list for a datatype": (
        "float32",
        lambda: filled(
            b"[]", MAX_CONTAINERS - 20, b'{"inputs":[{"name":"x","data":[],"shape":[0],"datatype":[', b"]}]}"
        ),
    ),
    "a text for a shape": (
        "float32",
        lambda: (
            b'{"inputs":[{"name":"x","datatype":"FP32","data":[["a"]],"shape":"'
            + b"a" * (MAX_JSON_BYTES - 80)
            + b'"}]}'
        ),
    ),
    "a long datatype": (
        "float32",
        lambda: (
            b'{"inputs":[{"name":"x","data":[],"shape":[0],"datatype":"' + b"\x7f" * (MAX_JSON_BYTES - 80) + b'"}]}'
        ),
    ),
}


def status(name: str) -> dict[str, int]:
    """A size of this process in kilobytes, as the system reports it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Vm")}[name]


def measure(shape: str) -> dict[str, Any]:
    """Decodes a request; returns its outcome, and the additional MiB and seconds of processor time that it took."""
    specs, make = SHAPES[shape]
    text = make()
    size = len(text)
    part = Part(bytearray(igzip.compress(text)), "application/json")
    request = Request({"body": part}, {"Content-Encoding": "gzip"})
    del text
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before, begun = status("VmRSS"), time.process_time()
    try:
        array = decode_request(request, SPECS[specs], 1).inputs["x"]
        outcome = f"{array.dtype} {list(array.shape)}"
    except RequestError as error:
        outcome = f"{error.status} {error.message[:200]}"
    return {
        "shape": shape,
        "bytes": size,
        "mib": (status("VmHWM") - before) >> 10,
        "seconds": round(time.process_time() - begun, 2),
        "outcome": outcome,
    }


def main(shapes: list[str]) -> bool:
    """Measures shapes, prints a line of JSON for each, and returns whether all stay within the bounds."""
    limit = 8 << 30  # of the machine, not of the request
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    kept = True
    for shape in shapes:
        measured = measure(shape)
        kept &= measured["mib"] <= MOST_MIB and measured["seconds"] <= MOST_SECONDS
        print(json.dumps(measured), flush=True)
    return kept


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:] or list(SHAPES)) else "over the bounds")
