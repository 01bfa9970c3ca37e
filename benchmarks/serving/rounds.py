"""Measures servers in rounds: one server at a time, in reversed order in every second round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from archive.errors import OpserveError
from benchmarks.common.responses import WrongResponse
from benchmarks.common.workloads import Workload
from benchmarks.serving.archives import ONNX
from benchmarks.serving.processes import age_s, used_between
from benchmarks.serving.servers import Running, Server, work_folder
from benchmarks.serving.torchserves import OpserveServer, RunningTorchServe, onnx_workers

# Responses for each connection in a round below which the beginning and the end of a measurement matter.
FEW = 5
WARM_UP_REQUESTS = 3


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One workload on one server with a number of connections: medians over the rounds.

    Attributes:
        operator: Whose operator the model calls.
        rate: Right responses per second.
        p50_ms: Median latency in milliseconds.
        p99_ms: 99th percentile of the latency.
        requests: Responses in all rounds together.
        errors: Failed requests in all rounds together.
        cpu_ms: Processor time of all the server's processes for each request.
        memory: Resident bytes of all the server's processes, without those of other models' workers.
        generator_cpu: Processors that the load generator used, at most.
        generator_limited: Whether the load generator was the limit in any round.
        rounds: How often this was measured.
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
    def has_few_responses(self) -> bool:
        """Whether the requests that were under way at the end would have counted."""
        return self.requests < FEW * self.connections * self.rounds


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        groups: Workloads that one start of a server serves together.
        connections: Numbers of connections by the name of the workload; those for "" apply to all others.
        seconds: The duration of one measurement.
        rounds: How often every server has its turn.
        warm_up_s: Seconds of load before each measurement; 0: a few single requests.
        first_warm_up_s: Seconds of load after a start, before everything else.
        limit_s: After this time no server is started any more; `None` for no limit.
        onnx_workers: Whether the workers of opserve's ONNX model are measured too.
    """

    groups: Sequence[Sequence[Workload]]
    connections: dict[str, Sequence[int]]
    seconds: int
    rounds: int
    warm_up_s: int = 0
    first_warm_up_s: int = 0
    limit_s: float | None = None
    onnx_workers: bool = False

    def tasks(self, server: Server, group: Sequence[Workload]) -> list[tuple[Workload, int]]:
        """Lists the workloads and numbers of connections that one start of a server is measured with."""
        return [
            (workload, connections)
            for workload in group
            if server.accepts(workload)
            for connections in self.connections.get(workload.name, self.connections[""])
        ]


@dataclass
class Findings:
    """The outcome of all rounds, by the name of the server.

    Attributes:
        measurements: Every measurement.
        starts_s: Seconds from each start to the first right response.
        scale_s: Seconds until a second worker of a TorchServe responds.
        worker_memory: Resident bytes of a TorchServe's worker.
        worker_starts_s: Seconds from the start of a TorchServe's worker process until it is ready.
        failures: The reason for what could not be measured.
    """

    measurements: list[Measurement] = field(default_factory=list)
    starts_s: dict[str, list[float]] = field(default_factory=dict)
    scale_s: dict[str, float] = field(default_factory=dict)
    worker_memory: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    worker_starts_s: dict[str, float] = field(default_factory=dict)


