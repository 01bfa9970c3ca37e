"""Times work on a GPU by CUDA events, and measures what the card's memory can do to compare it with."""

import statistics
from collections.abc import Callable

import torch


def milliseconds(work: Callable[[], object], repeat: int = 50, warm_up: int = 10) -> float:
    """The median time of one call on the GPU, from an empty L2 cache, the time to launch it not counted.

    Args:
        work: enqueues its work on the current stream and does not wait for it.
        repeat: how many calls are timed, one by one.
        warm_up: how many go before, untimed.
    """
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    # Twice the cache, so that nothing the call reads is left in it.
    flush = torch.empty(2 * max(properties.L2_cache_size, 2**20), dtype=torch.uint8, device="cuda")
    for _ in range(warm_up):
        work()
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeat)]
    torch.cuda.synchronize()
    for begin, end in pairs:
        # Long enough that the launches below are queued before the device comes to them.
        flush.zero_()
        torch.cuda._sleep(200_000)
        begin.record()
        work()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in pairs)


def copy_gigabytes_per_second(size: int = 2**30) -> float:
    """What a copy within the card's memory reaches, reads and writes counted."""
    source = torch.zeros(size, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * size / milliseconds(lambda: target.copy_(source)) / 1e6
