"""Sound requests with something changed: a member of their JSON, or some bytes."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

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
ODD_BYTES = [
    *(struct.pack("<I", number) for number in (2**31 - 1, 2**31, 2**32 - 1)),
    *(b"[", b"{", b'"', b"\\u", b"\xed\xa0\x80", b"\r\n", b"1e999", b","),
]


def changed_json(body: bytes, generator: random.Random) -> bytes:
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


def changed_bytes(body: bytes, generator: random.Random) -> bytes:
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
