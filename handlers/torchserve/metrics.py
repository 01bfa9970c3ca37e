"""Reports a model's metrics to TorchServe, with labels that its lines can hold."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Protocol

from handlers.errors import printable
from handlers.metrics import INTERVAL_S, METRICS, Counts, Reporter
from handlers.torchserve.configuration import METRICS_SWITCH, is_enabled
from handlers.torchserve.log_throttle import throttle

logger = logging.getLogger(__name__)
MAX_LABEL = 200
# TorchServe's lines are split at these characters.
_SEPARATORS = str.maketrans(":,|#", "----")


class CountedModel(Protocol):
    """The part of a model that is reported."""

    name: str
    version: str
    counts: Counts

    def describe(self) -> dict[str, Any]:
        """The model's description, as the management API gives it."""


def start_reporting(model: CountedModel, cache: Any) -> Reporter | None:
    """Reports a model's counts to TorchServe, if OPSERVE_METRICS allows it and its metrics_config declares them.

    Args:
        model: the loaded model.
        cache: TorchServe's `context.metrics`, or `None`.

    Raises:
        ModelError: OPSERVE_METRICS is neither `on` nor `off`.
    """
    enabled = is_enabled(METRICS_SWITCH)
    throttle(cache, INTERVAL_S if enabled else None)
    if cache is None or not enabled:
        return None
    from ts.metrics.metric_cache_errors import MetricsCacheKeyError
    from ts.metrics.metric_type_enum import MetricTypes

    try:
        declared = {name: cache.get_metric(name, MetricTypes(kind.type)) for name, kind in METRICS.items()}
    except MetricsCacheKeyError:
        logger.info("no metrics of the handler: the server's metrics_config does not declare them")
        return None

    def write(name: str, value: float, labels: Iterable[str]) -> None:
        declared[name].add_or_update(value, [make_label(each) for each in (model.name, model.version, *labels)])

    description = model.describe()
    write("opserve_model_info", 1, [description[name] for name in METRICS["opserve_model_info"].labels])
    for library in description["op_libraries"].items():
        write("opserve_op_library_info", 1, library)
    return Reporter(model.counts, write)


def make_label(value: object) -> str:
    """A value as a line of TorchServe can hold it: in one line, without separators, at most MAX_LABEL characters."""
    return printable(value, MAX_LABEL).translate(_SEPARATORS)
