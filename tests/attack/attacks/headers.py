"""Attacks by headers, addresses and words that TorchServe or the worker may mistake for its own."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator

from tests.attack.campaign import Attack
from tests.attack.payloads import (
    GZIP,
    document,
    gzipped,
    json_shot,
    npy_header,
    npz_shot,
    oip_call,
    oip_tensor,
    zip_file,
)
from tests.attack.target import form
from tests.attack.wire import JSON, Reply, Shot, exactly, refused, refused_or_answered, status_in

RIGHT = document({"x": [1, 2], "y": [0.5, 0.25]})
ANSWER = {"z": [2.5, 4.25]}

# What drivers and runtimes say when a GPU is broken or memory has run out.
GPU_WORDS = (
    "CUDA error: an illegal memory access was encountered",
    "CUDA failure 700: an illegal memory access",
    "cudaError",
    "opserve::scaled_add: the GPU reports an unspecified launch failure",
    "CUDA out of memory",
    "OutOfMemoryError",
    "Failed to allocate memory for requested buffer",
    "DefaultCPUAllocator: can't allocate memory",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "device-side assert triggered",
    "opserve::x: y",
    "Load model failed",
    "SIGSEGV",
)


def gpu_words(_: random.Random) -> Iterator[Shot]:
    """The words of a broken GPU, wherever a client may write a text."""
    for word in GPU_WORDS:
        yield from _with_word(word, "scaled_add", {"x": [1], "y": [2]})
        yield json_shot("scaled_add", oip_call(oip_tensor("x", [1], datatype=word)), expect=refused)
        yield json_shot("scaled_add", oip_call(oip_tensor(word, [1])), expect=refused)
        yield json_shot("scaled_add", oip_call(outputs=[{"name": word}]), expect=refused)
        yield json_shot("scaled_add", oip_call(outputs=[{"name": "z"}], id=word))
        region = {"shared_memory_region": word, "shared_memory_byte_size": 8}
        tensor = {"name": "x", "shape": [2], "datatype": "FP32", "parameters": region}
        yield json_shot("scaled_add", oip_call(tensor), expect=refused)


def gpu_words_onnx(_: random.Random) -> Iterator[Shot]:
    """The same to a model that ONNX Runtime runs, whose errors have other words."""
    for word in GPU_WORDS:
        yield from _with_word(word, "karate_onnx", {"rowptr": [0, 0], "col": [], "x": [[0.0] * 34]})


def _with_word(word: str, model: str, sound: dict) -> Iterator[Shot]:
    """Sound inputs of a model, and the word in every other place."""
    yield json_shot(model, sound | {word: 1}, expect=refused)
    yield json_shot(model, sound | {word: "p" * 2000}, expect=refused)
    yield json_shot(model, sound | {"x": word}, expect=refused)
    yield json_shot(model, sound | {"x": [word]}, expect=refused)
    yield json_shot(model, sound, headers={"Accept": word}, expect=refused)
    yield json_shot(model, sound, headers={"Accept": f"text/{word}"}, expect=refused)
    yield json_shot(model, sound, headers={"Content-Encoding": word}, expect=refused)
    yield json_shot(model, sound, headers={"Inference-Header-Content-Length": word}, expect=refused)
    yield json_shot(model, sound, headers={"Content-Type": f"text/{word}"}, expect=refused)
    yield json_shot(model, sound, headers={word.replace(" ", "-").replace(":", ""): "1"})
    parts = {name: (document(value), JSON) for name, value in sound.items()}
    yield form(model, parts | {word: (b"1", JSON)}, expect=refused)
    yield form(model, parts | {"x": (word.encode(), JSON)}, expect=refused)
    yield form(model, parts | {"x": (npy_header(repr(word), "(1,)"), "application/x-npy")}, expect=refused)
    yield npz_shot(model, zip_file([(word.encode() + b".npy", b"", 0, 0)]), expect=refused)
    yield npz_shot(model, zip_file([(word.encode(), b"", 0, 0)]), expect=refused)


def descriptions(_: random.Random) -> Iterator[Shot]:
    """TorchServe's own mark for a description, on requests that hold inputs."""
    for _ in range(60):
        for value in ("True", "true", "1"):
            yield Shot("scaled_add", RIGHT, {"Content-Type": JSON, "describe": value}, exactly(ANSWER))
        yield json_shot("scaled_add", {"x": [1]}, headers={"describe": "True"}, expect=refused)
        yield Shot("scaled_add", b"", {"Content-Type": JSON, "describe": "True"}, status_in(200, 400))
        yield Shot("scaled_add", b"not json", {"Content-Type": JSON, "Describe": "True"}, refused)
        for name in ("explain", "kind", "data_dtype", "ts_stream_next", "ts_request_sequence_id", "requestId"):
            yield Shot("scaled_add", RIGHT, {"Content-Type": JSON, name: "True"}, refused_or_right)


def refused_or_right(reply: Reply) -> str | None:
    """The correct answer, or a refusal; TorchServe has its own statuses for its own marks."""
    return exactly(ANSWER)(reply)


