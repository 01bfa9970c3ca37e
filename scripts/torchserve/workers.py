"""Counts the workers of a served model, and sets how many it may have."""

import contextlib
import json
from typing import Any

from archive.errors import OpserveError
from scripts.torchserve.server import Server, error_message

# TorchServe's status of a worker that has ended, whether it will be tried again or not.
ENDED = "UNLOADING"
# For a call that is answered at once.
REQUEST_S = 30.0


def count_ready_workers(description: dict[str, Any]) -> int:
    """Returns how many workers of a described model answer requests."""
    return sum(worker["status"] == "READY" for worker in description.get("workers", []))


def count_ended_workers(description: dict[str, Any]) -> int:
    """Returns how many workers of a described model have ended, whether TorchServe will try them again or not."""
    return sum(worker["status"] == ENDED for worker in description.get("workers", []))


def stand_in_errors(server: Server, description: dict[str, Any]) -> list[str]:
    """Returns why workers of a described model could not load it; as stand-ins they are ready but answer only 503."""
    pids = {int(worker["pid"]) for worker in description.get("workers", []) if worker["status"] == "READY"}
    found = []
    for path in (server.temp / "models").glob(".*.load"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            state = json.loads(path.read_text())
            if state.get("stands_in") in pids:
                found.append(str(state["error"]))
    return found


def scaling_path(model: str, min_workers: int, max_workers: int, version: str = "") -> str:
    """Returns the path of the management call that asks for a number of workers and is answered at once.

    With `synchronous=true` TorchServe would block one of the threads that serve all clients until the model is loaded.
    """
    name = f"{model}/{version}" if version else model
    return f"/models/{name}?min_worker={min_workers}&max_worker={max_workers}&synchronous=false"


def set_worker_limits(
    server: Server, model: str, version: str, min_workers: int, max_workers: int, timeout: float = REQUEST_S
) -> None:
    """Sets the minimum and maximum of a version's workers (the default version if empty); does not wait for them."""
    response = server.request("management", "PUT", scaling_path(model, min_workers, max_workers, version), timeout)
    if response.status_code >= 300:
        name = f"{model} {version}" if version else model
        raise OpserveError(f"TorchServe did not scale {name}: {error_message(response.text)}")
