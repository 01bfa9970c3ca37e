"""How much the Java frontend may hold: its heap, its direct memory, and the requests that fit into them.

TorchServe counts waiting requests, not their bytes, and asks for the token only when a body is there. So the largest
request, the length of a model's queue and the heap have to agree, and what unfinished bodies take, which is direct
memory, has a bound of its own. Runs on Python 3.6 and the standard library: `make doctor` prints it.
"""

import re
import resource
import zipfile
from pathlib import Path
from typing import NamedTuple

MIB = 2**20
# Shares of the memory; the rest is the workers'.
HEAP_SHARE, DIRECT_SHARE = 1 / 2, 1 / 8
MIN_DIRECT, MAX_DIRECT = 256 * MIB, 4096 * MIB
# What the frontend itself needs: 60 MiB when idle, 40 MiB for 20,000 idle connections, room for short-lived objects.
BASE_HEAP = 256 * MIB
# Java addresses a larger heap by longer pointers, which cost more than the next gigabytes bring.
MAX_HEAP = 30 * 1024 * MIB
# A body is one array that begins at a region of the heap (G1HeapRegionSize): it wastes up to one region.
REGION = 2 * MIB
# Arrays of that size are never moved: gaps between them are lost when bodies of many sizes come and go.
GAPS = 1.25
# A batch on its way to a worker is held three times: as bodies, as the message, and as that message while it grows.
COPIES_IN_FLIGHT = 3
# A machine that is too small gets shorter queues, but no shorter than this; then smaller requests, likewise; then the
# queues may be as short as one, and at last the requests smaller still.
FAIR_QUEUE = 64
FAIR_REQUEST = 8 * MIB
# More connections would be memory that nobody bounds.
MAX_CONNECTIONS = 65536
# Handles of the frontend that are no connections: archives, logs, its workers' pipes and sockets.
OWN_HANDLES = 500
# TorchServe's own defaults.
DEFAULT_REQUEST, DEFAULT_QUEUE = 6553500, 100
MODEL_CONFIG = "model-config.yaml"
HEAP_FLAGS = ("-Xmx", "-XX:MaxHeapSize=")
SHARE_FLAG = "-XX:MaxRAMPercentage="
DIRECT_FLAG = "-Dio.netty.maxDirectMemory="
# From this Java on netty cannot count its direct memory itself: Java's own bound holds, at which its threads wait.
JAVA_WITHOUT_COUNT = 21
JAVA_DIRECT_FLAG = "-XX:MaxDirectMemorySize="


class Queue(NamedTuple):
    """What of a served model decides how many of its requests the frontend holds.

    Attributes:
        size: requests that may wait, where the model's own configuration says so (jobQueueSize).
        in_flight: requests that its workers may have at a time: workers times batch size.
    """

    size: "int | None"
    in_flight: int


class Limits(NamedTuple):
    """Sizes in bytes that agree with each other.

    Attributes:
        heap: Java's largest heap.
        direct: Java's largest direct memory; who needs more of it is refused, with his connection closed.
        request: the largest request; more is a 413.
        queue: requests that may wait for a model; more get a 503.
        connections: clients that may be connected at a time.
        needed: the heap that full queues of the largest requests take; more than `heap` where the machine is too small.
    """

    heap: int
    direct: int
    request: int
    queue: int
    connections: int
    needed: int

    @property
    def fits(self) -> bool:
        """Whether full queues fit into the heap."""
        return self.needed <= self.heap

    def __str__(self) -> str:
        return (
            f"heap {self.heap // MIB} MiB, direct memory {self.direct // MIB} MiB; largest request "
            f"{self.request / MIB:.4g} MiB, {self.queue} waiting for each model, {self.connections} connections"
        )


def needed_heap(request: int, queue: int, queues: "list[Queue]") -> int:
    """The heap, in bytes, that full queues of the largest requests take, and the batches with the workers."""
    held = sum((queue if each.size is None else each.size) + COPIES_IN_FLIGHT * each.in_flight for each in queues)
    return BASE_HEAP + int(GAPS * held * (request + min(REGION, request)))


