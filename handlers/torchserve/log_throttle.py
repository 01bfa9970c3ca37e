"""Throttles what TorchServe writes in a worker for every request.

It logs the arrival of a batch, and reports its duration as metrics that are gauges: lines that go through a pipe to the
frontend, which parses them. For a small model they cost as much as its response, and of a gauge only the last value is
ever seen.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

ARRIVAL = "Backend received inference at: %d"
PREDICTION_TIME = "PredictionTime"
# Reported by TorchServe's own handlers themselves.
HANDLER_TIME = "HandlerTime"


def throttle(cache: Any, interval_s: float | None) -> None:
    """Drops a worker's log lines of arrivals, and limits how often it reports the duration of a prediction.

    Args:
        cache: TorchServe's `context.metrics`, or `None`.
        interval_s: the shortest time between two reports of each duration; `None`: they are never reported.
    """
    root = logging.getLogger()
    if _is_not_arrival not in root.filters:
        root.addFilter(_is_not_arrival)
    if cache is not None:
        cache.add_time = _Throttled(cache.add_time, interval_s)


def _is_not_arrival(record: logging.LogRecord) -> bool:
    return record.msg != ARRIVAL


class _Throttled:
    """Wraps `add_time`, which a hook or a subclass may call for other metrics too."""

    def __init__(self, add_time: Callable[..., None], interval_s: float | None) -> None:
        self._add_time = add_time
        self._interval_s = interval_s
        self._due = {PREDICTION_TIME: 0.0, HANDLER_TIME: 0.0}

    def __call__(self, name: str, *arguments: Any, **options: Any) -> None:
        if name in self._due:
            if self._interval_s is None or (now := time.monotonic()) < self._due[name]:
                return
            self._due[name] = now + self._interval_s
        self._add_time(name, *arguments, **options)
