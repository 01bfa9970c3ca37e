"""What is aimed at, and whether a run met it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.serving.rounds import Cell, Findings
from benchmarks.serving.servers import FASTAPI, FASTAPI_ORJSON, MOSEC_BATCHES, TRITON
from benchmarks.serving.torchserves import OPSERVE, STOCK
from benchmarks.serving.workloads import SHARED_MEMORY

LATENCY, THROUGHPUT = OPSERVE["latency"], OPSERVE["throughput"]
TINY, DIGITS, GRAPH_JSON, GRAPH_NPZ = "scaled_add json", "digits form", "graph json", "graph npz"
GRAPH_SHARED = f"graph {SHARED_MEMORY}"
# Differences below this are those of two runs of the same server.
LEVEL = 0.9
MIB = 2**20


@dataclass(frozen=True)
class Verdict:
    """One goal: what it is, what was measured, and what that means."""

    work: str
    goal: str
    measured: str
    verdict: str


def best(cells: Iterable[Cell]) -> Cell | None:
    """The one of the highest rate."""
    return max(cells, key=lambda cell: cell.rate, default=None)


def select(
    cells: Sequence[Cell],
    workload: str,
    connections: int,
    servers: Iterable[str] | None = None,
    operator: str | None = None,
    ours: bool = False,
) -> list[Cell]:
    """The cells of opserve (`ours`) or of its peers for one workload, those without a right answer left out."""
    return [
        cell
        for cell in cells
        if cell.workload == workload
        and cell.connections == connections
        and (cell.server in OPSERVE.values()) == ours
        and cell.rate > 0
        and (servers is None or cell.server in servers)
        and (operator is None or cell.operator == operator)
    ]


def at_least(work: str, goal: str, ours: Cell | None, peer: Cell | None, factor: float) -> Verdict:
    """Whether our rate is `factor` times the peer's."""
    if ours is None or peer is None:
        return Verdict(work, goal, "", "not measured")
    ratio = ours.rate / peer.rate if peer.rate else float("inf")
    rates = f"({ours.server}: {ours.rate:,.0f}/s, {peer.rate:,.0f}/s)"
    measured = f"{ratio:.2f} times {peer.server}{_operator(peer)} {rates}"
    return Verdict(work, goal, measured, verdict_of(ratio, factor))


def verdict_of(ratio: float, factor: float) -> str:
    """Met, or missed by how much of the goal."""
    return "met" if ratio >= factor else f"missed by {100 * (1 - ratio / factor):.0f} %"


def at_most(work: str, goal: str, ours: float | None, limit: float | None, unit: str, beside: str = "") -> Verdict:
    """Whether a figure of ours is no larger than a limit."""
    if ours is None or limit is None:
        return Verdict(work, goal, "", "not measured")
    measured = f"{ours:.2f} {unit}{beside}"
    return Verdict(work, goal, measured, "met" if ours <= limit else f"missed by {100 * (ours / limit - 1):.0f} %")


def _operator(cell: Cell) -> str:
    return f" with {cell.operator}'s operator" if cell.workload.startswith("graph") else ""


def verdicts(findings: Findings) -> list[Verdict]:
    """Every goal."""
    cells = findings.cells
    return [
        *_tiny(cells),
        at_least(
            "digits, 8 connections",
            "ahead of every peer",
            best(select(cells, DIGITS, 8, ours=True)),
            best(select(cells, DIGITS, 8)),
            1,
        ),
        *_graph(cells),
        *_tail(cells),
        *_running(findings),
    ]


