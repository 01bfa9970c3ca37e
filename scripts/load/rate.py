"""Sends requests at a given rate, whether or not those before are answered.

wrk cannot: each of its connections waits for its answer, so a server that is slow is asked less often, and the requests
that users would have sent meanwhile are never counted. Here a request is due at its time; its latency counts from then,
also where it had to wait for a free connection.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping

import aiohttp

from scripts.load.result import Load, percentiles

TIMEOUT_S = 60
# Requests that were sent later than this after a connection was free for them: the generator was too slow.
LATE_S = 0.02


def load(
    url: str, body: bytes, headers: Mapping[str, str], rate: float, connections: int, seconds: float
) -> tuple[Load, list[tuple[float, float]]]:
    """Send one request at a rate.

    Args:
        url: where to.
        body, headers: of the POST.
        rate: requests a second, evenly spaced.
        connections: at a time; a request for which none is free waits.
        seconds: how long requests are sent; all are waited for.

    Returns:
        What came of it, and of each answer without error the second in which it was due and its latency in
        milliseconds.
    """
    return asyncio.run(_load(url, body, dict(headers), rate, connections, seconds))


async def _load(
    url: str, body: bytes, headers: dict[str, str], rate: float, connections: int, seconds: float
) -> tuple[Load, list[tuple[float, float]]]:
    errors: Counter[str] = Counter()
    samples: list[tuple[float, float]] = []
    # The event loop woke later than it asked to be woken: too busy with answers to send in time.
    late = answered = 0
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=connections)
    count = max(1, round(rate * seconds))
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
        begun, cpu = time.perf_counter(), time.process_time()

        async def one(due: float) -> None:
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
                    await asyncio.sleep(0)  # behind: let answers in all the same
                late += time.perf_counter() - begun - due > LATE_S
                tasks.create_task(one(due))
        took = time.perf_counter() - begun
        used = time.process_time() - cpu
    latency = percentiles([milliseconds * 1000 for _, milliseconds in samples])
    # One in a hundred may be late by chance; more is a generator that cannot keep the rate.
    found = Load(answered, took, latency, dict(errors), used / took, late * 100 > count)
    return found, sorted(samples)
