"""Many small requests of every format with something changed."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from typing import Any

import numpy

from tests.attack.campaign import Attack
from tests.attack.payloads import gzipped, npy, npz, oip_call
from tests.attack.target import form, innocents
from tests.attack.wire import JSON, Request, Response, refused_or_answered
from tests.support.hostile_images import photographs

# JSON that replaces values.
ODD_VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    -(2**63) - 1,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "x",
    "\ud800",
    "\u0000",
    [],
    {},
    [[]],
    [[1], [2, 3]],
    [None],
    [True, 1],
    {"": 0},
    "9" * 300,
    [1] * 300,
    [[[[[[1]]]]]],
]
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
ODD_BYTES = [
    *(struct.pack("<I", number) for number in (2**31 - 1, 2**31, 2**32 - 1)),
    *(b"[", b"{", b'"', b"\\u", b"\xed\xa0\x80", b"\r\n", b"1e999", b","),
]
COUNT = 4000


def mutated(generator: random.Random) -> Iterator[Request]:
    """Sound requests with something changed."""
    sound = _sound()
    for _ in range(COUNT):
        request = generator.choice(sound)
        headers, body = dict(request.headers), request.body
        if body[:1] == b"{" and generator.random() < 0.7:
            body = _changed_json(body, generator)
        if generator.random() < 0.5:
            body = _changed_bytes(body, generator)
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


def _changed_json(body: bytes, generator: random.Random) -> bytes:
    """Replaces, removes or renames a member of the document."""
    try:
        document = json.loads(body)
    except ValueError:
        return body
    places: list[tuple[Any, Any]] = []

    def walk(value: Any, depth: int) -> None:
        keys = list(value) if isinstance(value, dict) else range(min(len(value), 4)) if isinstance(value, list) else ()
        for key in keys:
            places.append((value, key))
            if depth < 5:
                walk(value[key], depth + 1)

    walk(document, 0)
    for _ in range(generator.choice([1, 1, 2, 3])):
        if not places:
            break
        owner, key = generator.choice(places)
        action = generator.randrange(4)
        try:
            if action == 0 and isinstance(owner, dict):
                owner[generator.choice(["", "x", "\ud800", "inputs", "CUDA error", "k" * 2000])] = owner.pop(key)
            elif action == 1:
                del owner[key]
            else:
                owner[key] = generator.choice(ODD_VALUES)
        except (KeyError, IndexError):
            continue
    return json.dumps(document).encode()


def _changed_bytes(body: bytes, generator: random.Random) -> bytes:
    changed = bytearray(body)
    for _ in range(generator.choice([1, 1, 2, 5])):
        at = generator.randrange(len(changed) + 1)
        if generator.random() < 0.5:
            at = min(at, generator.randrange(150))
        length = generator.choice([0, 1, 1, 2, 4, 8])
        kinds = [generator.randbytes(length), b"\xff" * length, bytes(length), generator.choice(ODD_BYTES)]
        changed[at : at + length] = generator.choice(kinds)
    if generator.random() < 0.1:
        del changed[generator.randrange(len(changed) + 1) :]
    return bytes(changed)


ATTACKS = [
    Attack(
        "mutations",
        "requests of every format with something changed",
        ("scaled_add", "karate", "whole", "digits", "picture"),
        mutated,
        together=6,
    )
]