def _tiny(cells: Sequence[Cell]) -> list[Verdict]:
    found = []
    for connections in (8, 32):
        work = f"tiny JSON, {connections} connections, throughput profile"
        ours = best(select(cells, TINY, connections, [THROUGHPUT], ours=True))
        for name, words, factor in (
            (STOCK, "≥ 7 times stock TorchServe", 7),
            (FASTAPI, "≥ 1.5 times FastAPI", 1.5),
            (MOSEC_BATCHES, f"level with batching mosec (≥ {LEVEL} times)", LEVEL),
        ):
            found.append(at_least(work, words, ours, best(select(cells, TINY, connections, [name])), factor))
    ours = best(select(cells, TINY, 1, [LATENCY], ours=True))
    stock = best(select(cells, TINY, 1, [STOCK]))
    return [*found, at_least("tiny JSON, 1 connection, latency profile", "≥ 2 times stock TorchServe", ours, stock, 2)]


def _graph(cells: Sequence[Cell]) -> list[Verdict]:
    work = "graph .npz, 8 connections"
    ours = best(select(cells, GRAPH_NPZ, 8, ours=True))
    json_work, our_json = "graph JSON, 8 connections", best(select(cells, GRAPH_JSON, 8, ours=True))
    peers = [cell for cell in select(cells, GRAPH_JSON, 8) if cell.server not in (TRITON, FASTAPI_ORJSON)]
    faster = best(select(cells, GRAPH_JSON, 8, [FASTAPI_ORJSON]))
    shared = best(select(cells, GRAPH_SHARED, 8, ours=True))
    plain, with_ours = (select(cells, GRAPH_NPZ, 8, operator=operator) for operator in ("PyTorch", "opserve"))
    return [
        at_least(work, "ahead of every peer that runs plain PyTorch", ours, best(plain), 1),
        at_least(work, "≥ 0.8 times the best that runs our operator", ours, best(with_ours), 0.8),
        at_least("graph, shared memory, 8 connections", "ahead of all", shared, best((*plain, *with_ours)), 1),
        at_least(json_work, "≥ 5 times every Python peer as its guide has it", our_json, best(peers), 5),
        at_least(json_work, "the same of FastAPI with orjson for the standard library", our_json, faster, 5),
        at_least(json_work, "≥ 2 times Triton", our_json, best(select(cells, GRAPH_JSON, 8, [TRITON])), 2),
    ]


def _tail(cells: Sequence[Cell]) -> list[Verdict]:
    found = []
    # What only opserve takes has nobody to be compared with.
    others = {cell.workload for cell in cells if cell.server not in OPSERVE.values()}
    for workload in dict.fromkeys(cell.workload for cell in cells if cell.connections == 32):
        if workload not in others:
            continue
        # Whoever refuses requests is quick with them; and of few answers nobody knows the slowest in a hundred.
        sound = [cell for cell in cells if not cell.errors and not cell.few_answers]
        mine, theirs = (select(sound, workload, 32, ours=ours) for ours in (True, False))
        ours = min(mine, key=lambda cell: cell.p99_ms, default=None)
        peer = min(theirs, key=lambda cell: cell.p99_ms, default=None)
        beside = f" ({ours.server}), {peer.p99_ms:.2f} ms {peer.server}{_operator(peer)}" if ours and peer else ""
        found.append(
            at_most(
                f"{workload}, p99 at 32 connections",
                "no worse than the best peer's",
                ours and ours.p99_ms,
                peer and peer.p99_ms,
                "ms",
                beside,
            )
        )
    return found


def _running(findings: Findings) -> list[Verdict]:
    starts = [seconds for name in OPSERVE.values() for seconds in findings.starts_s.get(name, [])]
    scales = [findings.scale_s[name] for name in OPSERVE.values() if name in findings.scale_s]
    memory = [findings.worker_memory[name] / MIB for name in OPSERVE.values() if name in findings.worker_memory]
    stock = findings.worker_memory.get(STOCK)
    return [
        at_most("first right answer after the start", "≤ 3 s", min(starts, default=None), 3, "s"),
        at_most("scale 1→2", "≤ 1.5 s", min(scales, default=None), 1.5, "s"),
        at_most(
            "memory of a worker",
            "≤ stock's",
            max(memory, default=None),
            None if stock is None else stock / MIB,
            "MiB",
            "" if stock is None else f", stock's {stock / MIB:.0f} MiB",
        ),
    ]