def fit(
    memory: int,
    queues: "list[Queue]",
    request: int = DEFAULT_REQUEST,
    queue: int = DEFAULT_QUEUE,
    heap: "int | None" = None,
    handles: "int | None" = None,
) -> Limits:
    """The limits of a server with these queues, for a machine with so many bytes of memory.

    Args:
        memory: bytes that the server and its workers may use.
        queues: one of each served version of a model.
        request: largest request that is wanted, in bytes; lowered where it does not fit.
        queue: waiting requests that are wanted for each model; lowered where they do not fit.
        heap: largest heap, in bytes, where the user says it; half of the memory otherwise.
        handles: open files that the frontend may have; this process's own limit otherwise.
    """
    queues = queues or [Queue(None, 1)]
    most = heap or min(int(memory * HEAP_SHARE), MAX_HEAP)

    def largest_request(least):
        if needed_heap(request, queue, queues) <= most:
            return request
        mib = _largest(least // MIB, request // MIB, lambda size: needed_heap(size * MIB, queue, queues) <= most)
        return min(request, max(1, mib) * MIB)

    def longest_queue(least):
        return _largest(least, queue, lambda size: needed_heap(request, size, queues) <= most)

    queue = longest_queue(min(queue, FAIR_QUEUE))
    request = largest_request(min(request, FAIR_REQUEST))
    queue = longest_queue(1)
    request = largest_request(min(request, MIB))
    needed = needed_heap(request, queue, queues)
    # A heap that nothing can fill would only be collected later.
    heap = heap or min(most, needed)
    direct = max(MIN_DIRECT, min(MAX_DIRECT, int(memory * DIRECT_SHARE)))
    connections = max(1, min(MAX_CONNECTIONS, handles or handle_limit()) - OWN_HANDLES)
    return Limits(heap // MIB * MIB, direct // MIB * MIB, request, queue, connections, needed // MIB * MIB)


def _largest(low, high, fits) -> int:
    """The largest number from low to high that fits, or low when none does; what fits, fits when it is smaller."""
    if low >= high or fits(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def handle_limit() -> int:
    """How many open files the frontend may have: Java raises its own limit to the hard one."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, MAX_CONNECTIONS)


def restrict_process() -> None:
    """Bound what this process, and those it starts, may open and leave behind; called in the server's own process.

    A worker that crashes shall not leave a file as large as its memory, every time.
    """
    most = handle_limit()
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def read_queue(archive: Path, default_workers: int = 1, workers: "int | None" = None) -> Queue:
    """What of an archive's model-config.yaml decides how much is held for it; TorchServe's defaults without one.

    Args:
        archive: a `.mar`.
        default_workers: workers of a model whose configuration does not say.
        workers: workers that a model gets which may have more than its fewest.
    """
    try:
        with zipfile.ZipFile(str(archive)) as opened:
            text = opened.read(MODEL_CONFIG).decode("utf-8", "replace")
    except (OSError, KeyError, zipfile.BadZipFile, RuntimeError):
        text = ""

    def number(key, default):
        # The keys of TorchServe stand at the left margin; nothing of YAML but a number is one.
        found = re.search(rf"^(['\"]?){key}\1[ \t]*:[ \t]*\+?([0-9]+)[ \t]*(#.*)?$", text, re.MULTILINE)
        return int(found.group(2)) if found else default

    fewest = max(1, number("minWorkers", default_workers))
    most = max(fewest, number("maxWorkers", default_workers))
    running = max(fewest, min(most, workers or 1))
    return Queue(number("jobQueueSize", 0) or None, running * max(1, number("batchSize", 1)))


def wanted(properties: "dict[str, str]") -> "tuple[int, int, int | None]":
    """The largest request, the queue, and the heap, all in what `fit` takes, that a configuration asks for.

    The heap is None where `vmargs` does not fix it: the shipped ones say a share of the memory.
    """
    flags = properties.get("vmargs", "").split()
    heap = [flag[len(start) :] for start in HEAP_FLAGS for flag in flags if flag.startswith(start)]
    return (
        _number(properties.get("max_request_size"), DEFAULT_REQUEST),
        _number(properties.get("job_queue_size"), DEFAULT_QUEUE),
        size(heap[-1]) if heap else None,
    )


def _number(text: "str | None", default: int) -> int:
    return int(text) if text and text.isdigit() and int(text) else default


def size(text: str) -> "int | None":
    """Bytes of a size as Java writes it (`512m`, `2G`), or None."""
    found = re.match(r"^([0-9]+)([kKmMgGtT]?)$", text)
    return int(found.group(1)) * 1024 ** " kmgt".index(found.group(2).lower() or " ") if found else None


def java_flags(limits: Limits, flags: "list[str]") -> "list[str]":
    """The flags of a configuration's `vmargs` with these limits in them; a heap that the user fixed stays."""
    fixed = any(flag.startswith(HEAP_FLAGS) for flag in flags)
    replaced = (DIRECT_FLAG, JAVA_DIRECT_FLAG) if fixed else (DIRECT_FLAG, JAVA_DIRECT_FLAG, SHARE_FLAG)
    kept = [flag for flag in flags if not flag.startswith(replaced)]
    heap = [] if fixed else [f"-Xmx{limits.heap // MIB}m"]
    return [*kept, *heap, f"{DIRECT_FLAG}{limits.direct}", f"{JAVA_DIRECT_FLAG}{limits.direct}"]