def odd_headers(generator: random.Random) -> Iterator[Shot]:
    """Header values that are long, repeated, foreign or not what they should be."""
    accepts = [
        "*/*;q=0",
        "application/json;q=0.0001",
        "application/json;q=nan",
        "application/json;q=1e400",
        ",".join(["a/b"] * 1500),
        ",".join(f"a/{i};q=0.{i}" for i in range(400)),
        ";" * 6000,
        "application/json" + ";q=1" * 1500,
        "\xe9\xff/\x80",
        "application/json, application/x-npz;q=0.5, */*;q=0.1",
        '()<>@,;:\\"/[]?={}',
    ]
    for accept in accepts:
        yield Shot("scaled_add", RIGHT, {"Content-Type": JSON, "Accept": accept})
    for length in (
        "-1",
        "+5",
        "5_0",
        "1" * 30,
        "1" * 6000,
        "0x10",
        "١٢",
        "2147483648",
        "4294967296",
        "18446744073709551616",
        "",
        " ",
    ):
        yield Shot("scaled_add", RIGHT, {"Content-Type": JSON, "Inference-Header-Content-Length": length})
    for number in (0, 1, len(RIGHT) - 1, len(RIGHT), len(RIGHT) + 1):
        yield Shot("scaled_add", RIGHT, {"Inference-Header-Content-Length": str(number)}, refused)
    raw = zlib.compressobj(wbits=-15)
    bodies = {
        "zlib": zlib.compress(RIGHT),
        "raw": raw.compress(RIGHT) + raw.flush(),
        "gzip": gzipped(RIGHT),
        "plain": RIGHT,
    }
    encodings = (
        "deflate",
        "gzip",
        "x-gzip",
        "GZIP",
        "identity",
        "br",
        "zstd",
        "gzip, gzip",
        "gzip,deflate",
        "compress",
        "x" * 6000,
    )
    for encoding in encodings:
        for body in bodies.values():
            for end in (len(body), len(body) // 2, 1):
                shot = Shot("scaled_add", body[:end], {"Content-Type": JSON, "Content-Encoding": encoding})
                yield shot
    yield Shot("scaled_add", gzipped(RIGHT) + gzipped(RIGHT), GZIP)
    yield Shot("scaled_add", gzipped(gzipped(RIGHT)), GZIP, refused)
    types = (
        "",
        "application/x-npz",
        "image/png",
        "text/plain",
        "multipart/form-data",
        "a" * 6000,
        "application/json; charset=utf-16",
        "application/x-www-form-urlencoded",
        "\xff/\xfe",
    )
    for media_type in types:
        yield Shot("scaled_add", RIGHT, {"Content-Type": media_type}, refused_or_answered_or_plain)
    for _ in range(200):
        name = "".join(
            generator.choice("abcdefghijklmnopqrstuvwxyzABCDEF-_0123456789") for _ in range(generator.randrange(1, 30))
        )
        value = bytes(generator.choice([9, *range(32, 127), *range(160, 256)]) for _ in range(generator.randrange(200)))
        yield Shot("scaled_add", RIGHT, {"Content-Type": JSON, f"X-{name}": value.decode("latin-1")}, exactly(ANSWER))


def refused_or_answered_or_plain(reply: Reply) -> str | None:
    """TorchServe answers a form that it cannot read by itself."""
    return None if reply.status == 400 else refused_or_answered(reply)


PATHS = (
    "/explanations/scaled_add",
    "/explanations/scaled_add/1.0",
    "/predictions/scaled_add/9.9",
    "/predictions/scaled_add/1.0",
    "/predictions/nothing",
    "/predictions/scaled_add%0a",
    "/predictions/..%2f..%2fetc%2fpasswd",
    "/predictions/" + "a" * 3000,
    "/predictions/%00",
    "/predictions/%ff%fe",
    "/predictions//",
    "/v2/models/scaled_add/infer",
    "/v1/models/scaled_add:predict",
    "/invocations",
    "/models",
    "/workflows",
    "/wfpredict/scaled_add",
    "/token",
    "/api-description",
    "/predictions/scaled_add?describe=True",
    "/predictions/scaled_add?x=[1]&y=[2]",
)


def addresses(_: random.Random) -> Iterator[Shot]:
    """Addresses that nobody serves, or that serve something else."""
    for path in PATHS:
        for method in ("POST", "GET", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD", "TRACE"):
            yield Shot("scaled_add", RIGHT, {"Content-Type": JSON}, no_fault, path=path, method=method)
    for _ in range(10):
        yield Shot("scaled_add", RIGHT, {"Content-Type": JSON}, status_in(501, 400, 404, 405), path=PATHS[0])


def no_fault(reply: Reply) -> str | None:
    """Anything but a fault of the handler; TorchServe itself answers some of these with a 5xx without a body."""
    if reply.status in (500, 507) or (reply.status == 503 and b"Traceback" in reply.body):
        return f"status {reply.status}: {reply.body[:200]!r}"
    return "no answer" if reply.status == 0 and reply.body == b"timed out" else None


ATTACKS = [
    Attack("gpu-words", "the words of a broken GPU in a request", ("scaled_add",), gpu_words),
    Attack("gpu-words-onnx", "the same to ONNX Runtime", ("karate_onnx",), gpu_words_onnx),
    Attack("describe-header", "TorchServe's marks as a client's headers", ("scaled_add",), descriptions),
    Attack("odd-headers", "headers that are long, repeated or foreign", ("scaled_add",), odd_headers),
    Attack("addresses", "addresses and methods that nobody serves", ("scaled_add",), addresses),
]
