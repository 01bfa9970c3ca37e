"""The limits of the frontend agree with each other on machines of every size, and with the shipped or edited values."""

import re
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from archive.repository import ROOT
from scripts.setup import checks
from scripts.torchserve import frontend_limits, java, machine
from scripts.torchserve.configuration import read_properties
from scripts.torchserve.fitting import write_fitted_config
from scripts.torchserve.frontend_limits import MIB, FrontendLimits, ModelQueue, fit_limits, required_heap
from scripts.torchserve.machine import Machine
from scripts.torchserve.server import Server

GIB = 1024 * MIB
SHIPPED = read_properties(ROOT / "config.properties")
# The shipped models: three of them one request at a time, two in batches of eight.
FIVE = [ModelQueue(None, 1)] * 3 + [ModelQueue(None, 8)] * 2


@pytest.mark.parametrize("memory", [1, 2, 3, 4, 6, 8, 16, 23, 24, 64, 512])
@pytest.mark.parametrize(
    "queues", [[], [ModelQueue(None, 1)], FIVE, [ModelQueue(None, 8)] * 12, [ModelQueue(300, 2), ModelQueue(None, 1)]]
)
@pytest.mark.parametrize(("request_size", "queue"), [(20 * MIB, 64), (64 * MIB, 100), (6553500, 100), (1000, 8)])
def test_full_queues_of_the_largest_requests_fit_into_the_heap(
    memory: int, queues: list[ModelQueue], request_size: int, queue: int
) -> None:
    found = fit_limits(memory * GIB, queues, request_size, queue)
    held = sum((each.size or found.queue) * found.request for each in queues)
    assert found.fits == (found.required <= found.heap)
    assert not found.fits or held < found.heap
    assert found.heap + found.direct <= 0.75 * memory * GIB
    assert 1 <= found.queue <= queue and 1 <= found.request <= request_size
    # Nothing is lowered that fits.
    if required_heap(request_size, queue, queues or [ModelQueue(None, 1)]) <= memory * GIB // 2 < 30 * GIB:
        assert (found.request, found.queue) == (request_size, queue)


