"""What a model does is counted, and the increments are reported."""

import json
import threading

import pytest
import torch
from torch import nn

from handlers.codecs.request import Part
from handlers.metrics import METRICS, Counts, Reporter
from handlers.model import ServableModel

VECTOR = [{"name": "x", "dtype": "float32", "shape": [-1]}]
OUTPUT = [{"name": "y", "dtype": "float32", "shape": [-1]}]


class Root(nn.Module):
    """Refuses negative numbers, as an operator does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool((x < 0).any()):
            raise RuntimeError("opserve::root: x must not be negative")
        return x.sqrt()


@pytest.fixture
def model(unpacked_archive) -> ServableModel:
    return ServableModel(unpacked_archive(Root(), VECTOR, OUTPUT, batching="stack"))


def ask(model: ServableModel, *bodies: str) -> list[int]:
    return [answer.status for answer in model.answer([{"body": Part(body.encode())} for body in bodies])]


def test_requests_batches_calls_and_rejections_are_counted(model):
    assert ask(model, '{"x": [4]}', '{"x": [9]}', '{"x": [1, 4]}', '{"x": "four"}', '{"q": 1, "x": [1]}', "{") == [
        *[200] * 3,
        *[400] * 3,
    ]
    counts = model.counts
    assert (counts.requests, counts.batches, counts.model_calls) == (6, 1, 2)
    # An invented name does not become a label.
    assert counts.rejected == {(400, "x"): 1, (400, ""): 2}
    assert min(counts.decode_s, counts.collate_s, counts.inference_s, counts.encode_s) > 0
    assert ask(model, '{"x": [-1]}') == [400]
    assert (counts.requests, counts.batches, counts.model_calls) == (7, 2, 3)


def test_warming_up_does_not_count(unpacked_archive):
    folder = unpacked_archive(Root(), VECTOR, OUTPUT)
    (folder / "sample" / "request").mkdir(parents=True)
    (folder / "sample" / "request" / "body.json").write_text(json.dumps({"x": [4]}))
    assert ServableModel(folder).counts.sums() == Counts().sums()


def test_increments_are_reported_and_nothing_else():
    counts, written, reported = Counts(), [], threading.Event()

    def write(name, value, labels):
        written.append((name, value, tuple(labels)))
        if name == "opserve_encode_seconds_total" or labels:
            reported.set()

    reporter = Reporter(counts, write, interval_s=0)
    assert reported.wait(30)
    # Every sum without labels exists from the start.
    first = {name for name, kind in METRICS.items() if kind.type == "counter" and not kind.labels}
    assert {entry for entry in written if entry[1] == 0 and not entry[2]} == {(name, 0, ()) for name in first}
    reported.clear()
    written.clear()
    counts.requests += 3
    counts.reject(400, "x")
    reporter.notify()
    assert reported.wait(30)
    counts.requests += 2
    counts.reject(413, "")
    reported.clear()
    reporter.notify()
    assert reported.wait(30)
    assert written == [
        ("opserve_requests_total", 3, ()),
        ("opserve_rejected_requests_total", 1, ("400", "x")),
        ("opserve_requests_total", 2, ()),
        ("opserve_rejected_requests_total", 1, ("413", "none")),
    ]
