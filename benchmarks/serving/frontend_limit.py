"""What TorchServe itself allows: `python -m benchmarks.serving.frontend_limit`.

`scaled_add` in the profile `throughput` beside a handler that answers a constant, in turns: the second is the most that
any handler could reach behind this frontend.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from archive.contents import contents_of_model
from archive.pack import pack
from benchmarks.serving import workloads
from benchmarks.serving.rounds import send, warm_up
from benchmarks.serving.servers import work_folder
from benchmarks.serving.torchserves import opserve_server
from benchmarks.serving.workloads import Workload
from scripts import loadtest_wrk
from scripts.errors import OpserveError, run
from scripts.server import ROOT

CONSTANT = "constant"
CONFIG = "minWorkers: 1\nmaxWorkers: 1\nbatchSize: 8\nmaxBatchDelay: 1\nresponseTimeout: 60\n"
CONNECTIONS = (1, 8, 32)
WARM_UP_S = 10


def pack_constant(store: Path) -> None:
    """Packs the handler that does nothing, with the modules by which opserve's reads a batch."""
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch, "model-config.yaml")
        config.write_text(CONFIG)
        modules = [str(ROOT / "handlers" / f"{name}.py") for name in ("batch_message", "read_ahead")]
        command = [sys.executable, "-m", "model_archiver.model_packaging", "--model-name", CONSTANT, "--version", "1.0"]
        command += ["--handler", str(Path(__file__).with_name("constant_handler.py"))]
        command += ["--extra-files", ",".join(modules), "--config-file", str(config), "--export-path", str(store)]
        done = subprocess.run(command, env={"TMPDIR": scratch}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OpserveError(f"torch-model-archiver: {done.stderr.strip()[-300:]}")


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
        pack(contents_of_model(tiny.model, profile="throughput"), store)
        pack_constant(store)
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
