"""The results as a page: tables, a picture, and the figures as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.serving import profiles_plot
from benchmarks.serving.goals import Verdict
from benchmarks.serving.rounds import FEW, Cell, Findings, Plan

MIB = 2**20
STEM = "serving_benchmark"
PROFILES_PICTURE = "serving_profiles.png"


def goals_table(verdicts: Sequence[Verdict]) -> str:
    """A row for each goal."""
    rows = ["| work | goal | measured | |", "| --- | --- | --- | --- |"]
    return "\n".join(rows + [f"| {v.work} | {v.goal} | {v.measured} | {v.verdict} |" for v in verdicts])


def cells_table(cells: Sequence[Cell]) -> str:
    """A row for each measurement of one workload, the fastest server first."""
    head = ("server", "operator", "connections", "requests/s", "p50 ms", "p99 ms", "errors", "server CPU ms/request")
    head += ("memory MiB", "generator CPU")
    rows = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for cell in sorted(cells, key=lambda cell: (cell.connections, -cell.rate)):
        busy = f"{100 * cell.generator_cpu:.0f} %" + (": it was the limit" if cell.generator_limited else "")
        rows.append(
            f"| {cell.server} | {cell.operator} | {cell.connections} | {cell.rate:,.1f}{_few(cell)} | "
            f"{_ms(cell.p50_ms)} | {_ms(cell.p99_ms)} | {cell.errors} | {cell.cpu_ms:.2f} | {cell.memory / MIB:.0f} | "
            f"{busy} |"
        )
    return "\n".join(rows)


def _few(cell: Cell) -> str:
    return " \\*" if cell.few_answers else ""


def _ms(milliseconds: float) -> str:
    return "none" if math.isnan(milliseconds) else f"{milliseconds:.2f}"


def starts_table(findings: Findings) -> str:
    """A row for each server: how long it took to its first right answer, and TorchServe's workers."""
    rows = ["| server | first right answer s | a worker MiB | scale 1→2 s |", "| --- | --- | --- | --- |"]
    for server, seconds in findings.starts_s.items():
        memory, scale = findings.worker_memory.get(server), findings.scale_s.get(server)
        rows.append(
            f"| {server} | {min(seconds):.1f} to {max(seconds):.1f} | "
            f"{'' if memory is None else f'{memory / MIB:.0f}'} | {'' if scale is None else f'{scale:.1f}'} |"
        )
    return "\n".join(rows)


def markdown(
    findings: Findings,
    verdicts: Sequence[Verdict],
    limits: Mapping[str, float],
    machine: Mapping[str, object],
    plan: Plan,
) -> str:
    """The whole page."""
    about = ", ".join(f"{key} {value}" for key, value in machine.items())
    parts = [
        "# opserve's server beside others",
        f"Written by `make bench-serving`: {plan.rounds} round{'s' if plan.rounds > 1 else ''} of {plan.seconds} s for "
        "each figure, medians over the rounds; one server at a time, one worker of one thread each. The generator runs "
        f"on the same machine. A rate with \\* is of fewer than {FEW} answers to each connection in a round: that "
        "server may do a little better. Memory is that of "
        + ("all four models together." if len(plan.groups) == 1 else "one model at a time."),
        f"{about}.",
        f"![Requests a second]({STEM}.png)",
        "## Goals",
        goals_table(verdicts),
    ]
    for workload in dict.fromkeys(cell.workload for cell in findings.cells):
        parts += [f"## {workload}"]
        if workload in limits:
            parts += [f"In one process, without a server: {limits[workload]:,.1f} requests/s."]
        parts += [cells_table([cell for cell in findings.cells if cell.workload == workload])]
    parts += ["## Starting", starts_table(findings)]
    if findings.failures:
        parts += ["## Not measured", "\n".join(f"- {name}: {why}" for name, why in findings.failures.items())]
    return "\n\n".join(parts) + "\n"


def plot(findings: Findings, limits: Mapping[str, float], path: Path) -> None:
    """A panel for each workload: requests a second of every server, by connections."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    workloads = list(dict.fromkeys(cell.workload for cell in findings.cells))
    counts = sorted({cell.connections for cell in findings.cells})
    colours = plt.colormaps["viridis"]
    shade = {count: colours(0.1 + 0.7 * place / max(1, len(counts) - 1)) for place, count in enumerate(counts)}
    rows = [len({(c.server, c.operator) for c in findings.cells if c.workload == workload}) for workload in workloads]
    figure, panels = plt.subplots(
        len(workloads), 1, figsize=(9, 1 + sum(0.42 * n + 0.9 for n in rows)), layout="constrained", squeeze=False,
        height_ratios=[n + 2 for n in rows],
    )  # fmt: skip
    for axes, workload in zip(panels[:, 0], workloads, strict=True):
        cells = [cell for cell in findings.cells if cell.workload == workload]
        best = {(c.server, c.operator): max(d.rate for d in cells if _who(d) == _who(c)) for c in cells}
        order = sorted(best, key=best.__getitem__)
        for cell in cells:
            offset = (counts.index(cell.connections) - (len(counts) - 1) / 2) * 0.27
            axes.barh(order.index(_who(cell)) + offset, cell.rate, height=0.25, color=shade[cell.connections])
        graph = workload.startswith("graph")
        labels = [f"{server} ({operator})" if graph else server for server, operator in order]
        axes.set_yticks(range(len(order)), labels, fontsize=8)
        if workload in limits:
            axes.axvline(limits[workload], color="tab:red", ls="--", lw=1)
        axes.set_title(workload, fontsize=9, loc="left")
        axes.grid(axis="x", alpha=0.3)
    handles = [plt.Rectangle((0, 0), 1, 1, color=shade[count]) for count in counts]
    names = [f"{count} connection{'s' if count > 1 else ''}" for count in counts]
    if limits:
        handles.append(plt.Line2D([], [], color="tab:red", ls="--", lw=1))
        names.append("in one process, no server")
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8)
    panels[-1, 0].set_xlabel("requests a second")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


def _who(cell: Cell) -> tuple[str, str]:
    return cell.server, cell.operator


def write(
    findings: Findings,
    verdicts: Sequence[Verdict],
    limits: Mapping[str, float],
    machine: Mapping[str, object],
    plan: Plan,
    folder: Path,
) -> list[Path]:
    """Write serving_benchmark.json, .md and .png, and serving_profiles.png if both were measured; the paths written."""
    folder.mkdir(parents=True, exist_ok=True)
    results, page, picture = (folder / f"{STEM}.{suffix}" for suffix in ("json", "md", "png"))
    cells = [_without_nan(asdict(cell)) for cell in findings.cells]
    document = {"machine": machine, "limits": limits, "goals": [asdict(v) for v in verdicts]}
    document |= asdict(findings) | {"cells": cells}
    results.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    page.write_text(markdown(findings, verdicts, limits, machine, plan))
    plot(findings, limits, picture)
    profiles = folder / PROFILES_PICTURE
    return [results, page, picture] + ([profiles] if profiles_plot.plot(findings.cells, profiles) else [])
