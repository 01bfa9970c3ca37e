"""Measures where opserve's server spends processor time on a request, in µs per request, for each workload.

The frontend's time is divided by the names of its threads. Of the worker's time, decode, collate, op and encode are
what its own metrics report: elapsed time, which on a busy machine may exceed its processor time. The rest of the worker
is the socket, TorchServe's protocol and Python itself. `queue` is elapsed time. Needs wrk.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from archive.errors import OpserveError
from archive.process.command import run
from benchmarks.common.command import describe_machine, make_parser, markdown_table, write_results
from benchmarks.common.payloads import shared_region
from benchmarks.common.workloads import REGION_BYTES, Workload, prepare
from benchmarks.serving.archives import pack_models
from benchmarks.serving.servers import work_folder
from benchmarks.serving.torchserves import PROFILES, RunningTorchServe, make_opserve
from handlers.metrics import INTERVAL_S
from scripts.load import wrk

THREADS = {
    "frontend: network": r"epollEventLoop.*",
    "frontend: the worker's thread": r"W-\d+.*",
    "frontend: compiler": r"C[12] .*",
    "frontend: garbage collector": r"G1 .*|GC .*|VM Thread",
}
FRONTEND_REST, WORKER_REST = "frontend: rest", "worker: socket, protocol, rest"
HANDLER = {
    "worker: decode": "opserve_decode_seconds_total",
    "worker: collate, split": "opserve_collate_seconds_total",
    "worker: op": "opserve_inference_seconds_total",
    "worker: encode": "opserve_encode_seconds_total",
}
TOTAL, RATE, QUEUE, BATCH = "total", "requests/s", "queue", "requests in a batch"
REQUESTS = "opserve_requests_total"
CONNECTIONS = 8
SECONDS = 6
WARM_UP_S, WAIT_S = 10, 20.0


def thread_seconds(pid: int) -> list[tuple[str, float]]:
    """Reads the name and the processor time so far of every thread of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name, used = (task / "comm").read_text().strip(), (task / "schedstat").read_text().split()[0]
        except OSError:  # it has ended
            continue
        found.append((name, int(used) / 1e9))
    return found


def cpu_seconds(running: RunningTorchServe, workers: set[int]) -> dict[str, float]:
    """Adds up the processor time so far of each kind of thread of the frontend, and of the workers."""
    total: dict[str, float] = dict.fromkeys((*THREADS, FRONTEND_REST, "worker"), 0.0)
    for process in running.processes.find():
        for name, used in thread_seconds(process.pid):
            kinds = (kind for kind, pattern in THREADS.items() if re.fullmatch(pattern, name))
            total["worker" if process.pid in workers else next(kinds, FRONTEND_REST)] += used
    return total


def read_metrics(running: RunningTorchServe) -> dict[str, float]:
    """Reads the server's metrics, added up by name."""
    sums: defaultdict[str, float] = defaultdict(float)
    for line in running.metrics().splitlines():
        if found := re.fullmatch(r"(\w+)(?:\{.*\})? (\S+)", line):
            sums[found[1]] += float(found[2])
    return dict(sums)


def wait_reported(running: RunningTorchServe, requests: float) -> dict[str, float]:
    """Waits until the worker, which reports once per second, has reported this number of requests."""
    deadline = time.monotonic() + WAIT_S
    while (found := read_metrics(running)).get(REQUESTS, 0) < requests:
        if time.monotonic() > deadline:
            raise OpserveError(f"the worker reported {found.get(REQUESTS, 0):.0f} of {requests:.0f} requests")
        time.sleep(0.1)
    return found


def wait_settled(running: RunningTorchServe) -> dict[str, float]:
    """Waits until a worker that receives no requests has reported all."""
    found = read_metrics(running)
    while True:
        time.sleep(1.5 * INTERVAL_S)
        before, found = found, read_metrics(running)
        if before.get(REQUESTS) == found.get(REQUESTS):
            return found


def measure(running: RunningTorchServe, workload: Workload, connections: int, seconds: int) -> dict[str, float]:
    """Measures the rows of the table for one workload."""
    running.warm_up(workload, WARM_UP_S)
    running.send_once(workload)
    workers = set(running.workers(workload.model))
    metrics = wait_settled(running)
    before = cpu_seconds(running, workers)
    load = running.load(workload, connections, seconds)
    after = cpu_seconds(running, workers)
    reported = wait_reported(running, metrics[REQUESTS] + load.requests)
    used = {kind: (after[kind] - before[kind]) / load.requests * 1e6 for kind in after}
    added = {name: (value - metrics.get(name, 0)) / load.requests for name, value in reported.items()}
    in_worker = used.pop("worker")
    handler = {title: added[name] * 1e6 for title, name in HANDLER.items()}
    return {
        **used,
        **handler,
        WORKER_REST: in_worker - sum(handler.values()),
        TOTAL: sum(used.values()) + in_worker,
        RATE: load.rate,
        QUEUE: added["ts_queue_latency_microseconds"],
        BATCH: 1 / added["opserve_batches_total"],
    }


def tabulate(found: Mapping[str, Mapping[str, float]]) -> str:
    """A column for each workload."""
    rows = [
        (title, *(f"{each[title]:,.{1 if title == BATCH else 0}f}" for each in found.values()))
        for title in next(iter(found.values()))
    ]
    return markdown_table(("", *(f" {name}" for name in found)), rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    options = make_parser("profiling", __doc__, only="workloads").parse_args(arguments)
    wrk.require()
    machine = describe_machine()
    tables, figures = [], {}
    with tempfile.TemporaryDirectory(prefix="opserve-bench-profiling-") as name, shared_region(REGION_BYTES) as region:
        files = Path(name)
        sent = [each for each in prepare(files, region) if each.operator == "opserve"]
        for profile in PROFILES:
            server = make_opserve(profile, pack_models(profile, files, files / profile))
            found = {}
            for workload in filter(lambda each: options.only.search(each.name), sent):
                with work_folder() as folder, server.launch([workload.model], files, None, folder) as running:
                    running.wait_ready(workload)
                    found[workload.name] = measure(running, workload, CONNECTIONS, 1 if options.quick else SECONDS)
                    print(f"{profile}: {workload.name}", flush=True)
            if not found:
                raise OpserveError(f"no workload matches {options.only.pattern}")
            figures[profile] = found
            tables.append(f"Profile `{profile}`, {CONNECTIONS} connections:\n\n{tabulate(found)}")
    body = "\n\n".join(tables)
    print(body)
    write_results(
        options.output,
        "profiling",
        title="The processor time of a request",
        introduction="µs per request.",
        machine=machine,
        body=body,
        figures={"profiles": figures},
    )
    return 0


if __name__ == "__main__":
    run(main)
