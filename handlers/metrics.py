"""Sums of a worker's work, and the thread that reports them to a server.

Cheap enough to be always on: a batch adds to a few numbers, and the increments are reported at most once a second,
because a server's line for a metric costs more than the response of a small model. Independent of any server: the
reporter is given a function that writes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

INTERVAL_S = 1.0


class Kind(NamedTuple):
    """A metric: `counter` or `gauge`, its unit, and its labels in addition to the model's name and version."""

    type: str
    unit: str
    labels: tuple[str, ...] = ()


# As metrics.yaml declares them to TorchServe, which drops undeclared ones.
_NUMBERS = ("requests", "batches", "model_calls")
_STEPS = ("decode", "collate", "inference", "encode")
METRICS: Mapping[str, Kind] = {
    **{f"opserve_{name}_total": Kind("counter", "count") for name in _NUMBERS},
    **{f"opserve_{step}_seconds_total": Kind("counter", "seconds") for step in _STEPS},
    "opserve_rejected_requests_total": Kind("counter", "count", ("code", "field")),
    "opserve_model_info": Kind("gauge", "count", ("artifact", "format", "runtime", "device")),
    "opserve_op_library_info": Kind("gauge", "count", ("library", "sha256")),
}

Write = Callable[[str, float, Iterable[str]], None]


class Counts:
    """Sums since the worker was ready. Only the thread that answers adds to them; any thread may read.

    Attributes:
        requests, batches: received from the server.
        model_calls: runs of the model; fewer than requests if some were joined.
        decode_s, collate_s, inference_s, encode_s: seconds of decoding, checking and `preprocess`; of joining and
            splitting; of the model; of `postprocess` and encoding.
        rejected: responses that were errors, by status and the input at fault (`""`: the request as a whole).
    """

    __slots__ = (*_NUMBERS, *(f"{step}_s" for step in _STEPS), "rejected")

    def __init__(self) -> None:
        self.requests = self.batches = self.model_calls = 0
        self.decode_s = self.collate_s = self.inference_s = self.encode_s = 0.0
        self.rejected: dict[tuple[int, str], int] = {}

    def reject(self, status: int, field: str) -> None:
        """Counts a response that is an error."""
        self.rejected[status, field] = self.rejected.get((status, field), 0) + 1

    def sums(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """Every sum, by the name of its metric and its labels."""
        # The copy is atomic: nothing is added meanwhile.
        rejected = self.rejected.copy()
        return {
            **{(f"opserve_{name}_total", ()): getattr(self, name) for name in _NUMBERS},
            **{(f"opserve_{step}_seconds_total", ()): getattr(self, f"{step}_s") for step in _STEPS},
            **{
                ("opserve_rejected_requests_total", (str(status), field or "none")): count
                for (status, field), count in rejected.items()
            },
        }


class Reporter:
    """Reports increments of `counts` from its own thread; those of a killed worker's last second are lost.

    Args:
        counts: the sums of one model.
        write: called with a metric's name, its increment (a gauge: its value) and the values of its labels.
    """

    def __init__(self, counts: Counts, write: Write, interval_s: float = INTERVAL_S) -> None:
        self._counts = counts
        self._write = write
        self._interval_s = interval_s
        self._reported: dict[tuple[str, tuple[str, ...]], float] = {}
        self._changed = threading.Event()
        threading.Thread(target=self._run, name="metrics", daemon=True).start()
        self._changed.set()

    def notify(self) -> None:
        """Wakes the thread after `counts` has changed."""
        if not self._changed.is_set():  # a tenth of the cost of setting it
            self._changed.set()

    def _run(self) -> None:
        while True:
            self._changed.wait()
            time.sleep(self._interval_s)
            self._changed.clear()
            self.report()

    def report(self) -> None:
        """Writes the increments since the last report; the first one also includes zeros, so that every sum exists."""
        for key, value in self._counts.sums().items():
            before = self._reported.get(key)
            if value != before:
                self._reported[key] = value
                self._write(key[0], round(value - (before or 0), 9), key[1])
