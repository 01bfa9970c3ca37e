"""Attacks on what requests share within a batch."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.attack.campaign import Attack
from tests.attack.payloads import json_shot
from tests.attack.target import POISON
from tests.attack.wire import Reply, Shot, exactly


def failed(reply: Reply) -> str | None:
    """The model itself failed: a 500 for the one who asked, in JSON."""
    sound = reply.status == 500 and reply.json()["error"]["code"] == 500
    return None if sound else f"status {reply.status}: {reply.body[:200]!r}"


def in_place(generator: random.Random) -> Iterator[Shot]:
    """Failures of a model that has written into its inputs, in one batch with sound requests of the same shape."""
    for _ in range(200):
        values = [float(generator.randrange(600)) for _ in range(4)]
        spoilt = list(values)
        spoilt[generator.randrange(4)] = POISON
        yield json_shot("in_place", {"x": spoilt}, expect=failed)
        if generator.random() < 0.5:
            yield json_shot("in_place", {"x": values}, expect=exactly({"y": [2 * v + 1 for v in values]}))


ATTACKS = [
    Attack(
        "in-place-model",
        "a neighbour's failure in a model that writes into its inputs",
        ("in_place",),
        in_place,
        model_fails=True,
    )
]
