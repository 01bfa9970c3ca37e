"""Compares decoding a request, and encoding a response, with a handler of a few lines: json.loads, numpy.load.

The ratio is that handler's time divided by ours, so more is better; one thread. Times are in µs or ms, the rate is GB/s
of the encoded bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy
import torch
from PIL import Image

from archive.process.command import run
from benchmarks.common.comparison import Call, Comparison
from benchmarks.common.graph import EDGES, FEATURES, NODES
from benchmarks.common.payloads import Payload, npy, npz, oip_binary, oip_json, plain_json
from benchmarks.common.suite import run_comparisons
from handlers.codecs.decode import decode_request
from handlers.codecs.encode import encode_outputs
from handlers.codecs.negotiation import ResponseFormat
from handlers.codecs.npy import NPZ_TYPE
from handlers.codecs.oip import InferRequest
from handlers.codecs.request import Part, Request
from handlers.signature import TensorSpec

FLOAT, INTEGER = numpy.dtype("float32"), numpy.dtype("int64")
MATRIX, VECTOR = TensorSpec("x", FLOAT, (-1, -1)), TensorSpec("x", FLOAT, (-1,))
EDGE_LIST = TensorSpec("edges", INTEGER, (2, -1))

one_codec = partial(Comparison, threads=(1,), work_unit="byte", tolerance=1e-6)


def _decode(payload: Payload, *specs: TensorSpec) -> Callable[[], dict[str, numpy.ndarray]]:
    headers = dict(payload.headers) | {"Host": "localhost", "Accept": "*/*", "User-Agent": "curl"}
    del headers["Content-Type"]
    request = {"body": Part(bytearray(payload.body))}
    return lambda: dict(decode_request(Request(request, headers), specs, 10_000_000).inputs)


def _json(case: str, document: Mapping[str, object], *specs: TensorSpec) -> Comparison:
    payload = Payload(json.dumps(document).encode(), {"Content-Type": ""})

    def standard_library() -> dict[str, torch.Tensor]:
        return {key: torch.tensor(value) for key, value in json.loads(payload.body).items()}

    return one_codec(
        subject="decode JSON",
        baseline="json.loads + torch.tensor",
        case=case,
        ours=_decode(payload, *specs),
        forms={"json": standard_library},
        work=len(payload.body),
    )


def json_requests(*, quick: bool) -> Iterator[Comparison]:
    """Compares decoding JSON, of a citation graph above all: its features are 173,312 numbers."""
    generator = numpy.random.default_rng(0)
    doubles = generator.random((NODES, FEATURES))
    yield _json("3 numbers", {"x": [1.5, 2, 3]}, VECTOR)
    yield _json("[2708, 64], all digits of a double", {"x": doubles.tolist()}, MATRIX)
    if quick:
        return
    short = json.loads(plain_json({"x": doubles.astype(FLOAT)}).body)
    yield _json("[2708, 64], digits of a float32", short, MATRIX)
    yield _json("[173312]", {"x": doubles.ravel().tolist()}, VECTOR)
    yield _json("[86656, 2]", {"x": doubles.reshape(-1, 2).tolist()}, MATRIX)
    edges = generator.integers(0, NODES, (2, EDGES)).tolist()
    yield _json("features and edges", {"x": doubles.tolist(), "edges": edges}, MATRIX, EDGE_LIST)
    yield _json("pixels [480, 640]", {"x": generator.integers(0, 256, (480, 640)).tolist()}, MATRIX)


def array_requests(*, quick: bool) -> Iterator[Comparison]:
    """Compares decoding tensors of the Open Inference Protocol, `.npy` and `.npz`."""
    values = numpy.random.default_rng(0).random((NODES, FEATURES), dtype=numpy.float32)
    arrays = {"x": values}
    as_json, binary = oip_json(arrays), oip_binary(arrays, boundary=64)

    def standard_library() -> dict[str, torch.Tensor]:
        (tensor,) = json.loads(as_json.body)["inputs"]
        return {tensor["name"]: torch.tensor(tensor["data"]).reshape(tensor["shape"])}

    def load(body: bytes) -> numpy.ndarray:
        loaded = numpy.load(io.BytesIO(body))
        return loaded if isinstance(loaded, numpy.ndarray) else loaded["x"]

    def compare(name: str, payload: Payload, baseline: str, call: Call) -> Comparison:
        return one_codec(
            subject=f"decode {name}",
            baseline=baseline,
            case="[2708, 64]",
            ours=_decode(payload, MATRIX),
            forms={baseline: call},
            work=len(payload.body),
        )

    yield compare("Open Inference Protocol, JSON", as_json, "json.loads + torch.tensor", standard_library)
    yield compare("Open Inference Protocol, binary", binary, "one copy of the array", values.copy)
    for name, payload in {".npy": npy(values), ".npz": npz(arrays)}.items():
        yield compare(name, payload, "numpy.load", partial(load, payload.body))


def image_requests(*, quick: bool) -> Iterator[Comparison]:
    """Compares decoding a grey photograph with OpenCV."""
    import cv2

    generator = numpy.random.default_rng(0)
    rows, columns = numpy.mgrid[:480, :640]
    pixels = 128 + 60 * numpy.sin(rows / 31) * numpy.cos(columns / 17) + generator.normal(0, 6, (480, 640))
    photograph = Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8))
    spec = TensorSpec("x", numpy.dtype("uint8"), (-1, -1))
    for kind in ("PNG", "JPEG"):
        buffer = io.BytesIO()
        photograph.save(buffer, kind)
        content = buffer.getvalue()
        yield one_codec(
            subject=f"decode {kind}",
            baseline="cv2.imdecode",
            case="grey, 480 x 640",
            ours=_decode(Payload(content, {"Content-Type": ""}), spec),
            forms={"imdecode": partial(cv2.imdecode, numpy.frombuffer(content, numpy.uint8), cv2.IMREAD_GRAYSCALE)},
            # Two decoders of JPEG may round a pixel differently.
            tolerance=1 / 200,
            work=len(content),
        )


def responses(*, quick: bool) -> Iterator[Comparison]:
    """Compares encoding responses."""
    generator = numpy.random.default_rng(0)
    large: dict[str, numpy.ndarray] = {"probabilities": generator.random((NODES, 7), dtype=numpy.float32)}
    small = {"label": numpy.array(7), "probabilities": generator.random(10, dtype=numpy.float32)}

    def compare(name: str, outputs: dict[str, numpy.ndarray], reply: ResponseFormat) -> Comparison:
        def ours() -> bytes:
            return bytes(encode_outputs(outputs, reply, model_name="m").body)

        def standard_library() -> bytes:
            return json.dumps({key: value.tolist() for key, value in outputs.items()}, indent=2).encode()

        is_npz = reply.content_type == NPZ_TYPE
        return one_codec(
            subject=f"encode {name}",
            baseline="numpy.savez" if is_npz else "json.dumps(indent=2)",
            case=f"{sum(value.size for value in outputs.values()):,} numbers",
            ours=ours,
            forms={"savez": lambda: npz(outputs).body} if is_npz else {"dumps": standard_library},
            tolerance=None,  # tests/handlers/codecs/test_encode.py reads responses back
            work=len(ours()),
        )

    yield compare("JSON", small, ResponseFormat())
    yield compare("JSON", large, ResponseFormat())
    yield compare("Open Inference Protocol, JSON", large, ResponseFormat(infer_request=InferRequest()))
    yield compare("Open Inference Protocol, binary", large, ResponseFormat(infer_request=InferRequest(binary=True)))
    yield compare(".npz", large, ResponseFormat(NPZ_TYPE))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    groups = {"json": json_requests, "arrays": array_requests, "images": image_requests, "responses": responses}
    return run_comparisons("codec", __doc__, "Codecs", groups, arguments)


if __name__ == "__main__":
    run(main)
