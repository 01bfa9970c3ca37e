"""TorchServe's own lines for every request, and what stays of them."""

import logging
import time

import pytest
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
from ts.protocol import otf_message_handler
from ts.service import PREDICTION_METRIC

from archive.repository import ROOT
from handlers import opserve_handler
from handlers.torchserve import log_throttle as server_lines
from handlers.torchserve.log_throttle import thin_out


@pytest.fixture
def cache() -> MetricsCacheYamlImpl:
    cache = MetricsCacheYamlImpl(str(ROOT / "metrics.yaml"))
    cache.initialize_cache()
    cache.model_name, cache.request_ids = "mine", {0: "id"}
    return cache


@pytest.fixture(autouse=True)
def as_it_was():
    yield
    logging.getLogger().removeFilter(server_lines._is_no_arrival)


def told(caplog, name: str) -> int:
    return sum(f"[METRICS]{name}." in record.getMessage() for record in caplog.records)


def test_the_lines_are_those_of_this_torchserve():
    assert PREDICTION_METRIC == server_lines.PREDICTION_TIME
    assert opserve_handler.HANDLER_TIME == server_lines.HANDLER_TIME
    assert server_lines.ARRIVAL in otf_message_handler.retrieve_msg.__code__.co_consts


def test_an_arrival_is_not_logged_and_anything_else_is(caplog):
    caplog.set_level(logging.INFO)
    thin_out(None, None)
    thin_out(None, None)
    assert logging.getLogger().filters.count(server_lines._is_no_arrival) == 1
    logging.info(server_lines.ARRIVAL, time.time())
    logging.info("loaded")
    assert [record.getMessage() for record in caplog.records] == ["loaded"]


def test_the_time_of_a_prediction_is_told_seldom_and_other_metrics_always(caplog, cache, monkeypatch):
    caplog.set_level(logging.INFO)
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    thin_out(cache, 1.0)
    for _ in range(3):
        cache.add_time(PREDICTION_METRIC, 0.25)
        cache.add_time("MyTime", 1.5, unit="ms")
    assert (told(caplog, PREDICTION_METRIC), told(caplog, "MyTime")) == (1, 3)
    now[0] += 1.0
    cache.add_time(PREDICTION_METRIC, 0.25)
    assert told(caplog, PREDICTION_METRIC) == 2


def test_the_time_of_the_handler_has_its_own_turn(caplog, cache):
    caplog.set_level(logging.INFO)
    thin_out(cache, 60.0)
    for _ in range(3):
        cache.add_time(PREDICTION_METRIC, 0.25)
        cache.add_time(server_lines.HANDLER_TIME, 0.2, None, "ms")
    assert (told(caplog, PREDICTION_METRIC), told(caplog, server_lines.HANDLER_TIME)) == (1, 1)


def test_or_never(caplog, cache):
    caplog.set_level(logging.INFO)
    thin_out(cache, None)
    cache.add_time(PREDICTION_METRIC, 0.25)
    assert told(caplog, PREDICTION_METRIC) == 0
