"""Measures what each request format costs the server: the graph model receives the same graph in all of them.

Requests per second, and ms of processor time that all processes of the server take for one request; the best of several
turns, in which the formats alternate. Needs wrk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from archive.errors import OpserveError
from archive.process.command import run
from benchmarks.common import graph
from benchmarks.common.command import describe_machine, make_parser, markdown_table, write_results
from benchmarks.common.payloads import shared_region
from benchmarks.common.timing import take_turns
from benchmarks.common.workloads import REGION_BYTES, SHARED_MEMORY, Workload
from benchmarks.serving.archives import GRAPH, pack_models
from benchmarks.serving.rounds import measure
from benchmarks.serving.servers import work_folder
from benchmarks.serving.torchserves import make_opserve
from scripts.load import wrk

FORMATS = ("npz", "npz, float16", "npz, gzip", "oip, binary", SHARED_MEMORY, "json")
CONNECTIONS = (1, 8)
SECONDS, TURNS, WARM_UP_S = 4, 3, 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    options = make_parser("wire", __doc__, only="formats").parse_args(arguments)
    wrk.require()
    seconds, turns = (1, 1) if options.quick else (SECONDS, TURNS)
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="opserve-bench-wire-") as name, shared_region(REGION_BYTES) as region:
        files = Path(name)
        inputs, outputs = graph.write_network(files)
        # Sixteenths are the same numbers in float16.
        inputs["x"] = (inputs["x"] * 16).round() / 16
        outputs = graph.run_network(files, inputs)
        sent = [
            Workload(GRAPH, each, inputs, outputs, region=region if each == SHARED_MEMORY else None)
            for each in FORMATS
            if options.only.search(each)
        ]
        if not sent:
            raise OpserveError(f"no format matches {options.only.pattern}; there are: {'; '.join(FORMATS)}")
        server = make_opserve("latency", pack_models("latency", files, files / "store", (GRAPH,)))
        with work_folder() as folder, server.launch([GRAPH], files, None, folder) as running:
            running.wait_ready(sent[0])
            running.warm_up(sent[0], 1 if options.quick else WARM_UP_S)
            tasks = {
                (workload.format, connections): partial(measure, running, workload, connections, seconds, 0)
                for connections in CONNECTIONS
                for workload in sent
            }
            measured = take_turns(tasks, lambda done: done >= turns)
        sizes = {workload.format: len(workload.payload().body) for workload in sent}
    best = {key: (max(m.rate for m in found), min(m.cpu_ms for m in found)) for key, found in measured.items()}
    rows = [
        (each, f"{size:,}", *(f"{best[each, count][0]:.0f}/s, {best[each, count][1]:.2f} ms" for count in CONNECTIONS))
        for each, size in sizes.items()
    ]
    table = markdown_table(("format", " bytes", *(f" connections: {count}" for count in CONNECTIONS)), rows)
    print(table)
    write_results(
        options.output,
        "wire",
        title="Request formats",
        introduction="Requests per second, and ms of processor time per request.",
        machine=machine,
        body=table,
        figures={"measurements": [asdict(each) for found in measured.values() for each in found]},
    )
    return 0


if __name__ == "__main__":
    run(main)
