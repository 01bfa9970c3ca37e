"""Asks a running server for workers and waits for them, without blocking other clients."""

import time
from collections.abc import Collection
from typing import Any

from archive.errors import OpserveError
from scripts.torchserve.archives import Archive
from scripts.torchserve.machine import find_machine
from scripts.torchserve.model_store import count_models
from scripts.torchserve.recovery import revive
from scripts.torchserve.server import Server
from scripts.torchserve.worker_log import LogMark, is_worker_of
from scripts.torchserve.workers import count_ended_workers, count_ready_workers, set_worker_limits, stand_in_errors

TIMEOUT_S = 300.0
POLL_S = 0.1
# The longest time until a worker that has ended is tried again, unless TorchServe has given up on it.
NEXT_TRY_S = 60.0


def scale_to_cores(server: Server, archives: Collection[Archive]) -> None:
    """Gives each model that may have more workers than it starts with its share of the cores."""
    share = find_machine().threads_per_model(count_models(archives))
    for model in dict.fromkeys(archive.model for archive in archives):
        described = server.require_model(model)
        min_workers, max_workers = int(described["minWorkers"]), int(described["maxWorkers"])
        workers = min(max_workers, share)
        # On a GPU, memory is the limit, and dividing it is up to the user.
        on_gpu = any(worker.get("gpu") for worker in described["workers"])
        if workers > min_workers > 0 and not on_gpu:
            set_workers(server, model, workers, max_workers)


def set_workers(
    server: Server, model: str, min_workers: int, max_workers: int, version: str = "", timeout: float = TIMEOUT_S
) -> dict[str, Any]:
    """Sets the minimum and maximum of a version's workers (the default version if empty), and waits for them.

    If every worker of the version has ended, all are restarted: TorchServe may have given up on them.

    Returns:
        The version's description, with at least `min_workers` ready workers and at most `max_workers` in all.
    """
    before = server.describe(model, version) or {"workers": []}
    known = {worker["id"] for worker in before["workers"]}
    mark = LogMark(server.logs)
    # A stand-in is ready too, but answers 503 only.
    if min_workers > 0 and 0 < len(known) == count_ended_workers(before) + len(stand_in_errors(server, before)):
        revive(server, model, min_workers, version)
    set_worker_limits(server, model, version, min_workers, max_workers, timeout)
    return wait_for_workers(
        server, model, min_workers, max_workers, version=version, known=known, mark=mark, timeout=timeout
    )


def wait_for_workers(
    server: Server,
    model: str,
    min_workers: int,
    max_workers: int,
    *,
    version: str = "",
    known: Collection[str] = (),
    mark: LogMark,
    timeout: float,
) -> dict[str, Any]:
    """Waits until a version of a model has the workers that TorchServe was asked for; fails as soon as a new one dies.

    Args:
        server: the server.
        model: a served model.
        min_workers: how many workers must be ready.
        max_workers: how many workers there may be.
        version: the version; the default one if empty.
        known: ids of workers that existed before; their deaths are not those of new ones.
        mark: where the logs ended when the workers were asked for.
        timeout: seconds.

    Returns:
        The version's description.
    """
    name = f"{model} {version}" if version else model
    deadline, unchanged_since, last = time.monotonic() + timeout, time.monotonic(), None
    while True:
        described = server.describe(model, version)
        if described is None:
            raise OpserveError(f"{name} is not served any more")
        errors = stand_in_errors(server, described)
        ready, total = count_ready_workers(described) - len(errors), len(described["workers"])
        if min_workers <= ready and total <= max_workers:
            return described
        progress = f"{name} has {ready} of {min_workers} workers ready"
        if errors:
            raise OpserveError(f"{progress}; another does not load: {errors[0]}")
        for worker in mark.ended_workers():
            # `W-9000-digits_1.0` is the worker whose id is 9000.
            if is_worker_of(worker, model, described["modelVersion"]) and worker.split("-")[1] not in known:
                raise OpserveError(f"{progress}; a new one died while loading:\n{mark.last_output(worker)}")
        state = [(worker["id"], worker["pid"], worker["status"]) for worker in described["workers"]]
        if state != last or ready + count_ended_workers(described) < total:
            last, unchanged_since = state, time.monotonic()
        if time.monotonic() - unchanged_since > NEXT_TRY_S:
            raise OpserveError(
                f"{progress}; TorchServe has given up on the others (`make logs` shows why). "
                f"`make scale MODEL={model} WORKERS=0` ends all, and then WORKERS={min_workers} starts new ones"
            )
        if time.monotonic() > deadline:
            raise OpserveError(f"{progress} after {timeout:.0f} s (`make logs`)")
        time.sleep(POLL_S)
