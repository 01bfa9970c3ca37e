"""JSON with arrays is the same text whether written at once or in pieces, and never longer than allowed."""

import json
import subprocess
import sys
import textwrap

import numpy
import orjson
import pytest

from archive.repository import ROOT
from handlers.codecs import json_output
from handlers.codecs.json_output import ResponseTooLarge, preserialize, write_json

ARRAYS = {
    "flat": numpy.arange(1000, dtype=numpy.float32) / 3,
    "deep": numpy.arange(24.0).reshape(1, 2, 3, 4, 1),
    "wide": numpy.arange(3000).reshape(3, 1000),
    "empty": numpy.zeros((0, 5)),
    "empty lists": numpy.zeros((70, 0, 9)),
    "column": numpy.arange(600.0).reshape(300, 2)[:, 0],
    "half": numpy.ones(300, numpy.float16),
    "flags": numpy.arange(300) % 2 == 0,
    "odd numbers": numpy.array([numpy.nan, numpy.inf, -numpy.inf, 1e-310, -1.7976931348623157e308] * 50),
    "number": numpy.array(3.5),
    "texts": numpy.array(["a", "ü"]),
}
DOCUMENT = ARRAYS | {"label": 7, "list": [1, [2, None]], 'quote"d': "text"}


@pytest.mark.parametrize("at_once", [1, 7, 300, 1 << 18])
@pytest.mark.parametrize("name", ARRAYS)
def test_pieces_make_the_same_text(monkeypatch, name, at_once):
    whole = write_json({name: ARRAYS[name]}, 1 << 20)
    monkeypatch.setattr(json_output, "_NUMBERS_AT_ONCE", at_once)
    assert write_json({name: ARRAYS[name]}, len(whole)) == whole
    assert (
        orjson.dumps(preserialize({name: ARRAYS[name]}, len(whole)), json_output._convert, json_output._OPTIONS)
        == whole
    )
    with pytest.raises(ResponseTooLarge):
        write_json({name: ARRAYS[name]}, len(whole) - 1)


def test_a_document_of_everything():
    whole = write_json(DOCUMENT, 1 << 20)
    assert write_json(DOCUMENT, len(whole)) == whole
    assert json.loads(whole)["label"] == 7
    with pytest.raises(ResponseTooLarge):
        write_json(DOCUMENT, len(whole) - 1)


@pytest.mark.parametrize(
    "document", [{1: numpy.zeros(99)}, {"a": {1}, "b": numpy.zeros(99)}, {"\ud800": numpy.zeros(99)}]
)
def test_what_json_cannot_hold(document):
    for bound in (100, 1 << 20):
        with pytest.raises(TypeError):
            write_json(document, bound)


@pytest.mark.parametrize(
    "shape", ["(60_000_000,)", "(1, 60_000_000)", "(60_000_000, 1)", "(300_000_000, 0)", "(1 << 40, 0)"]
)
def test_a_refused_document_is_never_built(shape):
    """60 million zeros take 240 MB as JSON; the process has 100 MB beyond the array and the 20 that are allowed."""
    code = f"""
        import resource, time
        from pathlib import Path
        import numpy
        from handlers.codecs.json_output import ResponseTooLarge, write_json
        array = numpy.zeros({shape}, numpy.uint8)
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + 120_000_000,) * 2)
        try:
            write_json({{"y": array}}, 20_000_000)
        except ResponseTooLarge:
            print("too large")
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert done.stdout == "too large\n", done.stdout + done.stderr
