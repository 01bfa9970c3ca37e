"""There is one tree of errors, whose messages are bounded and printable, and which keep nothing alive."""

import gc
import json
import re
import weakref

import numpy
import pytest

from archive.building.output import BuildError
from archive.errors import ArchiveError, OpserveError
from archive.repository import ROOT
from handlers.codecs.encode import encode_error
from handlers.codecs.negotiation import ResponseFormat
from handlers.errors import (
    MAX_FIELD,
    MAX_MESSAGE,
    DeviceError,
    ModelError,
    OutOfMemoryError,
    RequestError,
    as_request_error,
    error_lines,
    printable,
    release_frames,
)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("'größe' is 日本 😀", "'größe' is 日本 😀"),
        ("a\ud800b", r"a\ud800b"),
        ("a\nb\r\u2028\x85\x1b[31m\x00\u202e", r"a\nb\r\u2028\x85\x1b[31m\x00\u202e"),
        (5, "5"),
        (None, "None"),
        (Unspeakable(), "Unspeakable"),
    ],
)
def test_a_message_is_printable(value, expected):
    error = RequestError(value, field=value)
    assert error.message == str(error) == expected
    assert json.loads(encode_error(error).body)["error"]["message"] == expected


@pytest.mark.parametrize("char", ["k", "\ud800", "\n", "😀"])
@pytest.mark.parametrize("length", [MAX_MESSAGE - 1, MAX_MESSAGE, MAX_MESSAGE + 1, 1 << 16, 1 << 22])
def test_a_message_is_bounded_and_keeps_its_ends(char, length):
    error = RequestError(f"BEGIN {char * length} END", field=char * length)
    assert len(error.message) <= MAX_MESSAGE and len(encode_error(error).body) < 5 * MAX_MESSAGE
    assert error.message.startswith("BEGIN ") and error.message.endswith(" END")
    assert error.field is None
    assert len(RequestError("x", field=char * MAX_FIELD).field) <= MAX_FIELD


@pytest.mark.parametrize("status", [200, 0, -1, 99, 600, 1 << 40, "400", None, 404.5, True])
def test_a_status_is_that_of_an_error(status):
    assert RequestError("x", status=status).status == 500


@pytest.mark.parametrize("spoiled", [{"message": {1, 2}}, {"message": "\ud800"}, {"field": object()}, {"status": "x"}])
def test_an_error_that_was_changed_afterwards_is_still_a_response(spoiled):
    error = RequestError("x")
    for name, value in spoiled.items():
        setattr(error, name, value)
    for reply in (ResponseFormat(), ResponseFormat(text_errors=True), ResponseFormat(grpc_infer=True)):
        json.loads(encode_error(error, reply).body)
    json.loads(encode_error(as_request_error(error, "a step")).body)


class Odd(RequestError):
    def __init__(self):
        pass

    @property
    def message(self):
        raise SystemError

    @message.setter
    def message(self, value):
        pass


@pytest.mark.parametrize(
    "error", [Unspeakable(), Odd(), SystemExit(3), RecursionError(), GeneratorExit(), MemoryError()]
)
def test_every_exception_becomes_a_response(error):
    assert as_request_error(error, "a step").status >= 500
    assert error_lines(error)


def test_an_interrupt_is_for_the_process():
    with pytest.raises(KeyboardInterrupt):
        as_request_error(KeyboardInterrupt(), "a step")


def test_a_released_exception_holds_no_frame():
    def fail():
        held = numpy.zeros(9)
        watch.append(weakref.ref(held))
        try:
            raise KeyError("cause")
        except KeyError as cause:
            kept = cause  # noqa: F841  a cycle: the frame holds the exception, whose traceback holds the frame
            raise ValueError("x") from cause

    watch: list[weakref.ref] = []
    gc.disable()
    try:
        try:
            fail()
        except ValueError as error:
            caught = error
        assert watch[0]() is not None
        release_frames(caught)
        assert watch[0]() is None and caught.__traceback__ is None and caught.__cause__ is None
    finally:
        gc.enable()


def test_printable_takes_time_that_is_linear_in_the_bound_only():
    assert len(printable("\ud800" * (1 << 24), 100)) <= 100


def test_there_is_one_tree_of_errors():
    for error in (RequestError, ModelError, DeviceError, OutOfMemoryError, ArchiveError, BuildError):
        assert issubclass(error, OpserveError)
    assert issubclass(ModelError, RuntimeError), "TorchServe's loader reports that one"


def test_no_clause_only_renames_an_error():
    renames = re.compile(r"except .*(?:Opserve|Archive|Model|Request)Error.* as (\w+):\n +raise \w+\(str\(\1\)\)")
    folders = [ROOT / name for name in ("handlers", "archive", "scripts", "benchmarks")]
    paths = [path for folder in folders for path in folder.rglob("*.py")]
    assert not [path for path in paths if renames.search(path.read_text())]
    assert renames.search("except ModelError as error:\n    raise ArchiveError(str(error)) from error")
