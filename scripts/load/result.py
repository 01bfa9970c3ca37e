"""The result of a load test, whichever generator made the load."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# Share of a processor per thread of the generator, above which the generator itself may have been measured.
BUSY = 0.9


@dataclass(frozen=True)
class Load:
    """The answers to a request that was sent again and again.

    Attributes:
        requests: answers, whatever their status.
        seconds: how long it took.
        latency_us: the latency in microseconds at 0, 0.1, 0.2 … 99.9 % and the greatest; empty if nothing was answered.
        errors: kind of error -> how often: "503", or a socket's "connect", "read", "write", "timeout".
        generator_cpu: processor seconds per second that each thread of the generator used.
        late: whether the generator could not keep its schedule.
    """

    requests: int
    seconds: float
    latency_us: Sequence[float]
    errors: Mapping[str, int] = field(default_factory=dict)
    generator_cpu: float = 0.0
    late: bool = False

    @property
    def failed(self) -> int:
        """Requests that did not get an answer of status 2xx or 3xx."""
        return sum(self.errors.values())

    @property
    def rate(self) -> float:
        """Successful answers per second."""
        refused = sum(count for kind, count in self.errors.items() if kind.isdigit() or kind == "status")
        return max(0, self.requests - refused) / self.seconds

    @property
    def generator_limited(self) -> bool:
        """Whether the generator itself may have been the limit."""
        return self.late or self.generator_cpu > BUSY

    def percentile_ms(self, percent: float) -> float:
        """Returns the latency in milliseconds that `percent` of the answers did not exceed; NaN if there were none."""
        if not self.latency_us:
            return float("nan")
        return self.latency_us[min(round(percent * 10), len(self.latency_us) - 1)] / 1000


def percentiles(latencies: Sequence[float]) -> list[float]:
    """Returns `Load.latency_us` for single latencies, in any order."""
    if not latencies:
        return []
    ordered = sorted(latencies)
    last = len(ordered) - 1
    return [ordered[min(last, int(len(ordered) * tenth / 1000))] for tenth in range(1000)] + [ordered[last]]
