"""A model's metrics are reported to TorchServe with labels that its lines can hold."""

from importlib.resources import files
from types import SimpleNamespace

import pytest
import yaml
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl

from archive.repository import ROOT
from handlers.errors import ModelError
from handlers.metrics import METRICS, Counts
from handlers.torchserve.metrics import MAX_LABEL, make_label, start_reporting

DECLARED = yaml.safe_load((ROOT / "metrics.yaml").read_text())


def test_a_label_has_no_separators_and_no_lines_and_a_bound():
    assert make_label("a:b,c|d#e") == "a-b-c-d-e"
    assert make_label("a\nb") == r"a\nb"
    assert len(make_label("k" * 10_000)) == MAX_LABEL


def test_a_model_is_described_with_labels_that_a_line_can_hold(caplog):
    description = {"artifact": "model.pt", "format": "TorchScript", "runtime": "PyTorch 2", "device": "cuda:0"}
    description["op_libraries"] = {"a,b.so": "f" * 64}
    model = SimpleNamespace(name="m", version="1", counts=Counts(), describe=lambda: description)
    cache = MetricsCacheYamlImpl(str(ROOT / "metrics.yaml"))
    cache.initialize_cache()
    with caplog.at_level("INFO"):
        assert start_reporting(model, cache)
    assert "artifact:model.pt,format:TorchScript,runtime:PyTorch 2,device:cuda-0|" in caplog.text
    assert f"library:a-b.so,sha256:{'f' * 64}|" in caplog.text


def test_the_switch_is_on_off_or_an_error(monkeypatch):
    model = SimpleNamespace(name="m", version="1", counts=Counts())
    monkeypatch.setenv("OPSERVE_METRICS", "off")
    assert start_reporting(model, SimpleNamespace(add_time=print)) is None
    monkeypatch.setenv("OPSERVE_METRICS", "of")
    with pytest.raises(ModelError, match="OPSERVE_METRICS: expected on or off, got 'of'"):
        start_reporting(model, None)


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
