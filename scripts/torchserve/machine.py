"""How many cores and how much memory a server may use on this machine; standard library only."""

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from archive.errors import OpserveError

# Variables that give the number of cores and the MiB of memory to plan with, in place of what is found.
CORES_VARIABLE = "OPSERVE_CORES"
MEMORY_VARIABLE = "OPSERVE_MEMORY_MIB"
MIB = 2**20
PROC_CGROUP = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


class Machine(NamedTuple):
    """The processors that a server may use, and how they are divided.

    Attributes:
        cores: processors that this process may run on, whole ones of its control group's quota, or the number given.
        origin: where that number comes from.
    """

    cores: int
    origin: str

    @property
    def pool_threads(self) -> int:
        """Threads of Java's common pool: Java's own choice, but at least two.

        With one thread, Java would start a new one for every request.
        """
        return max(2, self.cores - 1)

    def threads_per_model(self, models: int) -> int:
        """Threads that all workers of a model should have together, when this many models are served.

        Half of the cores are for the workers and half for the frontend: a small request costs both about the same.
        """
        return max(1, self.cores // 2 // max(1, models))


def find_machine(proc_cgroup: Path = PROC_CGROUP, cgroups: Path = CGROUPS) -> Machine:
    """Finds how many cores the processor affinity, the control groups and OPSERVE_CORES leave to a server.

    Raises:
        OpserveError: OPSERVE_CORES is not a number of cores.
    """
    asked = _read_variable(CORES_VARIABLE, "cores")
    if asked is not None:
        return Machine(asked, CORES_VARIABLE)
    cores, origin = len(os.sched_getaffinity(0)), "processors this process may run on"
    limit = cpu_quota(proc_cgroup, cgroups)
    if limit is not None and limit < cores:
        return Machine(max(1, math.floor(limit)), f"control group's quota of {limit:g}")
    return Machine(cores, origin)


def find_memory(proc_cgroup: Path = PROC_CGROUP, cgroups: Path = CGROUPS, meminfo: Path = MEMINFO) -> "tuple[int, str]":
    """Finds how many bytes of memory a server and its workers may use, and where that number comes from.

    Raises:
        OpserveError: OPSERVE_MEMORY_MIB is not a number of MiB, or the system does not report its memory.
    """
    asked = _read_variable(MEMORY_VARIABLE, "MiB")
    if asked is not None:
        return asked * MIB, MEMORY_VARIABLE
    total = re.search(r"^MemTotal: +([0-9]+) kB", _text(meminfo), re.MULTILINE)
    if total is None:
        raise OpserveError(f"{meminfo} does not say how much memory there is; set {MEMORY_VARIABLE}")
    found = int(total.group(1)) * 1024
    limit = memory_limit(proc_cgroup, cgroups)
    if limit is not None and limit < found:
        return limit, "control group's limit"
    return found, "memory of the machine"


def _read_variable(name: str, unit: str) -> "int | None":
    text = os.environ.get(name)
    if text is not None and not re.fullmatch("0*[1-9][0-9]*", text):
        raise OpserveError(f"{name}: expected a number of {unit}, got {text!r}")
    return None if text is None else int(text)


def cpu_quota(proc_cgroup: Path = PROC_CGROUP, cgroups: Path = CGROUPS) -> "float | None":
    """The smallest quota of processor time, in cores, of this process's control group and those around it."""
    return _smallest("cpu", _quota_v1, _quota_v2, proc_cgroup, cgroups)


def memory_limit(proc_cgroup: Path = PROC_CGROUP, cgroups: Path = CGROUPS) -> "int | None":
    """The smallest memory limit, in bytes, of this process's control group and those around it."""
    return _smallest("memory", _memory_v1, _memory_v2, proc_cgroup, cgroups)


def _smallest(
    controller: str,
    read_v1: "Callable[[Path], Any]",
    read_v2: "Callable[[Path], Any]",
    proc_cgroup: Path,
    cgroups: Path,
) -> Any:
    """The smallest value of a controller in this process's control group and those around it, or None."""
    limits = []
    for line in _text(proc_cgroup).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            roots, read = [cgroups], read_v2
        elif controller in controllers.split(","):
            # The hierarchy is mounted under the name of one of its controllers, or under all of them.
            roots, read = [cgroups / name for name in (controllers, controller)], read_v1
        else:
            continue
        root = next((each for each in roots if each.is_dir()), None)
        if root is not None:
            # Inside a container the path may be the host's, and the mounted root its group.
            group = root / path.lstrip("/")  # type: Path
            around = [group, *group.parents]
            limits += [read(each) for each in around[: around.index(root) + 1] if each.is_dir()]
    return min((limit for limit in limits if limit is not None), default=None)


def _quota_v2(folder: Path) -> "float | None":
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    return _ratio(quota, period)


def _quota_v1(folder: Path) -> "float | None":
    return _ratio(_text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip())


def _memory_v2(folder: Path) -> "int | None":
    limit = _text(folder / "memory.max").strip()
    return int(limit) if limit.isdigit() else None


def _memory_v1(folder: Path) -> "int | None":
    limit = _text(folder / "memory.limit_in_bytes").strip()
    # The largest number of whole pages means no limit.
    return int(limit) if limit.isdigit() and int(limit) < 2**62 else None


def _ratio(quota: str, period: str) -> "float | None":
    # Version 2 writes `max` for no quota, and version 1 writes -1.
    if quota.isdigit() and period.isdigit() and int(period):
        return int(quota) / int(period)
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
