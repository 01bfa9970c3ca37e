"""How many cores a server may use here, and what follows from that; by the standard library only."""

import math
import os
from pathlib import Path
from typing import NamedTuple

# Says how many cores to reckon with, instead of those that are found.
SWITCH = "OPSERVE_CORES"
PROC_CGROUP = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")


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
        every request instead."""
        return max(2, self.cores - 1)

    def share(self, models: int) -> int:
        """Threads that all workers of one of so many models should have together.

        Half of the cores are the workers', the other half the frontend's: a small request costs it as much as them.
        """
        return max(1, self.cores // 2 // max(1, models))


def find(proc_cgroup: Path = PROC_CGROUP, cgroups: Path = CGROUPS) -> Machine:
    """What the machine, this process's affinity, its control group and the environment leave to a server.

    Raises:
        ValueError: OPSERVE_CORES is no number of cores.
    """
    wanted = os.environ.get(SWITCH)
    if wanted is not None:
        if not (wanted.isascii() and wanted.isdigit() and int(wanted) > 0):
            raise ValueError(f"{SWITCH}: expected a number of cores, got {wanted!r}")
        return Machine(int(wanted), SWITCH)
    cores, origin = len(os.sched_getaffinity(0)), "processors this process may run on"
    limit = quota(proc_cgroup, cgroups)
    if limit is not None and limit < cores:
        return Machine(max(1, math.floor(limit)), f"control group's quota of {limit:g}")
    return Machine(cores, origin)


def quota(proc_cgroup: Path = PROC_CGROUP, cgroups: Path = CGROUPS) -> "float | None":
    """The smallest quota of processor time, in cores, of this process's control group and those around it."""
    limits = []
    for line in _text(proc_cgroup).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            root, read = cgroups, _quota_v2
        elif "cpu" in controllers.split(","):
            # The hierarchy is mounted by the name of one of its controllers, or all of them.
            root = next((cgroups / name for name in (controllers, "cpu") if (cgroups / name).is_dir()), None)
            read = _quota_v1
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
