"""The requests of the attacks, and the JSON that takes the most memory or time, for both codecs."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import NamedTuple

from isal import igzip

from handlers.codecs.request import BODY, Part, Request
from tests.attack import wire
from tests.attack.attacks import arrays, headers, mutations, pictures, text
from tests.handlers.codecs.costly_json import SHAPES, SPECS
from tests.native.models import tensor

# With the bounds that a configuration has by default.
MODELS = {
    "scaled_add": [tensor("x", "float32", -1), tensor("y", "float32", -1)],
    "whole": [tensor("n", "int64", -1)],
    "picture": [tensor("picture", "uint8", 3, -1, -1)],
    "digits": [tensor("image", "float32", -1, -1), tensor("corners", "float32", 4, 2)],
    "karate": [
        tensor("rowptr", "int64", -1),
        tensor("col", "int64", -1),
        tensor("value", "float32", -1, optional=True, minimum=0),
        tensor("x", "float32", -1, 34),
    ],
    **{
        f"costly {name}": [tensor(spec.name, str(spec.dtype), *spec.shape) for spec in specs]
        for name, specs in SPECS.items()
    },
}
DOCUMENTS = {
    name: {
        "opserve": {"artifact": "model.pt", "inputs": inputs, "outputs": [tensor("z", "float32", -1)]}
        | ({"batching": "graph"} if name == "karate" else {})
    }
    for name, inputs in MODELS.items()
}
# Whether these take too long depends on the machine.
SLOW = re.compile("blocks of a few bytes|scans of|pixels, RGBA")


class Sent(NamedTuple):
    """A request of an attack, with the attack's name."""

    kind: str
    model: str
    request: Request


def requests(seed: int) -> Iterator[Sent]:
    """All of them, one after the other, since some are large."""
    for attack in (*headers.ATTACKS, *text.ATTACKS, *arrays.ATTACKS, *pictures.ATTACKS, *mutations.ATTACKS):
        for sent in attack.requests(random.Random(seed)) if attack.requests else ():
            request = as_worker_sees(sent)
            if request is not None and sent.model in MODELS and not SLOW.search(sent.note):
                yield Sent(attack.name, sent.model, request)
    for specs, make in SHAPES.values():
        part = Part(bytearray(igzip.compress(make())), "application/json")
        yield Sent("costly-json", f"costly {specs}", Request({BODY: part}, {"Content-Encoding": "gzip"}))


def as_worker_sees(sent: wire.Request) -> Request | None:
    """The request as TorchServe hands it to a worker; `None` if it is a form that this cannot read."""
    content_type = sent.headers.get("Content-Type", "")
    if not content_type.startswith("multipart/form-data"):
        return Request({BODY: Part(bytearray(sent.body), content_type)}, sent.headers)
    boundary = content_type.partition("boundary=")[2].encode()
    pieces = sent.body.split(b"--" + boundary)[1:-1] if boundary else []
    parts = {}
    for piece in pieces:
        head, separator, content = piece.partition(b"\r\n\r\n")
        name = re.search(rb' name="([^"]*)"', head)
        if not separator or not name:
            return None
        kind = re.search(rb"Content-Type: ([^\r]*)", head)
        try:
            parts[name[1].decode()] = Part(bytearray(content.removesuffix(b"\r\n")), kind[1].decode() if kind else "")
        except UnicodeDecodeError:
            return None
    return Request(parts, {name: value for name, value in sent.headers.items() if name != "Content-Type"})