def measure(running: Running, workload: Workload, connections: int, seconds: int, warm_up_s: int) -> Measurement:
    """Measures one workload; its response is checked before and after.

    Args:
        running: The server.
        workload: The request.
        connections: How many send it at a time.
        seconds: The duration.
        warm_up_s: Seconds of load before; 0: a few single requests.

    Raises:
        WrongResponse: The response is not the expected one.
        OpserveError: The server or the load generator failed.
    """
    running.send_once(workload)
    if warm_up_s:
        running.load(workload, connections, warm_up_s)
    else:
        for _ in range(WARM_UP_REQUESTS):
            running.send_once(workload)
    unused = running.unused_workers(workload.model)
    before = running.processes.cpu_seconds()
    load = running.load(workload, connections, seconds)
    after = running.processes.cpu_seconds()
    memory = running.processes.memory(unused)
    running.send_once(workload)
    return Measurement(
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


def run(
    plan: Plan,
    servers: Sequence[Server],
    files: Path,
    pythons: Mapping[str, Path],
    report: Callable[[str], None] = print,
) -> Findings:
    """Measures every server; one that fails is left out of the following rounds.

    Args:
        plan: What is measured.
        servers: The servers in the order of the first round.
        files: Folder with the models' files.
        pythons: The peers' environments that are installed.
        report: Receives a line for every measurement and failure.
    """
    findings = Findings()
    turns = [
        (server, tasks)
        for number in range(plan.rounds)
        for group in plan.groups
        for server in (servers if number % 2 == 0 else list(reversed(servers)))
        if (tasks := plan.tasks(server, group))
    ]
    total = sum(len(tasks) for _, tasks in turns)
    begin, finished = time.monotonic(), 0
    for server, tasks in turns:
        done, finished = finished, finished + len(tasks)
        if server.name in findings.failures:
            continue
        if plan.limit_s is not None and time.monotonic() - begin > plan.limit_s:
            findings.failures[server.name] = "not measured: out of time"
            continue
        try:
            for measurement in _measure_all(server, tasks, plan, files, pythons.get(server.environment), findings):
                done += 1
                findings.measurements.append(measurement)
                elapsed = time.monotonic() - begin
                left = elapsed / done * (total - done)
                if plan.limit_s is not None:
                    left = min(left, max(0.0, plan.limit_s - elapsed))
                report(f"{done:4} of {total}, {left / 60:.1f} min left  {format_measurement(measurement)}")
        except (WrongResponse, OpserveError) as error:
            findings.failures[server.name] = str(error)
            report(f"     {server.name}: {error}")
    if plan.onnx_workers:
        for server in servers:
            if isinstance(server, OpserveServer) and server.name not in findings.failures:
                report(f"     {onnx_workers(server.name)}: starting")
                _measure_onnx_workers(server, files, findings)
    findings.measurements = medians(findings.measurements)
    return findings


def _measure_all(
    server: Server,
    tasks: Sequence[tuple[Workload, int]],
    plan: Plan,
    files: Path,
    python: Path | None,
    findings: Findings,
) -> Iterator[Measurement]:
    models = list(dict.fromkeys(workload.model for workload, _ in tasks))
    with work_folder() as folder:
        begin = time.monotonic()
        with server.launch(models, files, python, folder) as running:
            running.wait_ready(tasks[0][0])
            findings.starts_s.setdefault(server.name, []).append(time.monotonic() - begin)
            if plan.first_warm_up_s:
                running.warm_up(tasks[0][0], plan.first_warm_up_s)
            for workload, connections in tasks:
                try:
                    yield measure(running, workload, connections, plan.seconds, plan.warm_up_s)
                except (WrongResponse, OpserveError) as error:
                    # The other workloads may succeed.
                    findings.failures[f"{server.name}: {workload.name}, {workload.operator}"] = str(error)
            if isinstance(running, RunningTorchServe) and server.name not in findings.worker_memory:
                _measure_workers(running, models[0], findings, server.name)


def _measure_workers(running: RunningTorchServe, model: str, findings: Findings, name: str) -> None:
    """Measures the memory of a TorchServe's worker, and the time until a second one responds."""
    workers = set(running.workers(model))
    others = {process.pid for process in running.processes.find()} - workers
    findings.worker_memory[name] = running.processes.memory(others)
    findings.scale_s[name] = running.scale(model, 2)
    ages = [age_s(pid) for pid in set(running.workers(model)) - workers]
    if ages:
        findings.worker_starts_s[name] = min(ages)


def _measure_onnx_workers(server: OpserveServer, files: Path, findings: Findings) -> None:
    name = onnx_workers(server.name)
    try:
        with work_folder() as folder, server.launch([ONNX], files, None, folder) as running:
            _measure_workers(running, ONNX, findings, name)
    except OpserveError as error:
        findings.failures[name] = str(error)


def medians(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Combines the rounds of each measurement into one."""
    groups: dict[tuple, list[Measurement]] = {}
    for each in measurements:
        groups.setdefault((each.server, each.workload, each.operator, each.connections), []).append(each)
    combined = []
    for rounds in groups.values():
        values: dict[str, Any] = asdict(rounds[0])
        for name in ("rate", "p50_ms", "p99_ms", "cpu_ms"):
            values[name] = statistics.median(getattr(each, name) for each in rounds)
        for name in ("requests", "errors"):
            values[name] = sum(getattr(each, name) for each in rounds)
        for name in ("memory", "generator_cpu", "generator_limited"):
            values[name] = max(getattr(each, name) for each in rounds)
        combined.append(Measurement(**values | {"rounds": len(rounds)}))
    return combined


def format_measurement(measurement: Measurement) -> str:
    """One line of progress."""
    limit = "  limited by the load generator" if measurement.generator_limited else ""
    return (
        f"{measurement.server:20} {measurement.workload:15} {measurement.operator:8} "
        f"{measurement.connections:3} connections {measurement.rate:9.1f}/s  p50 {measurement.p50_ms:8.2f} ms  "
        f"p99 {measurement.p99_ms:8.2f} ms  {measurement.errors} errors{limit}"
    )
