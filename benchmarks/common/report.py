"""Presents comparisons: a line for each while they run, tables, and a plot of the ratios."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common.command import markdown_table
from benchmarks.common.comparison import Measurement
from benchmarks.common.plots import load_pyplot, save

TIMES = "\N{MULTIPLICATION SIGN}"


def format_measurement(measurement: Measurement) -> str:
    """One line of progress."""
    return (
        f"{measurement.subject:29} {measurement.case:34} {_count_threads(measurement.threads):9} "
        f"{_duration(measurement.ours_us):>9} vs {_duration(measurement.baseline_us):>9} "
        f"{measurement.ratio:6.2f}x {_rate(measurement):>14}  {measurement.form}"
    )


def summarize(measurements: Sequence[Measurement]) -> str:
    """A table with a row for each subject, baseline and number of threads."""
    header = ("subject", "baseline", "threads", "ratio: geometric mean (least to most)", "goal", "")
    rows = []
    groups: dict[tuple[str, str, int], list[Measurement]] = {}
    for measurement in measurements:
        key = measurement.subject, measurement.baseline, measurement.threads
        groups.setdefault(key, []).append(measurement)
    for (subject, baseline, threads), members in groups.items():
        ratios, first = [member.ratio for member in members], members[0]
        goal = "" if first.goal is None else f"≥ {first.goal:.2g}{TIMES}"
        if first.floor is not None:
            goal += f", nowhere < {first.floor:g}{TIMES}"
        mean = f"{statistics.geometric_mean(ratios):.2f}{TIMES} ({min(ratios):.2f} to {max(ratios):.2f})"
        rows.append((f"`{subject}`", baseline, threads, mean, goal, _verdict(ratios, first.goal, first.floor)))
    return markdown_table(header, rows)


def list_all(measurements: Sequence[Measurement]) -> str:
    """A table with a row for each measurement."""
    header = ("subject", "baseline", "case", "threads", "opserve", "fastest form", "which", "ratio", "rate")
    rows = [
        (
            *(f"`{m.subject}`", m.baseline, m.case, m.threads, _duration(m.ours_us), _duration(m.baseline_us)),
            *(m.form, f"{m.ratio:.2f}{TIMES}", _rate(m)),
        )
        for m in measurements
    ]
    return markdown_table(header, rows)


def plot(measurements: Sequence[Measurement], path: Path) -> None:
    """Draws every ratio as a dot, in a row for each subject and baseline."""
    plt = load_pyplot()
    names = list(dict.fromkeys((each.subject, each.baseline) for each in measurements))
    threads = sorted({each.threads for each in measurements})
    figure, axes = plt.subplots(figsize=(10, 1.2 + 0.6 * len(names)), layout="constrained")
    colours = plt.colormaps["viridis"]
    for place, count in enumerate(threads):
        colour = colours(0.15 + 0.6 * place / max(1, len(threads) - 1))
        shift = (place - (len(threads) - 1) / 2) * 0.28
        axes.plot([], [], "o", color=colour, ms=5, label=_count_threads(count))
        for row, name in enumerate(names):
            ratios = [m.ratio for m in measurements if (m.subject, m.baseline, m.threads) == (*name, count)]
            if ratios:
                axes.plot(ratios, [row + shift] * len(ratios), "o", color=colour, alpha=0.35, ms=5)
                mean = statistics.geometric_mean(ratios)
                axes.plot([mean], [row + shift], "|", color=colour, ms=16, mew=2.5)
    for row, name in enumerate(names):
        goal = next(each.goal for each in measurements if (each.subject, each.baseline) == name)
        if goal is not None:
            axes.plot([goal, goal], [row - 0.4, row + 0.4], "--", color="tab:red", lw=1.2)
    axes.plot([], [], "--", color="tab:red", lw=1.2, label="goal")
    axes.axvline(1.0, color="grey", lw=0.8)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}{TIMES}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_yticks(range(len(names)), [f"{subject}\nvs {baseline}" for subject, baseline in names], fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("times as fast as the baseline's fastest form (bar: geometric mean)")
    axes.legend(loc="lower right", fontsize=8)
    axes.grid(axis="x", alpha=0.3)
    save(figure, path)


def _verdict(ratios: Sequence[float], goal: float | None, floor: float | None) -> str:
    if goal is None:
        return ""
    if statistics.geometric_mean(ratios) < goal:
        return "missed"
    return "missed in places" if floor is not None and min(ratios) < floor else "met"


def _count_threads(count: int) -> str:
    return f"{count} thread" + ("s" if count > 1 else "")


def _duration(microseconds: float) -> str:
    if microseconds < 1000:
        return f"{microseconds:.1f} µs" if microseconds < 100 else f"{microseconds:.0f} µs"
    return f"{microseconds / 1000:.2f} ms"


def _rate(measurement: Measurement) -> str:
    if not measurement.work:
        return ""
    unit = "GFLOP/s" if measurement.work_unit == "flop" else "GB/s"
    return f"{measurement.work / measurement.ours_us / 1000:.1f} {unit}"
