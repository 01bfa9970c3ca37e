"""A model's two packing profiles on a server, and the switches that go with them."""

import os
from pathlib import Path

import pytest

from archive.packer.contents import ArchiveContents
from archive.packer.pack import pack
from tests.support.torchserve import TorchServe, serving

pytestmark = pytest.mark.server

CORES = 6  # half of them are the frontend's


@pytest.fixture(scope="module", params=["latency", "throughput"])
def served(request, runtime, tmp_path_factory):
    """`scaled_add` packed with a profile, on a machine that seems to have six cores."""
    folder = tmp_path_factory.mktemp(request.param)
    archive, _ = pack(ArchiveContents.from_model("scaled_add", profile=request.param), folder, runtime=runtime)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPSERVE_CORES", str(CORES))
        with serving(folder / "home", [archive]) as server:
            yield request.param, server


def test_batches_workers_and_threads_are_the_profiles(served):
    profile, server = served
    described = server.describe("scaled_add")
    by_worker = server.describe_by_worker("scaled_add")
    got = described["batchSize"], described["maxBatchDelay"], len(described["workers"]), by_worker["threads"]
    assert got == {"latency": (1, 1, 1, CORES // 2), "throughput": (8, 1, CORES // 2, 1)}[profile]
    assert by_worker["profile"] == profile
    # The number that a later `make scale` may ask for.
    assert described["maxWorkers"] == {"latency": 1, "throughput": 16}[profile]
    assert server.predict("scaled_add", json={"x": [1], "y": [2]}).json() == {"z": [4]}


def test_a_request_is_a_line_of_the_access_log_and_of_no_other_log(served):
    _, server = served
    logs = server.home / "logs"
    before = {path.name: len(path.read_text().splitlines()) for path in logs.glob("*.log")}
    for _ in range(20):
        assert server.predict("scaled_add", json={"x": [1], "y": [2]}).status_code == 200
    server.metrics()
    after = {path.name: path.read_text().splitlines() for path in logs.glob("*.log")}
    asked = [line for line in after["access_log.log"][before["access_log.log"] :] if "/predictions/" in line]
    assert len(asked) == 20 and all('"POST /predictions/scaled_add HTTP/1.1" 200' in line for line in asked)
    for name in ("ts_log.log", "model_log.log"):
        assert not [line for line in after[name] if "Backend re" in line or "[METRICS]" in line or "jobId" in line]
        assert len(after[name]) < before[name] + 20, name


def test_the_pool_of_java_has_the_machines_threads(served):
    _, server = served
    flags = server.server.require_running().cmdline()
    assert f"-Djava.util.concurrent.ForkJoinPool.common.parallelism={CORES - 1}" in flags


def test_a_quiet_server_logs_nothing_about_a_request(tmp_path: Path):
    archive, _ = pack(ArchiveContents.from_model("scaled_add"), tmp_path)
    server = TorchServe(tmp_path / "home", [archive])
    try:
        started = server.start("--quiet")
        assert started.returncode == 0, started.stderr
        for _ in range(3):
            assert server.predict("scaled_add", json={"x": [1], "y": [2]}).json() == {"z": [4]}
        # TorchServe's own counters stay.
        assert "ts_inference_requests_total{" in server.metrics().text
        assert "opserve_requests_total{" not in server.metrics().text and "PredictionTime{" not in server.metrics().text
        logs = server.home / "logs"
        assert (logs / "access_log.log").read_text() == ""
        assert "Backend received" not in server.model_log()
        assert "Torch worker started." in server.model_log()
        assert server.start("--quiet").returncode == 0
    finally:
        server.stop()


def test_a_server_that_runs_is_not_made_quiet(served):
    _, server = served
    failed = server.start("--quiet")
    assert failed.returncode == 1
    assert "it runs with its access log and metrics" in failed.stderr
    assert "make stop start QUIET=1" in failed.stderr
    assert os.environ.get("OPSERVE_METRICS") is None
