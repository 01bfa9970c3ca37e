"""The goals of the serving benchmark, and whether a run met them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from benchmarks.common.workloads import SHARED_MEMORY
from benchmarks.serving.peer_servers import FASTAPI, FASTAPI_ORJSON, MOSEC_BATCHES, TRITON
from benchmarks.serving.rounds import Findings, Measurement
from benchmarks.serving.torchserves import NATIVE, OPSERVE, OURS, STOCK, onnx_workers

LATENCY, THROUGHPUT = OPSERVE["latency"], OPSERVE["throughput"]
TINY, DIGITS, GRAPH_JSON, GRAPH_NPZ = "scaled_add json", "digits form", "graph json", "graph npz"
GRAPH_SHARED = f"graph {SHARED_MEMORY}"
# Two runs of the same server differ by less than this ratio.
LEVEL = 0.9
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class RateGoal:
    """A goal for the rate of opserve, relative to the fastest peer's.

    Attributes:
        text: The goal in words.
        workload: What is sent to opserve.
        ratio: The least ratio of the rates.
        connections: How many connections send it.
        ours: The names of opserve's servers.
        peers: The names of the peers; all of them by default.
        excluded: The names of peers that do not count.
        operator: Whose operator the peers' model calls; any by default.
        peer_workload: What is sent to the peers, if it differs.
    """

    text: str
    workload: str
    ratio: float = 1.0
    connections: int = 8
    ours: Collection[str] = (LATENCY, THROUGHPUT)
    peers: Collection[str] = ()
    excluded: Collection[str] = ()
    operator: str = ""
    peer_workload: str = ""


# The least share of the rate in one process that the server keeps: the worker adds at most a quarter to the work.
KEPT = 1 / 1.25
# Graphs as JSON per second, whatever the peers do.
GRAPH_JSON_RATE = 200


def _native(text: str, workload: str, ratio: float, **changes: Any) -> RateGoal:
    """A goal of the native worker."""
    return RateGoal(text=text, workload=workload, ratio=ratio, ours=tuple(NATIVE.values()), **changes)


RATE_GOALS = [
    *(
        _native(f"≥ {ratio} times {name}", TINY, ratio, connections=connections, peers=[peer])
        for connections, peer, name, ratio in (
            (8, MOSEC_BATCHES, "batching mosec", 1.3),
            (8, STOCK, "stock TorchServe", 15),
            (32, MOSEC_BATCHES, "batching mosec", 1.7),
            (32, STOCK, "stock TorchServe", 25),
        )
    ),
    _native("≥ 1.3 times the best peer", TINY, 1.3, connections=1),
    _native("≥ 1.7 times the best peer", DIGITS, 1.7),
    _native("≥ 1.5 times every peer, whichever operator it runs", GRAPH_NPZ, 1.5),
    _native("≥ 2.5 times FastAPI with orjson", GRAPH_JSON, 2.5, peers=[FASTAPI_ORJSON]),
    _native("≥ 10 times every Python peer as its guide has it", GRAPH_JSON, 10, excluded=[TRITON, FASTAPI_ORJSON]),
    # Of the worker in Python.
    *(
        RateGoal(text=text, workload=TINY, ratio=ratio, connections=connections, ours=[THROUGHPUT], peers=[peer])
        for connections in (8, 32)
        for peer, text, ratio in (
            (STOCK, "≥ 7 times stock TorchServe", 7),
            (FASTAPI, "≥ 1.5 times FastAPI", 1.5),
            (MOSEC_BATCHES, f"level with batching mosec (≥ {LEVEL} times)", LEVEL),
        )
    ),
    RateGoal(text="≥ 2 times stock TorchServe", workload=TINY, ratio=2, connections=1, ours=[LATENCY], peers=[STOCK]),
    RateGoal(text="faster than every peer", workload=DIGITS),
    RateGoal(text="faster than every peer with plain PyTorch", workload=GRAPH_NPZ, operator="PyTorch"),
    RateGoal(text="≥ 0.8 times the fastest peer with our operator", workload=GRAPH_NPZ, ratio=0.8, operator="opserve"),
    RateGoal(text="faster than every peer with .npz", workload=GRAPH_SHARED, peer_workload=GRAPH_NPZ),
    RateGoal(
        text="≥ 5 times every Python peer as its guide has it",
        workload=GRAPH_JSON,
        ratio=5,
        excluded=[TRITON, FASTAPI_ORJSON],
    ),
    RateGoal(text="≥ 5 times FastAPI with orjson", workload=GRAPH_JSON, ratio=5, peers=[FASTAPI_ORJSON]),
    RateGoal(text="≥ 2 times Triton", workload=GRAPH_JSON, ratio=2, peers=[TRITON]),
]


@dataclass(frozen=True)
class Verdict:
    """A goal and whether it was met, as text for the table."""

    work: str
    goal: str
    measured: str
    verdict: str


def judge(findings: Findings, native_rates: Mapping[str, float] = MappingProxyType({})) -> list[Verdict]:
    """Judges every goal.

    Args:
        findings: The outcome of all rounds.
        native_rates: Requests per second in one process of C++, by workload.
    """
    return [
        *(_judge_rate(goal, findings.measurements) for goal in RATE_GOALS),
        *_judge_native_rates(findings.measurements, native_rates),
        *_judge_tail_latencies(findings.measurements),
        *_judge_native_workers(findings),
        *_judge_starts_and_memory(findings),
    ]


def _judge_native_rates(measurements: Sequence[Measurement], native_rates: Mapping[str, float]) -> list[Verdict]:
    """Judges the rates of the native worker that have nothing to do with peers."""
    ours = {
        workload: max(
            (
                each.rate
                for each in measurements
                if (each.workload, each.connections) == (workload, 8) and each.server in NATIVE.values()
            ),
            default=None,
        )
        for workload in (GRAPH_JSON, GRAPH_NPZ)
    }
    alone, rate = native_rates.get(GRAPH_NPZ), ours[GRAPH_NPZ]
    note = "" if alone is None else f" ({alone:,.0f}/s)"
    share = None if alone is None or rate is None else rate / alone
    return [
        _judge_least(f"{GRAPH_JSON}, 8 connections", f"≥ {GRAPH_JSON_RATE}/s", ours[GRAPH_JSON], GRAPH_JSON_RATE, "/s"),
        _judge_least(f"{GRAPH_NPZ}, 8 connections", "≥ 0.8 of the same in one process of C++", share, KEPT, note),
    ]


def _judge_least(work: str, goal: str, ours: float | None, least: float, unit: str) -> Verdict:
    """Judges a figure that is to be at least `least`."""
    if ours is None:
        return Verdict(work, goal, "", "not measured")
    verdict = "met" if ours >= least else f"missed by {100 * (1 - ours / least):.0f} %"
    return Verdict(work, goal, f"{ours:,.2f}{unit}", verdict)


def _judge_native_workers(findings: Findings) -> list[Verdict]:
    """Judges what a native worker costs, over TorchScript and over ONNX Runtime alone."""
    names = tuple(NATIVE.values())
    kinds = (("TorchScript", names, 0.5, 0.6, 130), ("ONNX", tuple(map(onnx_workers, names)), 0.3, 0.3, 60))
    verdicts = []
    for kind, servers, start, scale, memory in kinds:
        figures: list[tuple[str, Mapping[str, float], float, str, float]] = [
            ("start of a native worker", findings.worker_starts_s, start, "s", 1),
            ("scaling from 1 to 2 native workers", findings.scale_s, scale, "s", 1),
            ("memory of a native worker", findings.worker_memory, memory, "MiB", MIB),
        ]
        for work, measured, limit, unit, scaled in figures:
            found = max((measured[name] / scaled for name in servers if name in measured), default=None)
            verdicts.append(_judge_limit(f"{work}, {kind}", f"≤ {limit} {unit}", found, limit, unit))
    return verdicts


def _judge_rate(goal: RateGoal, measurements: Iterable[Measurement]) -> Verdict:
    """Compares the highest rates of opserve and of the peers."""
    work = f"{goal.workload}, {goal.connections} connection{'s' if goal.connections > 1 else ''}"
    answered = [each for each in measurements if each.connections == goal.connections and each.rate > 0]
    ours = [each for each in answered if each.workload == goal.workload and each.server in goal.ours]
    peers = [
        each
        for each in answered
        if each.workload == (goal.peer_workload or goal.workload)
        and each.server not in (*OURS, *goal.excluded)
        and each.server in (goal.peers or [each.server])
        and each.operator == (goal.operator or each.operator)
    ]
    if not ours or not peers:
        return Verdict(work, goal.text, "", "not measured")
    our, peer = (max(servers, key=lambda each: each.rate) for servers in (ours, peers))
    ratio = our.rate / peer.rate
    verdict = "met" if ratio >= goal.ratio else f"missed by {100 * (1 - ratio / goal.ratio):.0f} %"
    rates = f"({our.server}: {our.rate:,.0f}/s, {peer.rate:,.0f}/s)"
    return Verdict(work, goal.text, f"{ratio:.2f} times {peer.server}{_name_operator(peer)} {rates}", verdict)


def _judge_limit(work: str, goal: str, ours: float | None, limit: float | None, unit: str, note: str = "") -> Verdict:
    """Judges a figure that is to be at most `limit`."""
    if ours is None or limit is None:
        return Verdict(work, goal, "", "not measured")
    verdict = "met" if ours <= limit else f"missed by {100 * (ours / limit - 1):.0f} %"
    return Verdict(work, goal, f"{ours:.2f} {unit}{note}", verdict)


def _name_operator(measurement: Measurement) -> str:
    return f" with {measurement.operator}'s operator" if measurement.workload.startswith("graph") else ""


def _judge_tail_latencies(measurements: Sequence[Measurement]) -> list[Verdict]:
    verdicts = []
    # Errors are quick, and of few responses the slowest in a hundred is unknown.
    sound = [each for each in measurements if each.rate > 0 and not each.errors and not each.has_few_responses]
    for workload in dict.fromkeys(each.workload for each in measurements if each.connections == 32):
        if all(each.server in OURS for each in measurements if each.workload == workload):
            continue  # only opserve accepts it
        ours, peer = (
            min(
                (
                    each
                    for each in sound
                    if (each.workload, each.connections) == (workload, 32) and (each.server in OURS) == is_ours
                ),
                key=lambda each: each.p99_ms,
                default=None,
            )
            for is_ours in (True, False)
        )
        note = f" ({ours.server}), {peer.p99_ms:.2f} ms {peer.server}{_name_operator(peer)}" if ours and peer else ""
        work, goal = f"{workload}, p99 at 32 connections", "no worse than the best peer's"
        p99_ms, limit = ours.p99_ms if ours else None, peer.p99_ms if peer else None
        verdicts.append(_judge_limit(work, goal, p99_ms, limit, "ms", note))
    return verdicts


def _judge_starts_and_memory(findings: Findings) -> list[Verdict]:
    ours = list(OPSERVE.values())
    starts = [seconds for name in ours for seconds in findings.starts_s.get(name, [])]
    scales = [findings.scale_s[name] for name in ours if name in findings.scale_s]
    memory = [findings.worker_memory[name] / MIB for name in ours if name in findings.worker_memory]
    stock = findings.worker_memory.get(STOCK)
    limit = None if stock is None else stock / MIB
    note = "" if limit is None else f", stock's {limit:.0f} MiB"
    return [
        _judge_limit("first right response after the start", "≤ 3 s", min(starts, default=None), 3, "s"),
        _judge_limit("scaling from 1 to 2 workers", "≤ 1.5 s", min(scales, default=None), 1.5, "s"),
        _judge_limit("memory of a worker", "≤ stock's", max(memory, default=None), limit, "MiB", note),
    ]
