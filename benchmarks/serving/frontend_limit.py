"""What TorchServe itself allows: `python -m benchmarks.serving.frontend_limit`.

`scaled_add` in the profile `throughput` beside a handler that answers a constant, in turns: the second is the most that
any handler could reach behind this frontend.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from archive.packer.archiver import run_model_archiver
from archive.packer.contents import ArchiveContents
from archive.packer.pack import pack
from archive.process.command import run
from archive.repository import ROOT
from benchmarks.serving import workloads
from benchmarks.serving.rounds import send, warm_up
from benchmarks.serving.servers import work_folder
from benchmarks.serving.torchserves import opserve_server
from benchmarks.serving.workloads import Workload
from scripts.load import wrk as loadtest_wrk

CONSTANT = "constant"
CONNECTIONS = (1, 8, 32)
WARM_UP_S = 10


def pack_constant(document: Mapping[str, object], store: Path) -> None:
    """Packs the handler that does nothing, with the server's settings of a model and the modules that it imports."""
    modules = store / "modules"
    shutil.copytree(ROOT / "handlers", modules / "handlers", ignore=shutil.ignore_patterns("__pycache__"))
    config = store / "constant.yaml"
    config.write_text(yaml.safe_dump({key: value for key, value in document.items() if key != "opserve"}))
    handler = Path(__file__).with_name("constant_handler.py")
    run_model_archiver(CONSTANT, handler, store, config=config, extra_files=modules)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.frontend_limit", description=__doc__)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement (4)")
    parser.add_argument("--turns", type=int, default=2, help="of each handler (2)")
    options = parser.parse_args(arguments)
    loadtest_wrk.require()
    tiny = workloads.tiny()
    constant = Workload(CONSTANT, tiny.format, tiny.inputs, tiny.outputs)
    print("| handler | " + " | ".join(f"{count} connection{'s' * (count > 1)}" for count in CONNECTIONS) + " |")
    print("| --- |" + " ---: |" * len(CONNECTIONS))
    with tempfile.TemporaryDirectory(prefix="opserve-limit-") as name:
        store = Path(name)
        contents = ArchiveContents.from_model(tiny.model, profile="throughput")
        pack(contents, store)
        pack_constant(contents.document, store)
        server = opserve_server("throughput", store)
        for turn in range(options.turns):
            for workload in (tiny, constant)[:: -1 if turn % 2 else 1]:
                with work_folder() as folder, server.launch([workload.model], store, None, folder) as running:
                    running.wait(workload)
                    warm_up(running, workload, WARM_UP_S)
                    rates = [send(running, workload, count, options.seconds).rate for count in CONNECTIONS]
                print(f"| {workload.model} | " + " | ".join(f"{rate:,.0f}/s" for rate in rates) + " |", flush=True)
    return 0


if __name__ == "__main__":
    run(main)
