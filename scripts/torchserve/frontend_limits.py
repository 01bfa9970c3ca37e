"""How much TorchServe's Java frontend may hold: its heap, its direct memory, and the requests that fit into them.

TorchServe counts waiting requests, not their bytes, and checks the token only after the whole body has arrived. So the
largest request, the length of a model's queue and the heap have to agree, and the direct memory, which holds unfinished
bodies, needs a limit of its own. Runs on Python 3.6 with the standard library alone: `make doctor` prints the limits.
"""

import re
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

MIB = 2**20
# Shares of the memory; the workers get the rest.
HEAP_SHARE, DIRECT_SHARE = 1 / 2, 1 / 8
MIN_DIRECT, MAX_DIRECT = 256 * MIB, 4096 * MIB
# The frontend takes 60 MiB when idle and 40 MiB for 20,000 idle connections; the rest is for short-lived objects.
BASE_HEAP = 256 * MIB
# Java addresses a larger heap by longer pointers, which cost more than the next gigabytes gain.
MAX_HEAP = 30 * 1024 * MIB
# A body is one array that begins at a region of the heap (G1HeapRegionSize), so it wastes up to one region.
REGION = 2 * MIB
# Arrays of that size are never moved: bodies of many sizes leave gaps between them.
GAPS = 1.25
# A batch on its way to a worker is held three times: as bodies, as the message, and as that message while it grows.
COPIES_IN_FLIGHT = 3
# On a machine that is too small the queues become shorter, but not below FAIR_QUEUE; then requests become smaller, but
# not below FAIR_REQUEST; then the queues may shrink to 1, and at last the requests below FAIR_REQUEST.
FAIR_QUEUE = 64
FAIR_REQUEST = 8 * MIB
# More connections would take memory that nothing bounds.
MAX_CONNECTIONS = 65536
# Open files of the frontend other than connections: archives, logs, its workers' pipes and sockets.
OWN_HANDLES = 500
# TorchServe's own defaults.
DEFAULT_REQUEST, DEFAULT_QUEUE = 6553500, 100
MODEL_CONFIG = "model-config.yaml"
HEAP_FLAGS = ("-Xmx", "-XX:MaxHeapSize=")
SHARE_FLAG = "-XX:MaxRAMPercentage="
DIRECT_FLAG = "-Dio.netty.maxDirectMemory="
# From this Java on netty cannot count its direct memory: Java's own limit applies, at which netty's threads wait.
JAVA_WITHOUT_COUNT = 21
JAVA_DIRECT_FLAG = "-XX:MaxDirectMemorySize="


class ModelQueue(NamedTuple):
    """The numbers of a served model that decide how many of its requests the frontend holds.

    Attributes:
        size: requests that may wait, if the model's own configuration says so (jobQueueSize).
        in_flight: requests that its workers may process at a time: workers times batch size.
    """

    size: "int | None"
    in_flight: int


class FrontendLimits(NamedTuple):
    """Sizes in bytes that agree with each other.

    Attributes:
        heap: Java's largest heap.
        direct: Java's largest direct memory; a connection that asks for more is closed.
        request: the largest request; a larger one gets a 413.
        queue: requests that may wait for a model; more get a 503.
        connections: clients that may be connected at a time.
        required: the heap that full queues of the largest requests take; above `heap` on a machine that is too small.
    """

    heap: int
    direct: int
    request: int
    queue: int
    connections: int
    required: int

    @property
    def fits(self) -> bool:
        """Whether full queues fit into the heap."""
        return self.required <= self.heap

    def __str__(self) -> str:
        return (
            f"heap {self.heap // MIB} MiB, direct memory {self.direct // MIB} MiB; largest request "
            f"{self.request / MIB:.4g} MiB, {self.queue} waiting for each model, {self.connections} connections"
        )


def required_heap(request: int, queue: int, queues: "list[ModelQueue]") -> int:
    """The heap, in bytes, that full queues of the largest requests and the batches in flight take."""
    held = sum((queue if each.size is None else each.size) + COPIES_IN_FLIGHT * each.in_flight for each in queues)
    return BASE_HEAP + int(GAPS * held * (request + min(REGION, request)))


