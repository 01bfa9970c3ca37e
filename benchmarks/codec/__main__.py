"""Measures the codecs: `python -m benchmarks.codec [PATTERN]`.

Each line is one request decoded to the arrays a model gets, or one answer encoded, against what a handler of a few
lines would do: `json.loads` and `torch.tensor`, `numpy.load`, `json.dumps`. Both sides are measured in turns, in
processor time of one thread, and the best turn of each counts: on a shared machine the rest is somebody else's. They
are compared before, since a contest between different results says nothing.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy
import orjson
import torch
from PIL import Image

from handlers.codecs.decode import decode_request
from handlers.codecs.encode import encode_outputs
from handlers.codecs.negotiation import ResponseFormat
from handlers.codecs.npy import NPZ_TYPE
from handlers.codecs.oip import JSON_LENGTH_HEADER, InferRequest
from handlers.codecs.request import Part, Request
from handlers.signature import TensorSpec

TURN_SECONDS = 0.06
TURNS = 15

FLOAT, INTEGER = numpy.dtype("float32"), numpy.dtype("int64")
# A citation graph: 2,708 nodes of 64 features, 10,556 edges; the features are 173,312 numbers.
NODES, FEATURES, EDGES = 2708, 64, 10556


class Contest(NamedTuple):
    """One line: what is measured, its bytes, ours, theirs, and what theirs is."""

    name: str
    size: int
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    against: str


def contests() -> Iterator[Contest]:
    """All measurements, small ones last."""
    generator = numpy.random.default_rng(0)
    doubles = generator.random((NODES, FEATURES))
    features = doubles.astype(FLOAT)
    edges = generator.integers(0, NODES, (2, EDGES))
    x = TensorSpec("x", FLOAT, (-1, -1))
    flat = TensorSpec("x", FLOAT, (-1,))
    edge_spec = TensorSpec("edges", INTEGER, (2, -1))

    yield _json("JSON [2708, 64], all digits of a double", {"x": doubles.tolist()}, x)
    yield _json("JSON [2708, 64], digits of a float32", orjson.loads(_dumps({"x": features})), x)
    yield _json("JSON [173312]", {"x": doubles.ravel().tolist()}, flat)
    yield _json("JSON [86656, 2]", {"x": doubles.reshape(-1, 2).tolist()}, x)
    yield _json("JSON graph: features and edges", {"x": doubles.tolist(), "edges": edges.tolist()}, x, edge_spec)
    yield _json("JSON pixels [480, 640]", {"x": generator.integers(0, 256, (480, 640)).tolist()}, x)
    yield _oip_json(doubles)
    yield from _binary(features, x)
    yield from _images(generator)
    yield from _answers(generator)
    yield _json("JSON of 3 numbers", {"x": [1.5, 2, 3]}, flat)


def _dumps(document: dict) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _decode(content: bytes, specs: tuple[TensorSpec, ...], **headers: str) -> Callable[[], dict]:
    body = bytearray(content)
    headers |= {"Host": "localhost", "Accept": "*/*", "User-Agent": "curl"}
    return lambda: decode_request(Request({"body": Part(body)}, headers), specs, 10_000_000).inputs


def _json(name: str, document: dict, *specs: TensorSpec) -> Contest:
    content = json.dumps(document).encode()

    def theirs() -> dict:
        return {key: torch.tensor(value) for key, value in json.loads(content).items()}

    return Contest(name, len(content), _decode(content, specs), theirs, "json.loads + torch.tensor")


def _oip_json(values: numpy.ndarray) -> Contest:
    tensor = {"name": "x", "shape": list(values.shape), "datatype": "FP32", "data": values.ravel().tolist()}
    content = json.dumps({"inputs": [tensor]}).encode()

    def theirs() -> dict:
        (found,) = json.loads(content)["inputs"]
        return {found["name"]: torch.tensor(found["data"]).reshape(found["shape"])}

    spec = TensorSpec("x", FLOAT, (-1, -1))
    name = "Open Inference Protocol, JSON, [2708, 64]"
    return Contest(name, len(content), _decode(content, (spec,)), theirs, "json.loads + torch.tensor")


def _binary(values: numpy.ndarray, spec: TensorSpec) -> Iterator[Contest]:
    size = {"binary_data_size": values.nbytes}
    head = json.dumps({"inputs": [{"name": "x", "shape": values.shape, "datatype": "FP32", "parameters": size}]})
    head += " " * (-len(head) % 64)  # so that the data lie on their boundary
    content = head.encode() + values.tobytes()
    ours = _decode(content, (spec,), **{JSON_LENGTH_HEADER: str(len(head))})
    name = "Open Inference Protocol, binary, [2708, 64]"
    yield Contest(name, len(content), ours, lambda: {"x": values.copy()}, "one copy of the array")
    for name, save in ((".npy", _npy), (".npz", _npz)):
        file = save(values)

        def theirs(file: bytes = file) -> dict:
            loaded = numpy.load(io.BytesIO(file))
            return {"x": loaded if isinstance(loaded, numpy.ndarray) else loaded["x"]}

        yield Contest(f"{name}, [2708, 64]", len(file), _decode(file, (spec,)), theirs, "numpy.load")


def _npy(values: numpy.ndarray) -> bytes:
    buffer = io.BytesIO()
    numpy.save(buffer, values)
    return buffer.getvalue()


def _npz(values: numpy.ndarray) -> bytes:
    buffer = io.BytesIO()
    numpy.savez(buffer, x=values)
    return buffer.getvalue()


def _images(generator: numpy.random.Generator) -> Iterator[Contest]:
    try:
        import cv2
    except ImportError:
        return
    rows, columns = numpy.mgrid[:480, :640]
    pixels = 128 + 60 * numpy.sin(rows / 31) * numpy.cos(columns / 17) + generator.normal(0, 6, (480, 640))
    photograph = Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8))
    spec = TensorSpec("x", numpy.dtype("uint8"), (-1, -1))
    for kind in ("PNG", "JPEG"):
        buffer = io.BytesIO()
        photograph.save(buffer, kind)
        content = buffer.getvalue()
        encoded = numpy.frombuffer(content, numpy.uint8)

        def theirs(encoded: numpy.ndarray = encoded) -> dict:
            return {"x": cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)}

        yield Contest(f"{kind}, grey, 480 x 640", len(content), _decode(content, (spec,)), theirs, "cv2.imdecode")


def _answers(generator: numpy.random.Generator) -> Iterator[Contest]:
    outputs = {"probabilities": generator.random((2708, 7), dtype=numpy.float32)}

    def theirs() -> bytes:
        return json.dumps({key: torch.from_numpy(value).tolist() for key, value in outputs.items()}, indent=2).encode()

    def numpys() -> bytes:
        buffer = io.BytesIO()
        numpy.savez(buffer, **outputs)
        return buffer.getvalue()

    replies = {
        "JSON": (ResponseFormat(), theirs, "json.dumps(indent=2)"),
        "Open Inference Protocol, JSON": (ResponseFormat(infer_request=InferRequest()), theirs, "json.dumps(indent=2)"),
        "Open Inference Protocol, binary": (
            ResponseFormat(infer_request=InferRequest(binary=True)),
            theirs,
            "json.dumps(indent=2)",
        ),
        ".npz": (ResponseFormat(NPZ_TYPE), numpys, "numpy.savez"),
    }
    for name, (reply, other, against) in replies.items():

        def ours(reply: ResponseFormat = reply) -> bytes:
            return encode_outputs(outputs, reply, model_name="m").body

        yield Contest(f"answer of 18,956 floats: {name}", len(ours()), ours, other, against)
    small = {"label": numpy.int64(7), "probabilities": generator.random(10, dtype=numpy.float32)}

    def digits() -> bytes:
        return json.dumps({key: value.tolist() for key, value in small.items()}, indent=2).encode()

    name = "answer of 11 numbers: JSON"
    yield Contest(name, len(digits()), lambda: encode_outputs(small).body, digits, "json.dumps(indent=2)")


def _expect_same(contest: Contest) -> None:
    ours, theirs = contest.ours(), contest.theirs()
    if isinstance(ours, bytes):
        return  # an answer: tests/handlers/codecs/test_encode.py reads them back
    atol = 1 if "JPEG" in contest.name else 0  # two decoders may round a pixel differently
    for name, array in ours.items():
        numpy.testing.assert_allclose(array, numpy.asarray(theirs[name]), rtol=1e-6, atol=atol, err_msg=contest.name)


def measure(contest: Contest) -> tuple[float, float]:
    """Seconds of one call of ours and of one of theirs."""
    _expect_same(contest)
    calls = (contest.ours, contest.theirs)
    repeats = [max(1, int(TURN_SECONDS / max(_seconds(call, 1), 1e-7))) for call in calls]
    turns = [[_seconds(call, count) for call, count in zip(calls, repeats, strict=True)] for _ in range(TURNS)]
    ours, theirs = (min(turn[side] for turn in turns) for side in (0, 1))
    return ours, theirs


def _seconds(call: Callable[[], Any], repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - start) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pattern", nargs="?", default="", help="only the lines that match this regular expression")
    pattern = re.compile(parser.parse_args().pattern)
    torch.set_num_threads(1)
    print("| what | bytes | opserve | against | theirs | times as fast |")
    print("| --- | ---: | ---: | --- | ---: | ---: |")
    for contest in contests():
        if pattern.search(contest.name):
            ours, theirs = measure(contest)
            times = f"{ours * 1e3:.3f} ms | {contest.against} | {theirs * 1e3:.3f} ms | {theirs / ours:.1f}"
            print(f"| {contest.name} | {contest.size:,} | {times} |", flush=True)


if __name__ == "__main__":
    main()
