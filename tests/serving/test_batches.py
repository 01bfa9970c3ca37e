"""Batches of eight with one bad request: that one gets its 4xx, the others the same answers to the byte."""

import io
import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import requests
import torch

import opserve_ops  # noqa: F401
from archive.digits.photos import load_split, photograph, random_corners
from archive.packer.contents import ArchiveContents
from archive.packer.pack import pack
from handlers.codecs.npy import NPZ_TYPE
from handlers.config import ModelConfig
from handlers.sample import difference
from tests.serving.test_models import karate_subgraph
from tests.support.torchserve import TIMEOUT_S, TorchServe

pytestmark = pytest.mark.server

SIZE = 8
# Long enough to send eight requests one after the other; a full batch does not wait until its end.
DELAY_MS = 2000
BATCHING = {"digits": "stack", "karate": "graph", "scaled_add": "none"}

Request = dict[str, Any]


def pack_batched(name: str, folder: Path, runtime: str) -> Path:
    """Packs one of the shipped models as `NAME_batched`, which gets batches of eight, for one of the workers."""
    contents = ArchiveContents.from_model(name)
    document = contents.document | {"batchSize": SIZE, "maxBatchDelay": DELAY_MS}
    document["opserve"] = document["opserve"] | {"batching": BATCHING[name]}
    changed = replace(contents, name=f"{name}_batched", document=document, config=ModelConfig.parse(document))
    return pack(changed, folder, runtime=runtime)[0]


@pytest.fixture(scope="module")
def server(serve, runtime, tmp_path_factory) -> TorchServe:
    folder = tmp_path_factory.mktemp("batched")
    return serve([pack_batched(name, folder, runtime) for name in BATCHING])


def read_counter(server: TorchServe, metric: str, model: str) -> float:
    found = re.findall(rf'^{metric}{{.*model_name="{model}".*}} (\S+)$', server.metrics().text, re.MULTILINE)
    return sum(map(float, found))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def wait_until_taken(server: TorchServe, model: str, number: float) -> None:
    """Waits until the server has taken this many requests."""
    until(lambda: read_counter(server, "ts_inference_requests_total", model) == number)


def together(server: TorchServe, model: str, batch: list[Request]) -> list[requests.Response]:
    """The answers to requests that the server handed over as one batch, in this order."""

    def all_reported() -> bool:
        return read_counter(server, "opserve_requests_total", model) == read_counter(
            server, "ts_inference_requests_total", model
        )

    for _ in range(5):
        until(all_reported)
        batches = read_counter(server, "opserve_batches_total", model)
        taken = read_counter(server, "ts_inference_requests_total", model)
        with ThreadPoolExecutor(len(batch)) as pool:
            sent = []
            for number, request in enumerate(batch, start=1):
                sent.append(pool.submit(server.predict, model, **request))
                wait_until_taken(server, model, taken + number)
            answers = [each.result() for each in sent]
        until(all_reported)
        if read_counter(server, "opserve_batches_total", model) == batches + 1:
            return answers
    raise AssertionError("the machine is too busy to send eight requests within a batch's delay")


def as_json(document: Any, **headers: str) -> Request:
    return {"data": json.dumps(document), "headers": {"Content-Type": "application/json"} | headers}


def as_body(content: bytes, media_type: str) -> Request:
    return {"data": content, "headers": {"Content-Type": media_type}}


def good_digits() -> list[Request]:
    """Photographs, of two sizes."""
    generator = torch.Generator().manual_seed(5)
    ink, made = load_split()[1].ink, []
    for index, (height, width) in enumerate([(48, 64), (40, 40)] * 4):
        corners = random_corners(1, height, width, generator)
        image = photograph(ink[index : index + 1], corners, height, width, generator)
        made.append(as_json({"image": image[0].round().int().tolist(), "corners": corners[0].tolist()}))
    return made[: SIZE - 1]


def good_karate() -> list[Request]:
    return [as_json(karate_subgraph(list(range(size)))) for size in (34, 1, 5, 20, 2, 12, 33)]


def good_scaled_add() -> list[Request]:
    generator = numpy.random.default_rng(3)
    return [as_json({name: generator.normal(size=size).tolist() for name in "xy"}) for size in (3, 1, 0, 3, 7, 2, 3)]


