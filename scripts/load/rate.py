"""Sends requests at a fixed rate, whether or not earlier ones have been answered.

wrk cannot: each of its connections waits for its answer, so a slow server gets fewer requests, and the ones that users
would have sent meanwhile are never counted. Here each request is due at a time, and its latency counts from then, even
if it had to wait for a free connection.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping

import aiohttp

from scripts.load.result import Load, percentiles

TIMEOUT_S = 60
# A request that is sent more than this after it was due counts as late.
LATE_S = 0.02


def load(
    url: str, body: bytes, headers: Mapping[str, str], rate: float, connections: int, seconds: float
) -> tuple[Load, list[tuple[float, float]]]:
    """Sends a request at a fixed rate.

    Args:
        url: where to send it.
        body: the body of the POST.
        headers: the headers of the POST.
        rate: requests per second, evenly spaced.
        connections: at a time; a request waits until one is free.
        seconds: how long requests are sent; all answers are waited for.

    Returns:
        The load; and of each successful answer the second in which it was due and its latency in milliseconds.
    """
    return asyncio.run(_load(url, body, dict(headers), rate, connections, seconds))


async def _load(
    url: str, body: bytes, headers: dict[str, str], rate: float, connections: int, seconds: float
) -> tuple[Load, list[tuple[float, float]]]:
    errors: Counter[str] = Counter()
    samples: list[tuple[float, float]] = []
    # Late: the event loop was too busy with answers to send in time.
    late = answered = 0
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=connections)
    count = max(1, round(rate * seconds))
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
        begun, cpu = time.perf_counter(), time.process_time()

        async def send(due: float) -> None:
            nonlocal answered
            try:
                async with session.post(url, data=body, headers=headers) as response:
                    await response.read()
                answered += 1
                if response.status >= 400:
                    errors[str(response.status)] += 1
                else:
                    samples.append((due, (time.perf_counter() - begun - due) * 1000))
            except TimeoutError:
                errors["timeout"] += 1
            except aiohttp.ClientConnectorError:
                errors["connect"] += 1
            except aiohttp.ClientError:
                errors["read"] += 1

        async with asyncio.TaskGroup() as tasks:
            for number in range(count):
                due = number / rate
                wait = due - (time.perf_counter() - begun)
                if wait > 0:
                    await asyncio.sleep(wait)
                elif not number % 64:
                    await asyncio.sleep(0)  # behind schedule: answers get a turn all the same
                late += time.perf_counter() - begun - due > LATE_S
                tasks.create_task(send(due))
        took = time.perf_counter() - begun
        used = time.process_time() - cpu
    latency = percentiles([milliseconds * 1000 for _, milliseconds in samples])
    # One in a hundred may be late by chance; more means that the generator cannot keep the rate.
    found = Load(answered, took, latency, dict(errors), used / took, late * 100 > count)
    return found, sorted(samples)
