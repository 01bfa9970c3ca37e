"""Many small requests of every format with something changed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import numpy

from tests.attack.campaign import Attack
from tests.attack.payloads import gzipped, npy, npz, oip_call
from tests.attack.target import form, innocents
from tests.attack.wire import JSON, Request, Response, refused_or_answered
from tests.support.hostile_images import photographs
from tests.support.mutations import changed_bytes, changed_json

ODD_HEADERS = {
    "Accept": [
        "",
        "*/*",
        "application/json",
        "application/x-npz",
        "application/vnd.oip+json",
        "text/html",
        "image/*",
        "application/*;q=0",
        ",,,",
        "\xff",
    ],
    "Content-Encoding": ["", "gzip", "identity", "deflate", "br", "gzip,gzip", "\xff"],
    "Inference-Header-Content-Length": ["0", "1", "10", "100", "-1", "x", "99999999999999999999"],
    "Content-Type": [
        "",
        JSON,
        "application/octet-stream",
        "application/x-npy",
        "application/x-npz",
        "image/png",
        "image/jpeg",
        "text/plain",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
    ],
    "describe": ["True", "true", "False"],
    "explain": ["True"],
    "Expect": ["200-ok"],
    "X-Request-Id": ["\xff\xfe", "a" * 4000],
}
COUNT = 4000


def mutated(generator: random.Random) -> Iterator[Request]:
    """Sound requests with something changed."""
    sound = _sound()
    for _ in range(COUNT):
        request = generator.choice(sound)
        headers, body = dict(request.headers), request.body
        if body[:1] == b"{" and generator.random() < 0.7:
            body = changed_json(body, generator)
        if generator.random() < 0.5:
            body = changed_bytes(body, generator)
        if generator.random() < 0.15:
            body, headers["Content-Encoding"] = gzipped(body), "gzip"
        while generator.random() < 0.35:
            name = generator.choice(list(ODD_HEADERS))
            headers[name] = generator.choice(ODD_HEADERS[name])
        expect = tolerant_of_forms if headers.get("Content-Type", "").startswith("multipart") else tolerant
        yield Request(request.model, body, headers, expect, note="a changed request")


def tolerant(response: Response) -> str | None:
    """Accepts what any request may receive, and TorchServe's own response to an unknown `Expect`."""
    return None if response.status == 417 and not response.body else refused_or_answered(response)


def tolerant_of_forms(response: Response) -> str | None:
    """Accepts the same, and TorchServe's own 500 to a form that it cannot parse."""
    torchserves = (response.status == 500 and b"io.netty" in response.body) or b"IndexOutOfBounds" in response.body
    return None if torchserves else tolerant(response)


def _sound() -> list[Request]:
    numbers = numpy.random.default_rng(7)
    vectors = {name: numbers.normal(size=5).astype(numpy.float32) for name in "xy"}
    found = [
        request for model in ("scaled_add", "karate", "whole", "digits", "picture") for request in innocents(model)
    ]
    found = [request for request in found if len(request.body) < 60_000]
    for arrays in (vectors, {name: array.astype(numpy.float16) for name, array in vectors.items()}):
        for compressed in (True, False):
            found.append(
                Request("scaled_add", npz(arrays, compressed=compressed), {"Content-Type": "application/x-npz"})
            )
    found.append(form("scaled_add", {name: (npy(array), "application/x-npy") for name, array in vectors.items()}))
    found.append(
        form("scaled_add", {name: (npz({"a": array}), "application/x-npz") for name, array in vectors.items()})
    )
    found.append(
        form("scaled_add", {name: (json.dumps(array.tolist()).encode(), JSON) for name, array in vectors.items()})
    )
    found.append(Request("whole", npy(numpy.arange(9)), {"Content-Type": "application/x-npy"}))
    found += [Request("picture", content, {"Content-Type": "image/png"}) for content in photographs()]
    padded = oip_call() | {"parameters": {"pad": "p" * 1500}}
    found.append(Request("scaled_add", json.dumps(padded).encode(), {"Content-Type": JSON}))
    tensors = [
        {"name": name, "shape": [5], "datatype": "FP32", "parameters": {"binary_data_size": 20}} for name in vectors
    ]
    head = json.dumps({"inputs": tensors, "outputs": [{"name": "z", "parameters": {"binary_data": True}}]}).encode()
    body = head + b"".join(array.tobytes() for array in vectors.values())
    found += [Request("scaled_add", body, {"Inference-Header-Content-Length": str(len(head))})] * 3
    return found


ATTACKS = [
    Attack(
        "mutations",
        "requests of every format with something changed",
        ("scaled_add", "karate", "whole", "digits", "picture"),
        mutated,
        together=6,
    )
]
