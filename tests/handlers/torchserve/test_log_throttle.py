"""TorchServe's own lines for every request are throttled."""

import logging
import time

import pytest
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
from ts.protocol import otf_message_handler
from ts.service import PREDICTION_METRIC

from archive.repository import ROOT
from handlers import opserve_handler
from handlers.torchserve import log_throttle
from handlers.torchserve.log_throttle import throttle


@pytest.fixture
def cache() -> MetricsCacheYamlImpl:
    cache = MetricsCacheYamlImpl(str(ROOT / "metrics.yaml"))
    cache.initialize_cache()
    cache.model_name, cache.request_ids = "mine", {0: "id"}
    return cache


@pytest.fixture(autouse=True)
def as_it_was():
    yield
    logging.getLogger().removeFilter(log_throttle._is_not_arrival)


def count_reports(caplog, name: str) -> int:
    return sum(f"[METRICS]{name}." in record.getMessage() for record in caplog.records)


def test_the_lines_are_those_of_this_torchserve():
    assert PREDICTION_METRIC == log_throttle.PREDICTION_TIME
    assert opserve_handler.HANDLER_TIME == log_throttle.HANDLER_TIME
    assert log_throttle.ARRIVAL in otf_message_handler.retrieve_msg.__code__.co_consts


def test_an_arrival_is_not_logged_and_anything_else_is(caplog):
    caplog.set_level(logging.INFO)
    throttle(None, None)
    throttle(None, None)
    assert logging.getLogger().filters.count(log_throttle._is_not_arrival) == 1
    logging.info(log_throttle.ARRIVAL, time.time())
    logging.info("loaded")
    assert [record.getMessage() for record in caplog.records] == ["loaded"]


def test_the_time_of_a_prediction_is_throttled_and_other_metrics_are_not(caplog, cache, monkeypatch):
    caplog.set_level(logging.INFO)
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    throttle(cache, 1.0)
    for _ in range(3):
        cache.add_time(PREDICTION_METRIC, 0.25)
        cache.add_time("MyTime", 1.5, unit="ms")
    assert (count_reports(caplog, PREDICTION_METRIC), count_reports(caplog, "MyTime")) == (1, 3)
    now[0] += 1.0
    cache.add_time(PREDICTION_METRIC, 0.25)
    assert count_reports(caplog, PREDICTION_METRIC) == 2


def test_the_time_of_the_handler_is_throttled_separately(caplog, cache):
    caplog.set_level(logging.INFO)
    throttle(cache, 60.0)
    for _ in range(3):
        cache.add_time(PREDICTION_METRIC, 0.25)
        cache.add_time(log_throttle.HANDLER_TIME, 0.2, None, "ms")
    assert (count_reports(caplog, PREDICTION_METRIC), count_reports(caplog, log_throttle.HANDLER_TIME)) == (1, 1)


def test_without_an_interval_nothing_is_reported(caplog, cache):
    caplog.set_level(logging.INFO)
    throttle(cache, None)
    cache.add_time(PREDICTION_METRIC, 0.25)
    assert count_reports(caplog, PREDICTION_METRIC) == 0
