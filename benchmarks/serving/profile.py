"""Where the processor time of a request goes in opserve's server: `python -m benchmarks.serving.profile`.

Each workload is sent to a server of its own. The threads of the frontend tell what they are by their
names. What the handler does of the worker's time is what its own metrics say, which is time by the clock: on a machine
that does other work too, it may be more than the process got. The rest of that process is the socket, TorchServe's
protocol and Python's own housekeeping.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from archive.errors import OpserveError
from archive.process.command import run
from benchmarks.payloads import shared_region
from benchmarks.serving.rounds import send, warm_up
from benchmarks.serving.servers import work_folder
from benchmarks.serving.torchserves import OPSERVE, TorchServeRunning, opserve_archives, opserve_server
from benchmarks.serving.workloads import REGION_BYTES, Workload, prepare
from handlers.metrics import INTERVAL_S
from scripts.load import wrk as loadtest_wrk

THREADS = {
    "frontend: network": r"epollEventLoop.*",
    "frontend: the worker's thread": r"W-\d+.*",
    "frontend: compiling": r"C[12] .*",
    "frontend: collecting": r"G1 .*|GC .*|VM Thread",
}
REST, WORKER_REST = "frontend: the rest", "worker: socket, protocol, the rest"
HANDLER = {
    "worker: decode": "opserve_decode_seconds_total",
    "worker: collate, split": "opserve_collate_seconds_total",
    "worker: op": "opserve_inference_seconds_total",
    "worker: encode": "opserve_encode_seconds_total",
}
TOTAL = "together"
REQUESTS = "opserve_requests_total"
WARM_UP_S, WAIT_S = 10, 20.0


def thread_seconds(pid: int) -> dict[str, tuple[str, float]]:
    """Processor time of every thread of a process so far, with its name, by its id."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name, used = (task / "comm").read_text().strip(), (task / "schedstat").read_text().split()[0]
        except OSError:  # it has ended
            continue
        found[task.name] = name, int(used) / 1e9
    return found


def seconds(running: TorchServeRunning, workers: set[int]) -> Counter[str]:
    """Processor time so far of each kind of thread of the frontend, and of the workers."""
    total: Counter[str] = Counter()
    for process in running.processes.find():
        for name, used in thread_seconds(process.pid).values():
            if process.pid in workers:
                total["worker"] += used
            else:
                total[next((title for title, names in THREADS.items() if re.fullmatch(names, name)), REST)] += used
    return total


def read_metrics(running: TorchServeRunning) -> dict[str, float]:
    """The sums of the server's metrics by name, over what else tells them apart."""
    sums: Counter[str] = Counter()
    for line in running.metrics().splitlines():
        found = re.fullmatch(r"(\w+)(?:\{.*\})? (\S+)", line)
        if found:
            sums[found[1]] += float(found[2])
    return dict(sums)


def await_requests(running: TorchServeRunning, requests: float) -> dict[str, float]:
    """The metrics, once the worker has told of so many requests: it does so once a second."""
    deadline = time.monotonic() + WAIT_S
    while True:
        found = read_metrics(running)
        if found.get(REQUESTS, 0) >= requests:
            return found
        if time.monotonic() > deadline:
            raise OpserveError(
                f"{running.server.name} tells of {found.get(REQUESTS, 0):.0f} of {requests:.0f} requests"
            )
        time.sleep(0.1)


def settled_metrics(running: TorchServeRunning) -> dict[str, float]:
    """The metrics of a server that is asked nothing, once the worker has told of all it did."""
    found = read_metrics(running)
    while True:
        time.sleep(1.5 * INTERVAL_S)
        before, found = found, read_metrics(running)
        if before.get(REQUESTS) == found.get(REQUESTS):
            return found


def profile(running: TorchServeRunning, workload: Workload, connections: int, duration: int) -> dict[str, float]:
    """Microseconds of processor time for one request by where they go; `queue` is time by the clock."""
    warm_up(running, workload, WARM_UP_S)
    running.ask(workload)
    workers = set(running.workers(workload.model))
    metrics = settled_metrics(running)
    before = seconds(running, workers)
    load = send(running, workload, connections, duration)
    used = seconds(running, workers)
    used.subtract(before)
    told = await_requests(running, metrics[REQUESTS] + load.requests)
    added = {name: (value - metrics.get(name, 0)) / load.requests for name, value in told.items()}
    shares = {title: used[title] / load.requests * 1e6 for title in (*THREADS, REST)}
    handler = {title: added[name] * 1e6 for title, name in HANDLER.items()}
    shares |= handler | {WORKER_REST: used["worker"] / load.requests * 1e6 - sum(handler.values())}
    return shares | {
        TOTAL: sum(used.values()) / load.requests * 1e6,
        "requests/s": load.rate,
        "queue": added["ts_queue_latency_microseconds"],
        "requests in a batch": 1 / added["opserve_batches_total"],
    }


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """A column for each workload."""
    rows = ["| | " + " | ".join(found) + " |", "| --- |" + " ---: |" * len(found)]
    for title in next(iter(found.values())):
        digits = 1 if title == "requests in a batch" else 0
        rows.append(f"| {title} | " + " | ".join(f"{each[title]:,.{digits}f}" for each in found.values()) + " |")
    return "\n".join(rows)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.profile", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=6, help="of each measurement (6)")
    parser.add_argument("--connections", type=int, default=8, help="at a time (8)")
    parser.add_argument("--profile", choices=OPSERVE, default="latency", help="of the models (latency)")
    options = parser.parse_args(arguments)
    loadtest_wrk.require()
    found = {}
    with tempfile.TemporaryDirectory(prefix="opserve-profile-") as name, shared_region(REGION_BYTES) as region:
        files = Path(name)
        sent = [each for each in prepare(files, region) if each.operator == "opserve"]
        server = opserve_server(options.profile, opserve_archives(options.profile, files, files / "store"))
        for workload in sent:
            with work_folder() as folder, server.launch([workload.model], files, None, folder) as running:
                running.wait(workload)
                found[workload.name] = profile(running, workload, options.connections, options.seconds)
    print(f"{options.profile}, {options.connections} connections; microseconds a request\n\n{table(found)}")
    return 0


if __name__ == "__main__":
    run(main)