BAD_ANYWHERE = {
    "not JSON": (as_body(b'{"x": [1', "application/json"), 400),
    "an empty body": (as_body(b"", "application/json"), 400),
    "not an object": (as_json([1, 2]), 400),
    "an unknown input": (as_json({"nothing": [1]}), 400),
    "an unknown media type": (as_body(b"<x>1</x>", "text/xml"), 415),
    "not a zip file": (as_body(b"PK\x03\x04 no more", NPZ_TYPE), 400),
    "words of a broken GPU in invalid text": (as_body(rb'{"CUDA error \ud800": [1]}', "application/json"), 400),
}
CORNERS = [[0, 0], [9, 0], [9, 9], [0, 9]]
IMAGE = [[9] * 10] * 10
GRAPH = {"rowptr": [0, 1, 2], "col": [1, 0], "x": [[0.0] * 34] * 2}
BAD = {
    "digits": {
        "three corners on a line": (as_json({"image": IMAGE, "corners": [[0, 0], [1, 1], [2, 2], [0, 2]]}), 400),
        "text in a picture": (as_json({"image": [["a"]], "corners": CORNERS}), 400),
        "an unavailable response format": (as_json({"image": IMAGE, "corners": CORNERS}, Accept="text/html"), 406),
    },
    "karate": {
        "a column that is not a node": (as_json(GRAPH | {"col": [1, 2]}), 400),
        "decreasing row pointers": (as_json(GRAPH | {"rowptr": [0, 3, 2]}), 400),
        "features of another width": (as_json(GRAPH | {"x": [[0.0] * 33] * 2}), 400),
    },
    "scaled_add": {
        "shapes that only the operator compares": (as_json({"x": [1, 2, 3], "y": [1, 2]}), 400),
        "a missing input": (as_json({"x": [1]}), 400),
        "a null instead of a number": (as_json({"x": [1], "y": [None]}), 400),
    },
}


@pytest.mark.parametrize("name", BATCHING)
def test_one_bad_request_costs_only_its_sender(server, shipped, name):
    batched = f"{name}_batched"
    good = {"digits": good_digits, "karate": good_karate, "scaled_add": good_scaled_add}[name]()
    alone = [shipped.predict(name, **request) for request in good]
    assert {each.status_code for each in alone} == {200}, [each.text for each in alone]
    without = together(server, batched, good)
    for got, want in zip(without, alone, strict=True):
        assert difference(got.json(), want.json(), 1e-5) is None
    for position, (what, (bad, status)) in enumerate((BAD_ANYWHERE | BAD[name]).items()):
        at = position % SIZE
        answers = together(server, batched, [*good[:at], bad, *good[at:]])
        refused = answers.pop(at)
        assert (refused.status_code, refused.headers["Content-Type"]) == (status, "application/json"), what
        assert refused.json()["error"]["code"] == status
        assert [each.status_code for each in answers] == [200] * (SIZE - 1), what
        assert [each.content for each in answers] == [each.content for each in without], what


def test_the_batch_is_one_call_if_the_shapes_allow_it(server):
    before = read_counter(server, "opserve_model_calls_total", "karate_batched")
    together(server, "karate_batched", [*good_karate(), good_karate()[0]])
    assert read_counter(server, "opserve_model_calls_total", "karate_batched") == before + 1


def test_answers_of_one_batch_may_have_several_formats(server):
    good = good_scaled_add()
    kinds = [as_json({"x": [1], "y": [2]}, Accept=NPZ_TYPE), *good]
    answers = together(server, "scaled_add_batched", kinds)
    with numpy.load(io.BytesIO(answers[0].content)) as arrays:
        assert arrays["z"].tolist() == [4]
    assert {each.headers["Content-Type"] for each in answers[1:]} == {"application/json"}


def test_requests_marked_as_descriptions_change_no_answer(server):
    plain = [as_json({"x": [number], "y": [1]}) for number in range(SIZE)]
    marked = [each | {"headers": each["headers"] | {"describe": "True", "Explain": "True"}} for each in plain[::2]]
    mixed = [each for pair in zip(marked, plain[1::2], strict=True) for each in pair]
    answers = together(server, "scaled_add_batched", mixed)
    assert [each.json() for each in answers] == [{"z": [2 * number + 1]} for number in range(SIZE)]
