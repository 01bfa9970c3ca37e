"""The native worker's answers have the bytes of the Python worker's, in every format and up to the same bound."""

import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest

from handlers.codecs import encode
from handlers.codecs.datatypes import DATATYPE_NAMES
from handlers.codecs.negotiation import JSON_TYPE, OIP_TYPE, ResponseFormat
from handlers.codecs.npy import NPZ_TYPE
from handlers.codecs.oip import InferRequest
from handlers.codecs.request import Response
from handlers.codecs.shared_memory import FOLDER, Region
from handlers.errors import RequestError
from tests.native.decode_tool import PROGRAM, DecodeTool

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="make ext builds opserve_decode where it can")

DTYPES = list(DATATYPE_NAMES)
NAMES = ["y", "p", 'quote"d', "back\\slash", "línea", "\U0001f600", "tab\t", "\x00\x1f\x7f", "a" * 5000, "x:y,z"]
MODELS = [("digits", "1.0"), ("", ""), ('m"\n', "2"), ("modèle", "")]


@pytest.fixture(scope="module")
def tool() -> Iterator[DecodeTool]:
    with DecodeTool() as running:
        yield running


def expected(outputs, response_format, *, model_name="", model_version="", max_bytes=1 << 40) -> Response:
    names = {"model_name": model_name, "model_version": model_version}
    try:
        return encode.encode_outputs(outputs, response_format, **names, max_bytes=max_bytes)
    except RequestError as error:
        return encode.encode_error(error, response_format, **names)


def random_numbers(generator: random.Random, dtype: numpy.dtype, count: int) -> numpy.ndarray:
    """Numbers that are usual, and any bits at all."""
    if dtype.kind == "b":
        return numpy.frombuffer(bytes(generator.getrandbits(1) for _ in range(count)), bool)
    kind = generator.randrange(4)
    if dtype.kind != "f" or kind == 0:
        return numpy.frombuffer(generator.randbytes(count * dtype.itemsize), dtype)
    with numpy.errstate(over="ignore"):
        if kind == 1:
            return numpy.array([generator.randrange(-300, 300) for _ in range(count)], dtype)
        if kind == 2:
            return numpy.array([generator.random() for _ in range(count)], dtype)
        return numpy.array(
            [generator.randrange(1, 1000) * 10.0 ** generator.randrange(-12, 25) for _ in range(count)], dtype
        )


def random_outputs(generator: random.Random) -> dict[str, numpy.ndarray]:
    outputs = {}
    for name in generator.sample(NAMES, generator.choice((0, 1, 1, 1, 2, 3))):
        shape = [generator.choice((0, 1, 2, 3, 7)) for _ in range(generator.randrange(5))]
        if generator.random() < 0.05:
            shape = [generator.randrange(3000)]
        outputs[name] = random_numbers(generator, generator.choice(DTYPES), int(numpy.prod(shape))).reshape(shape)
    return outputs


def random_format(generator: random.Random, outputs: dict[str, numpy.ndarray]) -> ResponseFormat:
    content_type = generator.choice((JSON_TYPE, JSON_TYPE, NPZ_TYPE, OIP_TYPE))
    asked = None
    if generator.random() < 0.6:
        wanted = None
        if generator.random() < 0.5:
            names = generator.sample([*outputs, "other"], generator.randrange(1, len(outputs) + 2))
            wanted = tuple(
                (name, generator.random() < 0.5) for name in names if name != "other" or generator.random() < 0.2
            )
        asked = InferRequest(generator.choice((None, "", "a-7", 'i"d\\')), wanted, generator.random() < 0.5)
    return ResponseFormat(content_type, asked, generator.random() < 0.1, generator.random() < 0.25)


