"""Measures the rate that TorchServe's frontend allows any handler, in requests per second.

The model scaled_add in the profile `throughput` alternates with a handler that returns a constant. Needs wrk.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import yaml

from archive.packer.archiver import run_model_archiver
from archive.packer.contents import ArchiveContents
from archive.packer.pack import pack
from archive.process.command import run
from archive.repository import ROOT
from benchmarks.common import workloads
from benchmarks.common.command import describe_machine, make_parser, markdown_table, write_results
from benchmarks.common.timing import take_turns
from benchmarks.common.workloads import Workload
from benchmarks.serving.servers import Server, work_folder
from benchmarks.serving.torchserves import make_opserve
from scripts.load import wrk

CONSTANT = "constant"
CONNECTIONS = (1, 8, 32)
SECONDS, TURNS, WARM_UP_S = 4, 2, 10


def pack_constant(document: Mapping[str, object], store: Path) -> None:
    """Packs the handler that returns a constant, with a model's configuration of the server."""
    config, modules = store / "constant.yaml", store / "modules"
    config.write_text(yaml.safe_dump({key: value for key, value in document.items() if key != "opserve"}))
    shutil.copytree(ROOT / "handlers", modules / "handlers", ignore=shutil.ignore_patterns("__pycache__"))
    handler = Path(__file__).with_name("constant_handler.py")
    run_model_archiver(CONSTANT, handler, store, config=config, extra_files=[modules])


def measure(server: Server, workload: Workload, store: Path, seconds: int, warm_up_s: int) -> list[float]:
    """Measures the rates of a workload with each number of connections, on a server that is started for it."""
    with work_folder() as folder, server.launch([workload.model], store, None, folder) as running:
        running.wait_ready(workload)
        running.warm_up(workload, warm_up_s)
        rates = [running.load(workload, count, seconds).rate for count in CONNECTIONS]
    print(f"{workload.model}: {', '.join(f'{rate:,.0f}/s' for rate in rates)}", flush=True)
    return rates


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    options = make_parser("frontend_limit", __doc__).parse_args(arguments)
    wrk.require()
    seconds, turns, warm_up_s = (1, 1, 2) if options.quick else (SECONDS, TURNS, WARM_UP_S)
    machine, tiny = describe_machine(), workloads.tiny()
    constant = Workload(CONSTANT, tiny.format, tiny.inputs, tiny.outputs)
    with tempfile.TemporaryDirectory(prefix="opserve-bench-frontend-") as name:
        store = Path(name)
        contents = ArchiveContents.from_model(tiny.model, profile="throughput")
        pack(contents, store)
        pack_constant(contents.document, store)
        server = make_opserve("throughput", store)
        tasks = {
            workload.model: partial(measure, server, workload, store, seconds, warm_up_s)
            for workload in (tiny, constant)
        }
        measured = take_turns(tasks, lambda done: done >= turns)
    rows = [
        (model, *(f"{min(rates):,.0f} to {max(rates):,.0f}" for rates in zip(*runs, strict=True)))
        for model, runs in measured.items()
    ]
    table = markdown_table(("handler", *(f" connections: {count}" for count in CONNECTIONS)), rows)
    print(table)
    write_results(
        options.output,
        "frontend_limit",
        title="The limit of TorchServe's frontend",
        introduction="Requests per second in the profile `throughput`.",
        machine=machine,
        body=table,
        figures={"rates": measured},
    )
    return 0


if __name__ == "__main__":
    run(main)
