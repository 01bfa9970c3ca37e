"""What a response depends on: docs/operations.md."""

import random

import orjson
import pytest

from archive.packer.pack import unpack
from archive.repository import BUILD, ROOT
from handlers.codecs.request import Part, Request
from handlers.model import ServableModel
from handlers.sample import difference, read_sample_request

LARGEST_DIFFERENCE = 1e-6


def neighbour(request: Request, generator: random.Random) -> Request:
    """The same request with other numbers."""
    name = "corners" if "corners" in request else "body"
    document = orjson.loads(bytes(request[name].content))
    if name == "corners":
        document = [[value + generator.uniform(-1, 1) for value in corner] for corner in document]
    else:
        document["x"] = [_other(value, generator) for value in document["x"]]
    return Request(dict(request) | {name: Part(bytearray(orjson.dumps(document)), request[name].content_type)})


def _other(value, generator: random.Random):
    return [_other(each, generator) for each in value] if isinstance(value, list) else value + generator.random()


@pytest.mark.parametrize("name", ["digits", "karate", "scaled_add"])
def test_a_response_is_the_same_at_each_call_and_within_a_tolerance_in_a_batch(tmp_path, name):
    folder = unpack(ROOT / "model_store" / f"{name}.mar", tmp_path / "unpacked")
    configuration = folder / "model-config.yaml"
    # The first calls of all, which a worker makes before it is ready.
    configuration.write_text(configuration.read_text().replace("opserve:\n", "opserve:\n  warm_up: false\n"))
    model, generator = ServableModel(folder), random.Random(5)
    request = read_sample_request(BUILD / "models" / name / "sample" / "request")
    (alone,) = {model.answer([request])[0].body for _ in range(10)}
    for size in range(2, 9):
        bodies = set()
        for _ in range(5):
            place = generator.randrange(size)
            batch = [neighbour(request, generator) for _ in range(size)]
            # A copy elsewhere in memory.
            batch[place] = Request({key: Part(bytearray(part.content), part[1]) for key, part in request.items()})
            answers = model.answer(batch)
            assert all(answer.status == 200 for answer in answers)
            bodies.add(answers[place].body)
        for body in bodies:
            assert difference(orjson.loads(body), orjson.loads(alone), LARGEST_DIFFERENCE) is None