@pytest.mark.parametrize("seed", range(8))
def test_answers_are_the_same(tool, seed):
    generator = random.Random(seed)
    for _ in range(250):
        outputs = random_outputs(generator)
        response_format = random_format(generator, outputs)
        name, version = generator.choice(MODELS)
        names = {"model_name": name, "model_version": version}
        whole = expected(outputs, response_format, **names)
        assert tool.encode(outputs, response_format, **names) == whole
        for bound in (len(whole.body), len(whole.body) - 1, generator.randrange(1, len(whole.body) + 1)):
            bounded = {**names, "max_bytes": max(1, bound)}
            assert tool.encode(outputs, response_format, **bounded) == expected(outputs, response_format, **bounded)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_have_the_digits_of_orjson(tool, dtype):
    generator = random.Random(dtype)
    unsigned = f"u{numpy.dtype(dtype).itemsize}"
    width = 8 * numpy.dtype(dtype).itemsize
    powers = [10.0**exponent for exponent in range(-30, 30)] + [2.0**exponent for exponent in range(-149, 128)]
    with numpy.errstate(over="ignore"):
        near = numpy.array([*powers, *range(2000), 2.0**53 - 1, 2.0**24 - 1], dtype).view(unsigned)
    near = numpy.concatenate([near - 1, near, near + 1])
    anything = numpy.array([generator.getrandbits(width) for _ in range(20_000)], unsigned)
    array = numpy.concatenate([near, near | (1 << width - 1), anything]).view(dtype)
    if dtype == "float16":
        array = numpy.arange(1 << 16, dtype=numpy.uint16).view(dtype)
    for response_format in (ResponseFormat(), ResponseFormat(grpc_infer=True)):
        assert tool.encode({"y": array}, response_format) == expected({"y": array}, response_format)
        finite = {"y": array[numpy.isfinite(array)]}
        assert tool.encode(finite, response_format) == expected(finite, response_format)


def test_every_character_is_written_as_orjson_does(tool):
    for text in ("".join(map(chr, range(0x800))), "\u2028\ud7ff\ue000\uffff\U00010000\U0010ffff" * 1000):
        asked = ResponseFormat(infer_request=InferRequest(text))
        assert tool.encode({}, asked) == expected({}, asked)


@pytest.mark.parametrize("shape", [(1 << 40, 0), (3, 1 << 40, 0), (0, 1 << 40), (1,) * 32, (2,) * 12])
def test_lists_that_are_empty_or_deep(tool, shape):
    outputs = {"y": numpy.zeros(shape, numpy.uint8)}
    for response_format in (ResponseFormat(), ResponseFormat(OIP_TYPE), ResponseFormat(grpc_infer=True)):
        bounded = {"max_bytes": 100_000}
        assert tool.encode(outputs, response_format, **bounded) == expected(outputs, response_format, **bounded)


@pytest.mark.parametrize("text_errors", [False, True])
@pytest.mark.parametrize("asked", [None, InferRequest("a-7")])
@pytest.mark.parametrize("grpc_infer", [False, True])
@pytest.mark.parametrize("field", [None, "x", "línea\n"])
def test_errors_are_the_same(tool, text_errors, asked, grpc_infer, field):
    response_format = ResponseFormat(infer_request=asked, text_errors=text_errors, grpc_infer=grpc_infer)
    for open_inference in (False, True):
        error = RequestError("'x' is \"wrong\": \\ \U0001f600\x07" + "é" * 2000, field=field, status=422)
        error.open_inference = open_inference
        names = {"model_name": "m", "model_version": "1.0"}
        assert tool.encode(error, response_format, **names) == encode.encode_error(error, response_format, **names)


def test_outputs_in_shared_memory(tool):
    key = f"opserve-test-{uuid.uuid4().hex}"
    path = Path(FOLDER, key)
    path.write_bytes(bytes(64))
    try:
        outputs = {"y": numpy.arange(6, dtype=numpy.float32), "z": numpy.array([1.5])}
        for size in (24, 30, 23):
            regions = {"y": Region(key, 8, size)}
            for wanted in ((("y", False), ("z", True)), (("z", False), ("y", False)), (("y", False), ("q", False))):
                response_format = ResponseFormat(infer_request=InferRequest(None, wanted, False, regions))
                answers, contents = [], []
                for answer in (tool.encode, expected):
                    path.write_bytes(bytes(64))
                    answers.append(answer(outputs, response_format))
                    contents.append(path.read_bytes())
                assert answers[0] == answers[1] and contents[0] == contents[1]
    finally:
        path.unlink()