def fit_limits(
    memory: int,
    queues: "list[ModelQueue]",
    request: int = DEFAULT_REQUEST,
    queue: int = DEFAULT_QUEUE,
    heap: "int | None" = None,
    handles: "int | None" = None,
) -> FrontendLimits:
    """Computes the limits of a server from the memory that it may use.

    Args:
        memory: bytes that the server and its workers may use.
        queues: one for each served version of a model.
        request: the wanted largest request, in bytes; lowered if it does not fit.
        queue: the wanted length of each model's queue; lowered if it does not fit.
        heap: the largest heap, in bytes, if the user fixed it; half of the memory otherwise.
        handles: open files that the frontend may have; this process's own limit by default.
    """
    queues = queues or [ModelQueue(None, 1)]
    most = heap or min(int(memory * HEAP_SHARE), MAX_HEAP)

    def largest_request(least: int) -> int:
        if required_heap(request, queue, queues) <= most:
            return request
        mib = _largest(least // MIB, request // MIB, lambda size: required_heap(size * MIB, queue, queues) <= most)
        return min(request, max(1, mib) * MIB)

    def longest_queue(least: int) -> int:
        return _largest(least, queue, lambda size: required_heap(request, size, queues) <= most)

    queue = longest_queue(min(queue, FAIR_QUEUE))
    request = largest_request(min(request, FAIR_REQUEST))
    queue = longest_queue(1)
    request = largest_request(min(request, MIB))
    required = required_heap(request, queue, queues)
    # A heap that nothing can fill would only be collected later.
    heap = heap or min(most, required)
    direct = max(MIN_DIRECT, min(MAX_DIRECT, int(memory * DIRECT_SHARE)))
    connections = max(1, min(MAX_CONNECTIONS, handles or max_open_files()) - OWN_HANDLES)
    return FrontendLimits(heap // MIB * MIB, direct // MIB * MIB, request, queue, connections, required // MIB * MIB)


def _largest(low: int, high: int, fits: "Callable[[int], bool]") -> int:
    """The largest number from `low` to `high` that fits, or `low` if none does; below one that fits, all fit."""
    if low >= high or fits(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def max_open_files() -> int:
    """How many files the frontend may have open: Java raises its own limit to the hard one."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, MAX_CONNECTIONS)


def restrict_process() -> None:
    """Limits the open files and core dumps of this process and its children; called in the server's own process.

    Each worker that crashes would otherwise leave a file as large as its memory.
    """
    most = max_open_files()
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def read_queue(archive: Path, default_workers: int = 1, workers: "int | None" = None) -> ModelQueue:
    """Reads a model's queue and batches from its archive; TorchServe's defaults apply if it has no configuration.

    Args:
        archive: a `.mar` file.
        default_workers: workers of a model whose configuration does not say how many.
        workers: workers that a model gets if it may have more than its minimum.
    """
    try:
        with zipfile.ZipFile(str(archive)) as opened:
            text = opened.read(MODEL_CONFIG).decode("utf-8", "replace")
    except (OSError, KeyError, zipfile.BadZipFile, RuntimeError):
        text = ""

    def number(key: str, default: int) -> int:
        # TorchServe's keys begin in the first column; a plain number is the only YAML that matters here.
        found = re.search(rf"^(['\"]?){key}\1[ \t]*:[ \t]*\+?([0-9]+)[ \t]*(#.*)?$", text, re.MULTILINE)
        return int(found.group(2)) if found else default

    fewest = max(1, number("minWorkers", default_workers))
    most = max(fewest, number("maxWorkers", default_workers))
    running = max(fewest, min(most, workers or 1))
    return ModelQueue(number("jobQueueSize", 0) or None, running * max(1, number("batchSize", 1)))


def read_configured(properties: "dict[str, str]") -> "tuple[int, int, int | None]":
    """Reads the largest request, the queue length and the heap from a configuration, as `fit_limits` takes them.

    The heap is None if `vmargs` does not fix it: the shipped ones give a share of the memory.
    """
    flags = properties.get("vmargs", "").split()
    heap = [flag[len(start) :] for start in HEAP_FLAGS for flag in flags if flag.startswith(start)]
    return (
        _number(properties.get("max_request_size"), DEFAULT_REQUEST),
        _number(properties.get("job_queue_size"), DEFAULT_QUEUE),
        parse_size(heap[-1]) if heap else None,
    )


def _number(text: "str | None", default: int) -> int:
    return int(text) if text and text.isdigit() and int(text) else default


def parse_size(text: str) -> "int | None":
    """Bytes of a size as Java writes it (`512m`, `2G`), or None for anything else."""
    found = re.match(r"^([0-9]+)([kKmMgGtT]?)$", text)
    return int(found.group(1)) * 1024 ** " kmgt".index(found.group(2).lower() or " ") if found else None


def fit_java_flags(limits: FrontendLimits, flags: "list[str]") -> "list[str]":
    """Puts limits into the flags of a configuration's `vmargs`; a heap that the user fixed stays."""
    fixed = any(flag.startswith(HEAP_FLAGS) for flag in flags)
    replaced = (DIRECT_FLAG, JAVA_DIRECT_FLAG) if fixed else (DIRECT_FLAG, JAVA_DIRECT_FLAG, SHARE_FLAG)
    kept = [flag for flag in flags if not flag.startswith(replaced)]
    heap = [] if fixed else [f"-Xmx{limits.heap // MIB}m"]
    return [*kept, *heap, f"{DIRECT_FLAG}{limits.direct}", f"{JAVA_DIRECT_FLAG}{limits.direct}"]