def test_the_longest_queues_go_first_then_the_largest_requests() -> None:
    large = fit_limits(64 * GIB, FIVE, 20 * MIB, 100)
    assert (large.request, large.queue) == (20 * MIB, 100)
    less = fit_limits(26 * GIB, FIVE, 20 * MIB, 100)
    assert less.request == 20 * MIB and 64 <= less.queue < 100
    small = fit_limits(12 * GIB, FIVE, 20 * MIB, 100)
    assert small.queue == 64 and frontend_limits.FAIR_REQUEST <= small.request < 20 * MIB and small.request % MIB == 0
    tiny = fit_limits(4 * GIB, FIVE, 20 * MIB, 100)
    assert tiny.request == frontend_limits.FAIR_REQUEST and 1 <= tiny.queue < 64 and tiny.fits
    assert not fit_limits(GIB // 2, FIVE, 20 * MIB, 100).fits


def test_a_heap_that_the_user_fixed_stays_and_the_rest_is_fitted_to_it() -> None:
    found = fit_limits(64 * GIB, FIVE, 64 * MIB, 100, heap=GIB)
    assert found.heap == GIB and found.fits and found.request < 64 * MIB
    flags = frontend_limits.fit_java_flags(found, ["-Xms64m", "-Xmx1g", f"{frontend_limits.DIRECT_FLAG}7"])
    bounds = [f"{flag}{found.direct}" for flag in (frontend_limits.DIRECT_FLAG, frontend_limits.JAVA_DIRECT_FLAG)]
    assert flags == ["-Xms64m", "-Xmx1g", *bounds]
    assert frontend_limits.read_configured({"vmargs": "-Xms64m -Xmx1g -XX:MaxHeapSize=2048k"})[2] == 2 * MIB
    assert frontend_limits.read_configured({}) == (6553500, 100, None)
    assert [frontend_limits.parse_size(text) for text in ("12", "3k", "5M", "2g", "1T", "x", "1x", "")] == [
        12, 3 * 1024, 5 * MIB, 2 * GIB, 1024 * GIB, None, None, None,
    ]  # fmt: skip


def test_the_shipped_values_fit_five_models_into_24_gb_of_memory() -> None:
    request, queue, heap = frontend_limits.read_configured(SHIPPED)
    found = fit_limits(24_684_084 * 1024, FIVE, request, queue, heap)
    assert (found.request, found.queue) == (request, queue)
    assert found.queue >= 64 and found.request >= 20 * MIB


def test_java_takes_the_shipped_flags_and_half_of_the_memory(tmp_path: Path) -> None:
    found, _ = java.find_java(ROOT)
    flags = SHIPPED["vmargs"].split()
    done = subprocess.run(
        [found.home / "bin" / "java", *flags, "-XX:+PrintFlagsFinal", "-version"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    heap = int(re.search(r"\bMaxHeapSize += (\d+)", done.stdout)[1])
    memory, _ = machine.find_memory()
    assert heap == pytest.approx(memory / 2, rel=0.02)
    # A torchserve typed by hand has these limits: they agree if five models fit into this machine.
    request, queue, _ = frontend_limits.read_configured(SHIPPED)
    assert heap >= required_heap(request, queue, FIVE) or memory < 24_000_000 * 1024


def archive(folder: Path, config: str | None) -> Path:
    path = folder / "model.mar"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("MAR-INF/MANIFEST.json", "{}")
        if config is not None:
            file.writestr("model-config.yaml", config)
    return path


@pytest.mark.parametrize(
    ("config", "queue"),
    [
        (None, ModelQueue(None, 1)),
        ("minWorkers: 1\nmaxWorkers: 16\nbatchSize: 8\n", ModelQueue(None, 4 * 8)),
        ("minWorkers: 6\nmaxWorkers: 16\nbatchSize: 8\n", ModelQueue(None, 6 * 8)),
        ('jobQueueSize: 500 # long\n"batchSize" : 2\nmaxWorkers: 2\n', ModelQueue(500, 2 * 2)),
        ("opserve:\n  jobQueueSize: 9\n  batchSize: 9\njobQueueSize: many\n", ModelQueue(None, 1)),
    ],
)
def test_a_models_own_queue_and_batches_count(tmp_path: Path, config: str | None, queue: ModelQueue) -> None:
    assert frontend_limits.read_queue(archive(tmp_path, config), workers=4) == queue


def test_a_file_that_is_not_an_archive_counts_as_one_model(tmp_path: Path) -> None:
    (tmp_path / "model.mar").write_bytes(b"not a zip file")
    assert frontend_limits.read_queue(tmp_path / "model.mar") == ModelQueue(None, 1)


def test_the_fitted_configuration_holds_the_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv(machine.MEMORY_VARIABLE, "2048")
    (tmp_path / "config.properties").write_text((ROOT / "config.properties").read_text())
    server = Server(tmp_path)
    try:
        fitted = read_properties(write_fitted_config(server, Machine(2, "")))
    finally:
        server.remove_temp()
    found = fit_limits(2 * GIB, [], 20 * MIB, 64)
    assert (int(fitted["max_request_size"]), int(fitted["job_queue_size"])) == (found.request, found.queue)
    flags = fitted["vmargs"].split()
    assert f"-Xmx{found.heap // MIB}m" in flags and f"{frontend_limits.DIRECT_FLAG}{found.direct}" in flags
    assert not any(flag.startswith(frontend_limits.SHARE_FLAG) for flag in flags)
    assert sum(flag.startswith(frontend_limits.DIRECT_FLAG) for flag in flags) == 1
    assert "note: fitted to 2048 MiB (OPSERVE_MEMORY_MIB)" in capsys.readouterr().err


def test_the_doctor_prints_the_limits_and_warns_where_the_machine_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(machine.MEMORY_VARIABLE, str(512 * 1024))
    monkeypatch.setattr(java, "find_java", lambda root: (java.Java(root, 17, "PATH"), []))
    state, text, fix = checks.CHECKS["limits"]()
    assert (state, fix) == (checks.OK, "")
    assert re.match(
        r"heap \d+ MiB, direct memory 4096 MiB; largest request 20 MiB, 64 waiting for each model, \d+ connections",
        text,
    )
    monkeypatch.setattr(java, "find_java", lambda root: (java.Java(root, 21, "PATH"), []))
    state, text, fix = checks.CHECKS["limits"]()
    assert state == checks.NONE and "Java 21" in text and "JAVA_HOME" in fix
    monkeypatch.setenv(machine.MEMORY_VARIABLE, "8192")
    state, text, fix = checks.CHECKS["limits"]()
    assert state == checks.NONE and "config.properties asks for 20 MiB and 64" in text and "`make start` lowers" in fix
    monkeypatch.setenv(machine.MEMORY_VARIABLE, "64")
    state, text, fix = checks.CHECKS["limits"]()
    assert state == checks.NONE and "full queues would take" in text and "fewer models" in fix
    monkeypatch.setenv(machine.MEMORY_VARIABLE, "much")
    assert checks.CHECKS["limits"]()[:2] == (checks.FAIL, "OPSERVE_MEMORY_MIB: expected a number of MiB, got 'much'")


def test_handles_are_bounded_and_crashes_leave_no_core() -> None:
    report = (
        "import resource, sys; sys.path.insert(0, sys.argv[1]); "
        "from scripts.torchserve import frontend_limits; frontend_limits.restrict_process()"
    )
    report += "; print(*resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE)[0])"
    done = subprocess.run([sys.executable, "-c", report, ROOT], capture_output=True, text=True, check=True)
    soft, hard, core = map(int, done.stdout.split())
    assert soft == hard <= frontend_limits.MAX_CONNECTIONS and core == 0
    assert hard == min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], frontend_limits.MAX_CONNECTIONS)


def test_limits_are_readable() -> None:
    assert str(FrontendLimits(1024 * MIB, 256 * MIB, 6553500, 64, 900, 0)) == (
        "heap 1024 MiB, direct memory 256 MiB; largest request 6.25 MiB, 64 waiting for each model, 900 connections"
    )
