"""Asks a running server for workers and watches them come, without keeping other clients waiting."""

import time
from typing import Any

from scripts.errors import OpserveError
from scripts.server import Server, ready_workers, reason
from scripts.worker_log import LogMark, is_worker_of

TIMEOUT_S = 300.0
POLL_S = 0.1


def worker_path(model: str, fewest: int, most: int, version: str = "") -> str:
    """The call of the management API that asks for a number of workers, and is answered at once.

    With `synchronous=true` TorchServe would block one of the threads that serve every client's connections until the
    model is loaded.
    """
    name = f"{model}/{version}" if version else model
    return f"/models/{name}?min_worker={fewest}&max_worker={most}&synchronous=false"


def set_workers(
    server: Server, model: str, fewest: int, most: int, version: str = "", timeout: float = TIMEOUT_S
) -> dict[str, Any]:
    """Set how many workers a model (its default version) has at least and may have, and wait until they are ready.

    Returns:
        The model's description, with at least `fewest` and at most `most` workers, all of them ready.

    Raises:
        OpserveError: a new worker died, with its traceback; or they were not ready in time.
    """
    before = server.describe(model, version)
    known = {worker["id"] for worker in before["workers"]} if before else set()
    mark = LogMark(server.logs)
    answer = server.request("management", "PUT", worker_path(model, fewest, most, version), timeout)
    if answer.status_code >= 300:
        raise OpserveError(f"TorchServe did not scale {model}: {reason(answer.text)}")
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
        OpserveError: a new worker died, with its traceback; the version is gone; or time is over.
    """
    name = f"{model} {version}" if version else model
    deadline = time.monotonic() + timeout
    while True:
        described = server.describe(model, version)
        if described is None:
            raise OpserveError(f"{name} is not served any more")
        ready, there = ready_workers(described), len(described["workers"])
        if fewest <= ready and there <= most:
            return described
        for worker in mark.ended_workers():
            # `W-9000-digits_1.0` is the worker whose id is 9000.
            if is_worker_of(worker, model, described["modelVersion"]) and worker.split("-")[1] not in known:
                raise OpserveError(
                    f"{name} has {ready} of {fewest} workers ready; a new one died while it loaded:\n"
                    f"{mark.last_words(worker)}"
                )
        if time.monotonic() > deadline:
            raise OpserveError(f"{name} has {ready} of {fewest} workers ready after {timeout:.0f} s (`make logs`)")
        time.sleep(POLL_S)
