"""Measures alternatives in turns, so that whatever else the machine does falls on all of them alike."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def take_turns(calls: Mapping[Key, Callable[[], Value]], enough: Callable[[int], bool]) -> dict[Key, list[Value]]:
    """Calls all alternatives in rounds; each round begins with another one, since a call leaves the caches to the next.

    Args:
        calls: The alternatives.
        enough: Whether this number of rounds is enough.

    Returns:
        What each of them returned in each round.
    """
    order, results = list(calls), {key: [] for key in calls}  # type: list[Key], dict[Key, list[Value]]
    rounds = 0
    while not enough(rounds):
        first = rounds % len(order)
        for key in order[first:] + order[:first]:
            results[key].append(calls[key]())
        rounds += 1
    return results


def seconds_per_call(call: Callable[[], object], repeats: int) -> float:
    """Measures the mean time of one call."""
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - begin) / repeats
