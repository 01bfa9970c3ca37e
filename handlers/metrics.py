"""What a worker has done, in sums, and the thread that tells them to a server.

Cheap enough to be always on: a batch adds to a few numbers, and what was added is told at most once a second, because
a server's line for a metric costs more than the answer of a small model. Knows no server: it is given a function that
writes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from handlers.errors import printable
from handlers.switch import is_on

SWITCH = "OPSERVE_METRICS"
INTERVAL_S = 1.0


class Kind(NamedTuple):
    """A metric: `counter` or `gauge`, its unit, and its labels beside the model's name and version."""

    type: str
    unit: str
    labels: tuple[str, ...] = ()


# As metrics.yaml declares them to TorchServe, which drops what is not declared.
METRICS: Mapping[str, Kind] = {
    "opserve_requests_total": Kind("counter", "count"),
    "opserve_batches_total": Kind("counter", "count"),
    "opserve_model_calls_total": Kind("counter", "count"),
    "opserve_decode_seconds_total": Kind("counter", "seconds"),
    "opserve_collate_seconds_total": Kind("counter", "seconds"),
    "opserve_inference_seconds_total": Kind("counter", "seconds"),
    "opserve_encode_seconds_total": Kind("counter", "seconds"),
    "opserve_rejected_requests_total": Kind("counter", "count", ("code", "field")),
    "opserve_model_info": Kind("gauge", "count", ("artifact", "format", "runtime", "device")),
    "opserve_op_library_info": Kind("gauge", "count", ("library", "sha256")),
}

Write = Callable[[str, float, Iterable[str]], None]


class Counts:
    """Sums since the worker was ready. Only the thread that answers adds to them; any thread may read.

    Attributes:
        requests, batches: what the server handed over.
        model_calls: runs of the model; fewer than requests where some were joined.
        decode_s, collate_s, inference_s, encode_s: seconds of decoding, checking and `preprocess`; of joining and
            splitting; of the model; of `postprocess` and encoding.
        rejected: answers that were errors, by status and the input at fault (`""`: the request as a whole).
    """

    __slots__ = (
        "batches",
        "collate_s",
        "decode_s",
        "encode_s",
        "inference_s",
        "model_calls",
        "rejected",
        "requests",
    )

    def __init__(self) -> None:
        self.requests = self.batches = self.model_calls = 0
        self.decode_s = self.collate_s = self.inference_s = self.encode_s = 0.0
        self.rejected: dict[tuple[int, str], int] = {}

    def reject(self, status: int, field: str) -> None:
        """One more answer was an error."""
        self.rejected[status, field] = self.rejected.get((status, field), 0) + 1

    def sums(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """Every sum, by the name of its metric and its labels."""
        plain = {
            "opserve_requests_total": self.requests,
            "opserve_batches_total": self.batches,
            "opserve_model_calls_total": self.model_calls,
            "opserve_decode_seconds_total": self.decode_s,
            "opserve_collate_seconds_total": self.collate_s,
            "opserve_inference_seconds_total": self.inference_s,
            "opserve_encode_seconds_total": self.encode_s,
        }
        # The copy is one step of the interpreter: nothing is added meanwhile.
        rejected = self.rejected.copy()
        return {(name, ()): value for name, value in plain.items()} | {
            ("opserve_rejected_requests_total", (str(status), label(field or "none"))): count
            for (status, field), count in rejected.items()
        }


def wanted() -> bool:
    """Whether the environment leaves metrics on: `OPSERVE_METRICS=off` drops them.

    Raises:
        ModelError: it says something else.
    """
    return is_on(SWITCH)


def information(described: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...]]]:
    """The metrics that say what is served, from a model's description: their value is 1."""
    told = tuple(label(described[name]) for name in METRICS["opserve_model_info"].labels)
    libraries = [(label(name), digest) for name, digest in described["op_libraries"].items()]
    return [("opserve_model_info", told), *(("opserve_op_library_info", library) for library in libraries)]


def label(value: Any) -> str:
    """A value as TorchServe's lines can hold it: they are split at some characters, and end where one ends a line."""
    return printable(value, 200).translate(str.maketrans(":,|#", "----"))


class Reporter:
    """Tells what is added to `counts`, from a thread of its own; what the last second of a killed worker adds is lost.

    Args:
        counts: of one model.
        write: called with a metric's name, what was added to it (a gauge: its value) and the values of its labels.
    """

    def __init__(self, counts: Counts, write: Write, interval_s: float = INTERVAL_S):
        self._counts = counts
        self._write = write
        self._interval_s = interval_s
        self._told: dict[tuple[str, tuple[str, ...]], float] = {}
        self._added = threading.Event()
        threading.Thread(target=self._run, name="metrics", daemon=True).start()
        self._added.set()

    def added(self) -> None:
        """Something was added."""
        if not self._added.is_set():  # a tenth of what setting it costs
            self._added.set()

    def _run(self) -> None:
        while True:
            self._added.wait()
            time.sleep(self._interval_s)
            self._added.clear()
            self.tell()

    def tell(self) -> None:
        """Writes what was added since the last time; the first time also what is still zero, so that it is known of."""
        for key, value in self._counts.sums().items():
            before = self._told.get(key)
            if value != before:
                self._told[key] = value
                self._write(key[0], round(value - (before or 0), 9), key[1])
