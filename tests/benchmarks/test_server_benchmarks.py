"""The benchmarks of opserve's server itself, on a server that is started for them."""

import json
import shutil
from pathlib import Path

import pytest

from archive.repository import ROOT
from benchmarks.common import workloads
from benchmarks.frontend_limit import __main__ as frontend_limit_command
from benchmarks.handler import __main__ as handler_command
from benchmarks.profiling import __main__ as profiling_command
from benchmarks.serving import servers, torchserves
from benchmarks.wire import __main__ as wire_command

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed (apt install wrk)")


@needs_wrk
@pytest.mark.server
def test_the_processor_time_of_a_request_is_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling_command, "WARM_UP_S", 2)
    server = torchserves.make_opserve("latency", ROOT / "model_store")
    with servers.work_folder() as folder, server.launch(["scaled_add"], tmp_path, None, folder) as running:
        running.wait_ready(workloads.tiny())
        found = profiling_command.measure(running, workloads.tiny(), 2, 1)
    assert found["requests/s"] > 0 and found["requests in a batch"] == pytest.approx(1, abs=0.1)
    parts = [value for title, value in found.items() if title.startswith(("frontend", "worker"))]
    assert sum(parts) == pytest.approx(found["total"])
    assert min(found["frontend: network"], found["worker: op"], found["worker: decode"], found["queue"]) > 0
    assert profiling_command.tabulate({"tiny": found}).startswith("|  |  tiny |")


@needs_wrk
@pytest.mark.server
def test_a_constant_handler_is_the_limit(tmp_path: Path) -> None:
    assert frontend_limit_command.main(["--quick", "--output", str(tmp_path)]) == 0
    rates = json.loads((tmp_path / "frontend_limit.json").read_text())["rates"]
    assert rates.keys() == {"scaled_add", "constant"}
    assert min(rate for runs in rates.values() for run in runs for rate in run) > 0


@needs_wrk
@pytest.mark.server
def test_formats_are_measured_on_a_server(tmp_path: Path) -> None:
    arguments = ["--quick", "--only", "float16|binary|shared memory", "--output", str(tmp_path)]
    assert wire_command.main(arguments) == 0
    measurements = json.loads((tmp_path / "wire.json").read_text())["measurements"]
    assert len(measurements) == 6 and all(each["rate"] > 0 and each["cpu_ms"] > 0 for each in measurements)


def test_the_steps_of_a_request_are_measured(tmp_path: Path) -> None:
    assert handler_command.main(["--quick", "--only", "^npz$", "--output", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "handler.json").read_text())
    assert figures["steps_us"]["npz"].keys() == set(handler_command.STEPS)
    assert min(figures["steps_us"]["npz"].values()) > 0
    assert figures["overhead_us"]["npz"].keys() == {"1", "8", "32"}
