"""The cores and the memory that a server may use, and the numbers of threads that follow."""

import os
from pathlib import Path

import pytest

from archive.errors import OpserveError
from scripts.torchserve import machine
from scripts.torchserve.fitting import write_fitted_config
from scripts.torchserve.machine import Machine
from scripts.torchserve.server import Server


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(machine.CORES_VARIABLE, raising=False)
    monkeypatch.delenv(machine.MEMORY_VARIABLE, raising=False)


class Groups:
    """A stand-in for the kernel's files about control groups."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.root = folder / "cgroup", folder / "fs"
        self.root.mkdir()

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(f"{text}\n")

    def quota(self, member: str) -> float | None:
        self.proc.write_text(f"{member}\n")
        return machine.cpu_quota(self.proc, self.root)


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    return Groups(tmp_path)


def test_a_quota_of_version_2(groups: Groups) -> None:
    groups.write("a/b/cpu.max", "max 100000")
    assert groups.quota("0::/a/b") is None
    groups.write("a/b/cpu.max", "350000 100000")
    assert groups.quota("0::/a/b") == 3.5
    # The quota of the group around it applies as well.
    groups.write("a/cpu.max", "150000 100000")
    assert groups.quota("0::/a/b") == 1.5
    assert groups.quota("0::/") is None
    # A container sees its own group as the root, whatever path the process has on the host.
    groups.write("cpu.max", "50000 100000")
    assert groups.quota("0::/of/the/host") == 0.5


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_a_quota_of_version_1(groups: Groups, mount: str) -> None:
    groups.write(f"{mount}/a/cpu.cfs_period_us", "100000")
    groups.write(f"{mount}/a/cpu.cfs_quota_us", "-1")
    assert groups.quota("4:cpu,cpuacct:/a") is None
    groups.write(f"{mount}/a/cpu.cfs_quota_us", "250000")
    assert groups.quota("4:cpu,cpuacct:/a") == 2.5
    assert groups.quota("3:cpuset:/a") is None


def test_no_control_groups_no_quota(tmp_path: Path) -> None:
    assert machine.cpu_quota(tmp_path / "none", tmp_path) is None


def test_the_smaller_of_affinity_and_quota_counts(groups: Groups, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    groups.proc.write_text("0::/\n")
    assert machine.find_machine(groups.proc, groups.root).cores == 4
    groups.write("cpu.max", "250000 100000")
    found = machine.find_machine(groups.proc, groups.root)
    assert (found.cores, found.origin) == (2, "control group's quota of 2.5")
    groups.write("cpu.max", "20000 100000")
    assert machine.find_machine(groups.proc, groups.root).cores == 1
    groups.write("cpu.max", "900000 100000")
    assert machine.find_machine(groups.proc, groups.root).cores == 4


def test_the_variable_overrides_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(machine.CORES_VARIABLE, "12")
    assert machine.find_machine() == Machine(12, machine.CORES_VARIABLE)
    for wrong in ("0", "two", "", "-1", "1.5"):
        monkeypatch.setenv(machine.CORES_VARIABLE, wrong)
        with pytest.raises(OpserveError, match="OPSERVE_CORES: expected a number of cores, got '"):
            machine.find_machine()


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 16, 64])
@pytest.mark.parametrize("models", [0, 1, 2, 5, 100])
def test_workers_leave_the_frontend_half_of_the_cores(cores: int, models: int) -> None:
    here = Machine(cores, "")
    assert here.threads_per_model(models) == 1 or here.threads_per_model(models) * models <= cores / 2
    assert here.pool_threads >= 2


@pytest.mark.parametrize(("flag", "threads"), [("", 7), (" -Dx=y", 7), ("2", 7), ("20", 20)])
def test_the_pool_is_as_large_as_the_machine_or_the_user_wants(tmp_path: Path, flag: str, threads: int) -> None:
    pool = "-Djava.util.concurrent.ForkJoinPool.common.parallelism="
    written = f"{pool}{flag}" if flag.isdigit() else flag
    (tmp_path / "config.properties").write_text(f"# a = b\nvmargs=-Xmx1g {written}\nmetrics_mode=prometheus\n")
    server = Server(tmp_path)
    try:
        lines = write_fitted_config(server, Machine(8, ""), quiet=True).read_text().splitlines()
    finally:
        server.remove_temp()
    (vmargs,) = [line for line in lines if line.startswith("vmargs=")]
    assert vmargs.startswith("vmargs=-Xmx1g ") and vmargs.endswith(f"{pool}{threads}") and vmargs.count(pool) == 1
    assert ("-Dx=y" in vmargs) == ("-Dx=y" in flag)
    assert "metrics_mode=prometheus" in lines and "disable_system_metrics=true" in lines


def test_the_smallest_limit_of_memory_counts(groups: Groups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       24684084 kB\nMemFree:        1 kB\n")

    def found(member: str) -> tuple[int, str]:
        groups.proc.write_text(f"{member}\n")
        return machine.find_memory(groups.proc, groups.root, meminfo)

    groups.write("a/memory.max", "max")
    assert found("0::/a") == (24_684_084 * 1024, "memory of the machine")
    groups.write("a/memory.max", "2147483648")
    assert found("0::/a/b") == (2**31, "control group's limit")
    groups.write("memory/c/memory.limit_in_bytes", "9223372036854771712")
    assert found("4:memory:/c") == (24_684_084 * 1024, "memory of the machine")
    groups.write("memory/c/memory.limit_in_bytes", "1073741824")
    assert found("4:memory:/c")[0] == 2**30
    monkeypatch.setenv(machine.MEMORY_VARIABLE, "512")
    assert found("4:memory:/c") == (512 * 2**20, machine.MEMORY_VARIABLE)
    monkeypatch.delenv(machine.MEMORY_VARIABLE)
    meminfo.write_text("")
    with pytest.raises(OpserveError, match="does not say how much memory there is; set OPSERVE_MEMORY_MIB"):
        machine.find_memory(groups.proc, groups.root, meminfo)
