"""Counting what a model does, and telling what was added."""

import json
import threading
from importlib.resources import files

import pytest
import torch
import yaml
from torch import nn

from archive.repository import ROOT
from handlers import metrics
from handlers.codecs.request import Part
from handlers.errors import ModelError
from handlers.metrics import METRICS, Counts, Reporter
from handlers.model import ServableModel

VECTOR = [{"name": "x", "dtype": "float32", "shape": [-1]}]
OUTPUT = [{"name": "y", "dtype": "float32", "shape": [-1]}]
DECLARED = yaml.safe_load((ROOT / "metrics.yaml").read_text())


class Root(nn.Module):
    """Refuses what is negative, as an operator does."""

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
    # A name of the sender's own making is no label.
    assert counts.rejected == {(400, "x"): 1, (400, ""): 2}
    assert min(counts.decode_s, counts.collate_s, counts.inference_s, counts.encode_s) > 0
    assert ask(model, '{"x": [-1]}') == [400]
    assert (counts.requests, counts.batches, counts.model_calls) == (7, 2, 3)


def test_names_of_inputs_are_no_syntax_of_the_servers_lines():
    counts = Counts()
    counts.reject(400, "a:b,c|d#e")
    assert ("opserve_rejected_requests_total", ("400", "a-b-c-d-e")) in counts.sums()


def test_warming_up_does_not_count(unpacked_archive):
    folder = unpacked_archive(Root(), VECTOR, OUTPUT)
    (folder / "sample" / "request").mkdir(parents=True)
    (folder / "sample" / "request" / "body.json").write_text(json.dumps({"x": [4]}))
    assert ServableModel(folder).counts.sums() == Counts().sums()


def test_what_was_added_is_told_and_nothing_else():
    counts, written, told = Counts(), [], threading.Event()

    def write(name, value, labels):
        written.append((name, value, tuple(labels)))
        if name == "opserve_encode_seconds_total" or labels:
            told.set()

    reporter = Reporter(counts, write, interval_s=0)
    assert told.wait(30)
    # All that has no labels of its own is known of from the start.
    first = {name for name, kind in METRICS.items() if kind.type == "counter" and not kind.labels}
    assert {entry for entry in written if entry[1] == 0 and not entry[2]} == {(name, 0, ()) for name in first}
    told.clear()
    written.clear()
    counts.requests += 3
    counts.reject(400, "x")
    reporter.added()
    assert told.wait(30)
    counts.requests += 2
    counts.reject(413, "")
    told.clear()
    reporter.added()
    assert told.wait(30)
    assert written == [
        ("opserve_requests_total", 3, ()),
        ("opserve_rejected_requests_total", 1, ("400", "x")),
        ("opserve_requests_total", 2, ()),
        ("opserve_rejected_requests_total", 1, ("413", "none")),
    ]


def test_a_model_is_told_of_with_labels_that_a_line_can_hold(model):
    described = model.describe() | {"device": "cuda:0", "op_libraries": {"a,b.so": "f" * 64}}
    (info, told), (library, labels) = metrics.information(described)
    assert (info, told[0], told[3]) == ("opserve_model_info", "model.pt", "cuda-0")
    assert (library, labels) == ("opserve_op_library_info", ("a-b.so", "f" * 64))


def test_the_switch_is_on_off_or_an_error(monkeypatch):
    assert metrics.wanted()
    monkeypatch.setenv("OPSERVE_METRICS", "off")
    assert not metrics.wanted()
    monkeypatch.setenv("OPSERVE_METRICS", "of")
    with pytest.raises(ModelError, match="OPSERVE_METRICS: expected on or off, got 'of'"):
        metrics.wanted()


def test_the_servers_configuration_declares_ours_and_all_of_torchserves_own():
    ours = {
        name: (kind.type, kind.unit, ["model_name", "model_version", *kind.labels]) for name, kind in METRICS.items()
    }
    assert declared(DECLARED, "model_metrics").items() >= ours.items()
    shipped = yaml.safe_load((files("ts") / "configs" / "metrics.yaml").read_text())
    assert declared(DECLARED, "ts_metrics") == declared(shipped, "ts_metrics")
    own = {name: it for name, it in declared(DECLARED, "model_metrics").items() if name not in ours}
    assert own == declared(shipped, "model_metrics")


def declared(document: dict, section: str) -> dict[str, tuple]:
    return {
        each["name"]: (kind, each["unit"], each["dimensions"])
        for kind, listed in document[section].items()
        for each in listed
    }
