"""Attacks on what requests share within a batch."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.attack.campaign import Attack
from tests.attack.payloads import json_request
from tests.attack.target import POISON
from tests.attack.wire import Request, Response, exactly


def failed(response: Response) -> str | None:
    """Accepts a 500 in JSON: the model itself failed."""
    sound = response.status == 500 and response.json()["error"]["code"] == 500
    return None if sound else f"status {response.status}: {response.body[:200]!r}"


def in_place(generator: random.Random) -> Iterator[Request]:
    """Failures of a model that has written into its inputs, in batches with sound requests of the same shape."""
    for _ in range(200):
        values = [float(generator.randrange(600)) for _ in range(4)]
        changed = list(values)
        changed[generator.randrange(4)] = POISON
        yield json_request("in_place", {"x": changed}, expect=failed)
        if generator.random() < 0.5:
            yield json_request("in_place", {"x": values}, expect=exactly({"y": [2 * v + 1 for v in values]}))


ATTACKS = [
    Attack(
        "in-place-model",
        "a neighbour's failure in a model that writes into its inputs",
        ("in_place",),
        in_place,
        model_fails=True,
    )
]
