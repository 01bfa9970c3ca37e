"""The tables and the page of the serving benchmark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from benchmarks.common.command import markdown_table
from benchmarks.serving.goals import MIB, Verdict
from benchmarks.serving.rounds import FEW, Findings, Measurement, Plan


def tabulate_goals(verdicts: Sequence[Verdict]) -> str:
    """A row for each goal."""
    rows = [(each.work, each.goal, each.measured, each.verdict) for each in verdicts]
    return markdown_table(("work", "goal", "measured", ""), rows)


def tabulate_measurements(measurements: Sequence[Measurement]) -> str:
    """A row for each measurement of one workload, the fastest server first."""
    header = ["server", "operator", " connections", " requests/s", " p50 ms", " p99 ms", " errors"]
    header += [" server CPU ms/request", " memory MiB", " generator CPU"]
    rows = [
        (
            *(each.server, each.operator, each.connections),
            f"{each.rate:,.1f}" + (" \\*" if each.has_few_responses else ""),
            *(_milliseconds(each.p50_ms), _milliseconds(each.p99_ms), each.errors),
            *(f"{each.cpu_ms:.2f}", f"{each.memory / MIB:.0f}"),
            f"{100 * each.generator_cpu:.0f} %" + (", the limit" if each.generator_limited else ""),
        )
        for each in sorted(measurements, key=lambda each: (each.connections, -each.rate))
    ]
    return markdown_table(header, rows)


def tabulate_starts(findings: Findings) -> str:
    """A row for each server: the time to its first right response, and a TorchServe's workers."""
    rows = []
    for server, seconds in findings.starts_s.items():
        rows.append((server, f"{min(seconds):.1f} to {max(seconds):.1f}", *_describe_workers(findings, server)))
    for server in findings.worker_memory.keys() - findings.starts_s.keys():
        rows.append((server, "", *_describe_workers(findings, server)))
    header = ("server", " first right response s", " a worker MiB", " start of a worker s", " from 1 to 2 workers s")
    return markdown_table(header, rows)


def _describe_workers(findings: Findings, server: str) -> tuple[str, str, str]:
    memory, scale = findings.worker_memory.get(server), findings.scale_s.get(server)
    start = findings.worker_starts_s.get(server)
    return (
        "" if memory is None else f"{memory / MIB:.0f}",
        "" if start is None else f"{start:.2f}",
        "" if scale is None else f"{scale:.2f}",
    )


def introduce(plan: Plan) -> str:
    """How the figures were measured, in a paragraph."""
    models = "all four models together" if len(plan.groups) == 1 else "one model at a time"
    return (
        f"{plan.rounds} round{'s' if plan.rounds > 1 else ''} of {plan.seconds} s for each figure, medians over the "
        "rounds; one server at a time, one worker of one thread each. The load generator runs on the same machine. A "
        f"rate with \\* is of fewer than {FEW} responses for each connection in a round: that server may be a little "
        f"faster. Memory is that of {models}."
    )


def describe_findings(
    findings: Findings, verdicts: Sequence[Verdict], in_process: Mapping[str, float], native: Mapping[str, float]
) -> str:
    """The tables of the page.

    Args:
        findings: The outcome of all rounds.
        verdicts: The goals.
        in_process: Requests per second without a server, by workload.
        native: The same in the C++ of the native worker.
    """
    parts = ["![Requests per second](serving.png)", "## Goals", tabulate_goals(verdicts)]
    for workload in dict.fromkeys(each.workload for each in findings.measurements):
        parts += [f"## {workload}"]
        if workload in in_process:
            also = f"; in C++: {native[workload]:,.1f}" if workload in native else ""
            parts += [f"In one process, without a server: {in_process[workload]:,.1f} requests/s{also}."]
        parts += [tabulate_measurements([each for each in findings.measurements if each.workload == workload])]
    parts += ["## Starts and workers", tabulate_starts(findings)]
    if findings.failures:
        parts += ["## Not measured", "\n".join(f"- {name}: {reason}" for name, reason in findings.failures.items())]
    return "\n\n".join(parts)


def _milliseconds(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.2f}"
