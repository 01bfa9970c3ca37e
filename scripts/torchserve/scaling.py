"""Asks a running server for workers and watches them come, without keeping other clients waiting."""

import time
from typing import Any

from archive.errors import OpserveError
from scripts.torchserve.recovery import revive
from scripts.torchserve.server import Server
from scripts.torchserve.worker_log import LogMark, is_worker_of
from scripts.torchserve.workers import count_ended_workers, count_ready_workers, set_worker_limits, stand_in_errors

TIMEOUT_S = 300.0
POLL_S = 0.1
# A worker that has ended waits this long at most for its next try, unless TorchServe has given it up.
NEXT_TRY_S = 60.0


def set_workers(
    server: Server, model: str, fewest: int, most: int, version: str = "", timeout: float = TIMEOUT_S
) -> dict[str, Any]:
    """Set how many workers a model (its default version) has at least and may have, and wait until they are ready.

    A model of which every worker has ended is started afresh: TorchServe may have given them up.

    Returns:
        The model's description, with at least `fewest` and at most `most` workers, all of them ready.

    Raises:
        OpserveError: a new worker died, with its traceback; or they were not ready in time.
    """
    before = server.describe(model, version) or {"workers": []}
    known = {worker["id"] for worker in before["workers"]}
    mark = LogMark(server.logs)
    # One that stands in for a worker that does not load answers, though only 503.
    if fewest > 0 and 0 < len(known) == count_ended_workers(before) + len(stand_in_errors(server, before)):
        revive(server, model, fewest, version)
    set_worker_limits(server, model, version, fewest, most, timeout)
    return wait_for_workers(server, model, fewest, most, version, known, mark, timeout)


def wait_for_workers(
    server: Server, model: str, fewest: int, most: int, version: str, known: set[str], mark: LogMark, timeout: float
) -> dict[str, Any]:
    """Wait until a version of a model has the workers that TorchServe was asked for.

    Args:
        server: the server.
        model: a served model.
        fewest: how many workers must be ready.
        most: how many workers there may be.
        version: which version of it; empty for the default one.
        known: ids of workers that were there before. Their deaths are not those of new ones.
        mark: where the logs ended when the workers were asked for.
        timeout: seconds.

    Returns:
        The version's description.

    Raises:
        OpserveError: a new worker died, with its traceback; an old one that has ended is not started again; the version
            is gone; or time is over.
    """
    name = f"{model} {version}" if version else model
    deadline, unchanged_since, last = time.monotonic() + timeout, time.monotonic(), None
    while True:
        described = server.describe(model, version)
        if described is None:
            raise OpserveError(f"{name} is not served any more")
        errors = stand_in_errors(server, described)
        ready, there = count_ready_workers(described) - len(errors), len(described["workers"])
        if fewest <= ready and there <= most:
            return described
        if errors:
            raise OpserveError(f"{name} has {ready} of {fewest} workers ready; another does not load: {errors[0]}")
        for worker in mark.ended_workers():
            # `W-9000-digits_1.0` is the worker whose id is 9000.
            if is_worker_of(worker, model, described["modelVersion"]) and worker.split("-")[1] not in known:
                raise OpserveError(
                    f"{name} has {ready} of {fewest} workers ready; a new one died while it loaded:\n"
                    f"{mark.last_words(worker)}"
                )
        state = [(worker["id"], worker["pid"], worker["status"]) for worker in described["workers"]]
        if state != last or ready + count_ended_workers(described) < there:
            last, unchanged_since = state, time.monotonic()
        if time.monotonic() - unchanged_since > NEXT_TRY_S:
            raise OpserveError(
                f"{name} has {ready} of {fewest} workers ready; TorchServe has given up the others (`make logs` shows "
                f"why). `make scale MODEL={model} WORKERS=0` ends all, and then WORKERS={fewest} starts new ones"
            )
        if time.monotonic() > deadline:
            raise OpserveError(f"{name} has {ready} of {fewest} workers ready after {timeout:.0f} s (`make logs`)")
        time.sleep(POLL_S)
