"""Sends a model's sample to the running server again and again, and says what the server made of it."""

import sys

if not __package__:  # run as a file: import from the repository, not from this folder
    sys.path[0] = __file__.rpartition("/scripts/")[0]

import argparse
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import requests

from archive.errors import OpserveError
from archive.process.command import run
from scripts.load import wrk as loadtest_wrk
from scripts.load.result import BUSY, Load
from scripts.predict import archive_of, attempt, request_options
from scripts.torchserve.arguments import add_server_arguments
from scripts.torchserve.server import Server

CONNECTIONS, SECONDS = 8, 10
# Of one run; a token lasts an hour.
MOST_SECONDS = 3000
SHOWN = (50, 90, 95, 99, 99.9)


@dataclass(frozen=True)
class Settings:
    """How the load is made: `rate` requests a second, or, without it, as many as the connections take."""

    connections: int
    seconds: int
    rate: float | None = None

    def __str__(self) -> str:
        plural = "s" if self.connections > 1 else ""
        pace = "" if self.rate is None else f" at {self.rate:g} requests/s"
        return f"{self.connections} connection{plural} for {self.seconds} s{pace}"


def number(name: str, text: str, least: float, most: float, whole: bool = True) -> float:
    """A number that a person typed, or an error that says what it must be."""
    kind = "a whole number" if whole else "a number"
    try:
        value = float(int(text)) if whole else float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise OpserveError(f"{name} is {text!r}; it must be {kind} from {least:g} to {most:g}")
    return value


def settings_of(connections: str, seconds: str, rate: str) -> Settings:
    """The settings as typed; "" is the default."""
    return Settings(
        int(number("CONNECTIONS", connections, 1, 10_000)) if connections else CONNECTIONS,
        int(number("SECONDS", seconds, 1, MOST_SECONDS)) if seconds else SECONDS,
        number("RATE", rate, 0.1, 1_000_000, whole=False) if rate else None,
    )


def make_load(url: str, body: bytes, headers: dict[str, str], settings: Settings) -> tuple[Load, Sequence]:
    """The load, and, where they are known one by one, when each answered request was due and its latency in ms."""
    if settings.rate is None:
        threads = max(1, min(settings.connections, (os.cpu_count() or 1) // 2))
        return loadtest_wrk.load(url, body, headers, settings.connections, settings.seconds, threads, codes=True), []
    from scripts.load import rate as loadtest_rate  # its library is one of the development environment

    return loadtest_rate.load(url, body, headers, settings.rate, settings.connections, settings.seconds)


def lines_of(load: Load, settings: Settings) -> list[str]:
    """What a person is told."""
    errors = ", ".join(f"{kind}: {count}" for kind, count in sorted(load.errors.items()))
    lines = [
        f"  requests    {load.requests:,} answered in {load.seconds:.1f} s",
        f"  right       {load.rate:,.1f} requests/s",
        f"  errors      {errors or 'none'}",
    ]
    if load.latency_us:
        shown = "  ".join(f"p{percent:g} {load.percentile_ms(percent):.2f}" for percent in SHOWN)
        lines.append(f"  latency ms  {shown}  max {load.percentile_ms(100):.2f}")
    if load.generator_limited:
        why = "it sent too late" if load.late else f"it used more than {100 * BUSY:.0f} % of its processors"
        lines.append(
            f"  the generator was the limit, not the server: {why}; run it on another machine, or ask for less"
        )
    if settings.rate is not None and load.rate < 0.95 * settings.rate and not load.generator_limited:
        lines.append(f"  the server does not keep up with {settings.rate:g} requests/s")
    return lines


def plot(model: str, load: Load, samples: Sequence, settings: Settings, path: Path) -> None:
    """Latency by percentile, and over time where every answer is known."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2 if samples else 1, figsize=(12 if samples else 7, 4), squeeze=False)
    by_percentile = axes[0, 0]
    # By how many answers are slower: 10 %, 1 %, 0.1 % are as far from each other as they matter.
    slower = [100 / (100 - tenth / 10) for tenth in range(1000)]
    by_percentile.plot(slower, [value / 1000 for value in load.latency_us[:1000]], color="tab:blue")
    by_percentile.set_xscale("log")
    by_percentile.set_xticks([1, 2, 10, 100, 1000], ["0 %", "50 %", "90 %", "99 %", "99.9 %"])
    by_percentile.set_xlabel("answers that are faster")
    by_percentile.set_ylabel("latency, ms")
    by_percentile.set_ylim(bottom=0)
    by_percentile.grid(alpha=0.3)
    if samples:
        axes[0, 1].plot(*zip(*samples, strict=True), ".", ms=2, alpha=0.4)
        axes[0, 1].set_xlabel("due after s")
        axes[0, 1].set_ylim(bottom=0)
        axes[0, 1].grid(alpha=0.3)
    figure.suptitle(f"{model}: {settings}; {load.rate:,.0f} requests/s, {load.failed} errors", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a served model")
    parser.add_argument("--connections", default="", help=f"at a time ({CONNECTIONS})")
    parser.add_argument("--seconds", default="", help=f"how long ({SECONDS})")
    parser.add_argument("--rate", default="", help="requests a second (as many as the connections take)")
    parser.add_argument("--output", type=Path, help="folder for the plot and the figures (HOME/build/loadtest)")
    add_server_arguments(parser)
    options = parser.parse_args(arguments)
    settings = settings_of(options.connections, options.seconds, options.rate)
    if settings.rate is None:
        loadtest_wrk.require()
    server = Server.from_arguments(options)
    server.require_running()
    version = server.require_model(options.model)["modelVersion"]
    archive = archive_of(server, options.model, version)
    if archive.sample is None:
        raise OpserveError(f"{archive.path.name} carries no sample to send; `make archive` packs it with one")
    outcome = attempt(server, options.model, archive.sample)
    if outcome.difference:
        raise OpserveError(f"{options.model} does not answer its sample as it must: {outcome.difference}")

    url = f"{server.address('inference')}/predictions/{options.model}"
    sent = requests.Request("POST", url, **request_options(archive.sample)).prepare()
    headers = {name: value for name, value in sent.headers.items() if name.lower() != "content-length"}
    token = server.token("inference")
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    print(f"{options.model} {version}: {len(sent.body):,} bytes, {settings}", flush=True)
    load, samples = make_load(url, sent.body, headers, settings)
    print("\n".join(lines_of(load, settings)))
    folder = options.output or server.home / "build" / "loadtest"
    folder.mkdir(parents=True, exist_ok=True)
    figures, picture = folder / f"{options.model}.json", folder / f"{options.model}.png"
    shown = {f"p{percent:g}_ms": load.percentile_ms(percent) for percent in SHOWN} if load.latency_us else {}
    document = {"model": options.model, "version": version, "load": str(settings), "requests": load.requests}
    document |= {"seconds": load.seconds, "rate": load.rate, "errors": dict(load.errors), **shown}
    document |= {"generator_cpu": load.generator_cpu, "generator_limited": load.generator_limited}
    figures.write_text(json.dumps(document, indent=1) + "\n")
    if load.latency_us:
        plot(options.model, load, samples, settings, picture)
        print(f"  {picture}")
    return 0 if load.rate > 0 else 1


if __name__ == "__main__":
    run(main)
