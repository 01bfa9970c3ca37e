"""Thins out what TorchServe writes in a worker for every request.

It logs that a batch came, and tells how long it took as metrics that are gauges: lines that go through a pipe to
the frontend, which takes them apart. For a small model they cost as much as its answer, and nobody sees more of a gauge
than its last value.
"""

from __future__ import annotations

import logging
import time
from typing import Any

ARRIVAL = "Backend received inference at: %d"
PREDICTION_TIME = "PredictionTime"
# What TorchServe's own handlers tell by themselves.
HANDLER_TIME = "HandlerTime"


def thin_out(cache: Any, interval_s: float | None) -> None:
    """Has a worker's arrivals not logged, and its times for a prediction told seldom.

    Args:
        cache: TorchServe's `context.metrics`, or `None`.
        interval_s: each time is told no more often than once in so many seconds; `None`: never.
    """
    root = logging.getLogger()
    if _is_no_arrival not in root.filters:
        root.addFilter(_is_no_arrival)
    if cache is not None:
        cache.add_time = _Seldom(cache.add_time, interval_s)


def _is_no_arrival(record: logging.LogRecord) -> bool:
    return record.msg != ARRIVAL


class _Seldom:
    """Stands for `add_time`, which a hook or a subclass may call for other metrics too."""

    def __init__(self, add_time: Any, interval_s: float | None):
        self._add_time = add_time
        self._interval_s = interval_s
        self._due = {PREDICTION_TIME: 0.0, HANDLER_TIME: 0.0}

    def __call__(self, name: str, *arguments: Any, **options: Any) -> None:
        if name in self._due:
            if self._interval_s is None or (now := time.monotonic()) < self._due[name]:
                return
            self._due[name] = now + self._interval_s
        self._add_time(name, *arguments, **options)
