"""The settings of a load test, and what they must be."""

import math
from dataclasses import dataclass

from archive.errors import OpserveError

CONNECTIONS, SECONDS = 8, 10
# The token that a test starts with lasts an hour.
MAX_SECONDS = 3000


@dataclass(frozen=True)
class LoadSettings:
    """How the load is made: at `rate` requests per second, or as many as the connections take."""

    connections: int
    seconds: int
    rate: float | None = None

    @classmethod
    def parse(cls, connections: str, seconds: str, rate: str) -> "LoadSettings":
        """Parses the settings as typed; "" is the default.

        Raises:
            OpserveError: one is not a number in its range.
        """
        return cls(
            int(_parse("CONNECTIONS", connections, 1, 10_000, whole=True)) if connections else CONNECTIONS,
            int(_parse("SECONDS", seconds, 1, MAX_SECONDS, whole=True)) if seconds else SECONDS,
            _parse("RATE", rate, 0.1, 1_000_000, whole=False) if rate else None,
        )

    def __str__(self) -> str:
        plural = "s" if self.connections > 1 else ""
        pace = "" if self.rate is None else f" at {self.rate:g} requests/s"
        return f"{self.connections} connection{plural} for {self.seconds} s{pace}"


def _parse(name: str, text: str, least: float, most: float, *, whole: bool) -> float:
    try:
        value = float(int(text)) if whole else float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        raise OpserveError(f"{name} is {text!r}; it must be {kind} from {least:g} to {most:g}")
    return value
