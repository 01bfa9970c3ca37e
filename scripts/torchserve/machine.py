"""How many cores and how much memory a server may use here, and what follows; by the standard library only."""

import math
import os
import re
from pathlib import Path
from typing import NamedTuple

from archive.errors import OpserveError

# Say how many cores, and how many MiB of memory, to reckon with, instead of what is found.
SWITCH = "OPSERVE_CORES"
MEMORY_SWITCH = "OPSERVE_MEMORY_MIB"
MIB = 2**20
PROC_CGROUP = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


class Machine(NamedTuple):
    """What a server may use, and how it is divided.

    Attributes:
        cores: processors that this process may run on, whole ones of its control group's quota, or what was asked for.
        origin: where that number is from.
    """

    cores: int
    origin: str

    @property
    def pool_threads(self) -> int:
        """Threads of Java's common pool: Java's own choice, but never the single one for which it starts a thread for
        every request instead.
        """
        return max(2, self.cores - 1)

    def share(self, models: int) -> int:
        """Threads that all workers of one of so many models should have together.

        Half of the cores are the workers', the other half the frontend's: a small request costs it as much as them.
        """
        return max(1, self.cores // 2 // max(1, models))


def find(proc_cgroup: Path = PROC_CGROUP, cgroups: Path = CGROUPS) -> Machine:
    """What the machine, this process's affinity, its control group and the environment leave to a server.

    Raises:
        OpserveError: OPSERVE_CORES is no number of cores.
    """
    wanted = os.environ.get(SWITCH)
    if wanted is not None:
        if not (wanted.isascii() and wanted.isdigit() and int(wanted) > 0):
            raise OpserveError(f"{SWITCH}: expected a number of cores, got {wanted!r}")
        return Machine(int(wanted), SWITCH)
    cores, origin = len(os.sched_getaffinity(0)), "processors this process may run on"
    limit = quota(proc_cgroup, cgroups)
    if limit is not None and limit < cores:
        return Machine(max(1, math.floor(limit)), f"control group's quota of {limit:g}")
    return Machine(cores, origin)


def memory(proc_cgroup: Path = PROC_CGROUP, cgroups: Path = CGROUPS, meminfo: Path = MEMINFO) -> "tuple[int, str]":
    """Bytes of memory that a server may use together with its workers, and where that number is from.

    Raises:
        OpserveError: OPSERVE_MEMORY_MIB is no number of MiB, or the system does not say how much memory it has.
    """
    wanted = os.environ.get(MEMORY_SWITCH)
    if wanted is not None:
        if not (wanted.isascii() and wanted.isdigit() and int(wanted) > 0):
            raise OpserveError(f"{MEMORY_SWITCH}: expected a number of MiB, got {wanted!r}")
        return int(wanted) * MIB, MEMORY_SWITCH
    total = re.search(r"^MemTotal: +([0-9]+) kB", _text(meminfo), re.MULTILINE)
    if total is None:
        raise OpserveError(f"{meminfo} does not say how much memory there is; set {MEMORY_SWITCH}")
    found = int(total.group(1)) * 1024
    limit = memory_limit(proc_cgroup, cgroups)
    if limit is not None and limit < found:
        return limit, "control group's limit"
    return found, "memory of the machine"


def quota(proc_cgroup: Path = PROC_CGROUP, cgroups: Path = CGROUPS) -> "float | None":
    """The smallest quota of processor time, in cores, of this process's control group and those around it."""
    return _smallest("cpu", _quota_v1, _quota_v2, proc_cgroup, cgroups)


def memory_limit(proc_cgroup: Path = PROC_CGROUP, cgroups: Path = CGROUPS) -> "int | None":
    """The smallest limit of memory, in bytes, of this process's control group and those around it."""
    return _smallest("memory", _memory_v1, _memory_v2, proc_cgroup, cgroups)


def _smallest(controller, read_v1, read_v2, proc_cgroup, cgroups):
    """The smallest value of a controller that this process's control group, or one around it, sets; None without."""
    limits = []
    for line in _text(proc_cgroup).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            root, read = cgroups, read_v2
        elif controller in controllers.split(","):
            # The hierarchy is mounted by the name of one of its controllers, or all of them.
            root = next((cgroups / name for name in (controllers, controller) if (cgroups / name).is_dir()), None)
            read = read_v1
        else:
            continue
        if root is None:
            continue
        folder = root / path.lstrip("/")
        # Inside a container the path may be the host's, and its group the root of what is mounted.
        around = [folder, *folder.parents]
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
    # No limit is the largest number of whole pages.
    return int(limit) if limit.isdigit() and int(limit) < 2**62 else None


def _ratio(quota: str, period: str) -> "float | None":
    # No quota is `max` in version 2 and -1 in version 1.
    if quota.isdigit() and period.isdigit() and int(period):
        return int(quota) / int(period)
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
