"""Times work on a GPU by CUDA events."""

import statistics
from collections.abc import Callable

import torch


def milliseconds(work: Callable[[], object], repeats: int = 50, warm_up: int = 10) -> float:
    """Measures the median time of one call on the GPU, from an empty L2 cache and without its launch.

    Args:
        work: Enqueues its work on the current stream and does not wait for it.
        repeats: How many calls are timed, one by one.
        warm_up: How many untimed calls precede them.
    """
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    # Twice the size of the cache, so that nothing the call reads is left in it.
    flush = torch.empty(2 * max(properties.L2_cache_size, 2**20), dtype=torch.uint8, device="cuda")
    for _ in range(warm_up):
        work()
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    torch.cuda.synchronize()
    for begin, end in pairs:
        # Long enough for the launches below to be queued before the device reaches them.
        flush.zero_()
        torch.cuda._sleep(200_000)
        begin.record()
        work()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in pairs)
