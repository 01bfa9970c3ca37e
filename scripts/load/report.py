"""The results of a load test: lines for a person, a JSON file and a plot."""

import json
from collections.abc import Sequence
from pathlib import Path

from scripts.load.result import BUSY, Load
from scripts.load.sample import LoadSample
from scripts.load.settings import LoadSettings

PERCENTILES = (50, 90, 95, 99, 99.9)


def describe_load(load: Load, settings: LoadSettings) -> str:
    """Returns the results in lines for a person."""
    errors = ", ".join(f"{kind}: {count}" for kind, count in sorted(load.errors.items()))
    lines = [
        f"  requests    {load.requests:,} answered in {load.seconds:.1f} s",
        f"  successful  {load.rate:,.1f} requests/s",
        f"  errors      {errors or 'none'}",
    ]
    if load.latency_us:
        latencies = "  ".join(f"p{percent:g} {load.percentile_ms(percent):.2f}" for percent in PERCENTILES)
        lines.append(f"  latency ms  {latencies}  max {load.percentile_ms(100):.2f}")
    if load.generator_limited:
        why = "it sent too late" if load.late else f"it used more than {100 * BUSY:.0f} % of its processors"
        lines.append(f"  the load generator was the limit, not the server: {why}; run it on another machine, or slower")
    elif settings.rate is not None and load.rate < 0.95 * settings.rate:
        lines.append(f"  the server does not keep up with {settings.rate:g} requests/s")
    return "\n".join(lines)


def write_report(
    sample: LoadSample, load: Load, latencies: Sequence[tuple[float, float]], settings: LoadSettings, folder: Path
) -> None:
    """Writes MODEL.json and, if anything was answered, MODEL.png into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    percentiles = {f"p{percent:g}_ms": load.percentile_ms(percent) for percent in PERCENTILES}
    document = {
        "model": sample.model,
        "version": sample.version,
        "load": str(settings),
        "requests": load.requests,
        "seconds": load.seconds,
        "rate": load.rate,
        "errors": dict(load.errors),
        **(percentiles if load.latency_us else {}),
        "generator_cpu": load.generator_cpu,
        "generator_limited": load.generator_limited,
    }
    (folder / f"{sample.model}.json").write_text(json.dumps(document, indent=1) + "\n")
    if load.latency_us:
        picture = folder / f"{sample.model}.png"
        _plot(f"{sample.model}: {settings}", load, latencies, picture)
        print(f"  {picture}")


def _plot(title: str, load: Load, latencies: Sequence[tuple[float, float]], path: Path) -> None:
    """Plots the latency by percentile, and over time if it is known for each answer."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2 if latencies else 1, figsize=(12 if latencies else 7, 4), squeeze=False)
    by_percentile = axes[0, 0]
    # Logarithmic in the share of slower answers, so that 10 %, 1 % and 0.1 % are equally far from each other.
    slower = [100 / (100 - tenth / 10) for tenth in range(1000)]
    by_percentile.plot(slower, [value / 1000 for value in load.latency_us[:1000]], color="tab:blue")
    by_percentile.set_xscale("log")
    by_percentile.set_xticks([1, 2, 10, 100, 1000], ["0 %", "50 %", "90 %", "99 %", "99.9 %"])
    by_percentile.set_xlabel("answers that are faster")
    by_percentile.set_ylabel("latency, ms")
    if latencies:
        axes[0, 1].plot(*zip(*latencies, strict=True), ".", ms=2, alpha=0.4)
        axes[0, 1].set_xlabel("due after s")
    for axis in axes.flat:
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    figure.suptitle(f"{title}; {load.rate:,.0f} requests/s, {load.failed} errors", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
