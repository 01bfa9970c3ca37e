"""Who is measured when: one server at a time, the order reversed from round to round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from archive.errors import OpserveError
from benchmarks.serving.answers import WrongAnswer
from benchmarks.serving.processes import used_between
from benchmarks.serving.servers import Running, Server, ServerFailed, work_folder
from benchmarks.serving.workloads import Workload
from scripts.load import wrk as loadtest_wrk
from scripts.load.result import Load

# Answers to each connection in a round, for which the beginning and the end of a measurement matter little.
FEW = 5
WARM_UP_REQUESTS, WARM_UP_CONNECTIONS = 3, 8


@dataclass(frozen=True)
class Cell:
    """One workload on one server with so many connections: medians over the rounds.

    Attributes:
        rate: right answers a second; p50_ms, p99_ms: of their latency.
        requests, errors: of all rounds together.
        cpu_ms: processor time of all the server's processes for each request.
        memory: resident bytes of all the server's processes, those of models that are not asked left out.
        generator_cpu: processors' worth of time that the generator used at most; generator_limited: whether it was
            the limit in any round.
    """

    server: str
    workload: str
    operator: str
    connections: int
    rate: float
    p50_ms: float
    p99_ms: float
    requests: int
    errors: int
    cpu_ms: float
    memory: int
    generator_cpu: float
    generator_limited: bool
    rounds: int = 1

    @property
    def few_answers(self) -> bool:
        """Whether those that were under way at the end would have counted."""
        return self.requests < FEW * self.connections * self.rounds


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        groups: workloads that one start of a server serves together.
        connections: for each workload's name, or "" for all others.
        seconds: of one measurement.
        rounds: how often every server has its turn.
        warm_up_s: of load before each measurement; 0: a few requests one after the other.
        first_warm_up_s: of load before everything else in a start.
        limit_s: no server is started, and nothing measured, after so long; `None` for no limit.
    """

    groups: Sequence[Sequence[Workload]]
    connections: dict[str, Sequence[int]]
    seconds: int
    rounds: int
    warm_up_s: int = 0
    first_warm_up_s: int = 0
    limit_s: float | None = None

    def cells(self, server: Server, group: Sequence[Workload]) -> list[tuple[Workload, int]]:
        """What is measured of one server in one start."""
        return [
            (workload, connections)
            for workload in group
            if server.takes(workload)
            for connections in self.connections.get(workload.name, self.connections[""])
        ]


@dataclass
class Findings:
    """What came of it: the single measurements, starts and failures."""

    cells: list[Cell]
    starts_s: dict[str, list[float]]
    scale_s: dict[str, float]
    worker_memory: dict[str, int]
    failures: dict[str, str]


def measure(running: Running, workload: Workload, connections: int, seconds: int, warm_up_s: int) -> Cell:
    """Check the answer, warm up, and measure; the answer is checked again when it is over.

    Args:
        running, workload, connections: what is measured.
        seconds: of the measurement.
        warm_up_s: of load before it; 0: a few requests one after the other.

    Raises:
        WrongAnswer, ServerFailed: it does not answer as it must; OpserveError: the generator does not run.
    """
    running.ask(workload)
    if warm_up_s:
        send(running, workload, connections, warm_up_s)
    else:
        for _ in range(WARM_UP_REQUESTS):
            running.ask(workload)
    idle = running.idle(workload.model)
    before = running.processes.cpu_seconds()
    load = send(running, workload, connections, seconds)
    after = running.processes.cpu_seconds()
    memory = running.processes.memory(idle)
    running.ask(workload)
    return Cell(
        server=running.server.name,
        workload=workload.name,
        operator=workload.operator,
        connections=connections,
        rate=load.rate,
        p50_ms=load.percentile_ms(50),
        p99_ms=load.percentile_ms(99),
        requests=load.requests,
        errors=load.failed,
        cpu_ms=used_between(before, after) * 1000 / max(load.requests, 1),
        memory=memory,
        generator_cpu=load.generator_cpu,
        generator_limited=load.generator_limited,
    )


def send(running: Running, workload: Workload, connections: int, seconds: int) -> Load:
    """Send a workload over and over for so many seconds."""
    payload = running.server.payload(workload)
    headers = dict(payload.headers) | running.headers
    return loadtest_wrk.load(running.url(workload), payload.body, headers, connections, seconds)


def warm_up(running: Running, workload: Workload, seconds: int) -> None:
    """Load a server that has just been started; Java compiles again what it made when the first connections end."""
    for part in (seconds - seconds // 2, seconds // 2):
        send(running, workload, WARM_UP_CONNECTIONS, max(1, part))


def run(
    plan: Plan,
    servers: Sequence[Server],
    files: Path,
    pythons: Mapping[str, Path],
    say: Callable[[str], None] = print,
) -> Findings:
    """Measure every server; one that fails is left out from then on, with the reason.

    Args:
        plan: what is measured.
        servers: in the order of the first round.
        files: folder with the models' files.
        pythons: the peers' environments that could be made.
        say: told of every measurement and failure.
    """
    findings = Findings([], {}, {}, {}, {})
    turns = [
        (number, group, server)
        for number in range(plan.rounds)
        for group in plan.groups
        for server in (servers if number % 2 == 0 else list(reversed(servers)))
        if plan.cells(server, group)
    ]
    total = sum(len(plan.cells(server, group)) for _, group, server in turns)
    begun, behind = time.monotonic(), 0
    for _, group, server in turns:
        cells = plan.cells(server, group)
        done, behind = behind, behind + len(cells)
        if server.name in findings.failures:
            continue
        if plan.limit_s is not None and time.monotonic() - begun > plan.limit_s:
            findings.failures[server.name] = "not measured: the time was over"
            continue
        try:
            for cell in _turn(server, cells, plan, files, pythons.get(server.environment), findings):
                done += 1
                findings.cells.append(cell)
                elapsed = time.monotonic() - begun
                left = elapsed / done * (total - done)
                if plan.limit_s is not None:
                    left = min(left, max(0.0, plan.limit_s - elapsed))
                say(f"{done:4} of {total}, {_clock(left)} left  {format_cell(cell)}")
        except (ServerFailed, WrongAnswer, OpserveError) as error:
            findings.failures[server.name] = str(error)
            say(f"     {server.name}: {error}")
    findings.cells = medians(findings.cells)
    return findings


def _turn(
    server: Server,
    cells: Sequence[tuple[Workload, int]],
    plan: Plan,
    files: Path,
    python: Path | None,
    findings: Findings,
) -> Iterable[Cell]:
    models = list(dict.fromkeys(workload.model for workload, _ in cells))
    with work_folder() as folder:
        begun = time.monotonic()
        with server.launch(models, files, python, folder) as running:
            running.wait(cells[0][0])
            findings.starts_s.setdefault(server.name, []).append(time.monotonic() - begun)
            if plan.first_warm_up_s:
                warm_up(running, cells[0][0], plan.first_warm_up_s)
            for workload, connections in cells:
                try:
                    yield measure(running, workload, connections, plan.seconds, plan.warm_up_s)
                except (WrongAnswer, OpserveError) as error:
                    # The other workloads may do well.
                    findings.failures[f"{server.name}: {workload.name}, {workload.operator}"] = str(error)
            _look_at_workers(running, models[0], findings)


def _look_at_workers(running: Running, model: str, findings: Findings) -> None:
    """A TorchServe's workers: their memory, and how long a second one takes."""
    if not hasattr(running, "workers"):
        return
    name = running.server.name
    everything = {process.pid for process in running.processes.find()}
    if name not in findings.worker_memory:
        findings.worker_memory[name] = running.processes.memory(everything - set(running.workers(model)))
        findings.scale_s[name] = running.scale(model, 2)


def medians(cells: Sequence[Cell]) -> list[Cell]:
    """One cell for all rounds of the same measurement."""
    together: dict[tuple, list[Cell]] = {}
    for cell in cells:
        together.setdefault((cell.server, cell.workload, cell.operator, cell.connections), []).append(cell)
    found = []
    for rounds in together.values():
        values: dict[str, Any] = asdict(rounds[0])
        for name in ("rate", "p50_ms", "p99_ms", "cpu_ms"):
            values[name] = statistics.median(getattr(cell, name) for cell in rounds)
        for name in ("requests", "errors"):
            values[name] = sum(getattr(cell, name) for cell in rounds)
        for name in ("memory", "generator_cpu", "generator_limited"):
            values[name] = max(getattr(cell, name) for cell in rounds)
        found.append(Cell(**values | {"rounds": len(rounds)}))
    return found


def format_cell(cell: Cell) -> str:
    """A line of progress."""
    limit = "  the generator was the limit" if cell.generator_limited else ""
    return (
        f"{cell.server:20} {cell.workload:15} {cell.operator:8} {cell.connections:3} connections "
        f"{cell.rate:9.1f}/s  p50 {cell.p50_ms:8.2f} ms  p99 {cell.p99_ms:8.2f} ms  {cell.errors} errors{limit}"
    )


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
