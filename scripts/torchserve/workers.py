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
    """How many workers of a described model answer requests."""
    return sum(worker["status"] == "READY" for worker in description.get("workers", []))


def count_ended_workers(description: dict[str, Any]) -> int:
    """How many workers of a described model have ended, whether TorchServe means to try them again or not."""
    return sum(worker["status"] == ENDED for worker in description.get("workers", []))


def stand_in_errors(server: Server, description: dict[str, Any]) -> list[str]:
    """The errors for which workers of a described model came up without it and answer 503 in its place."""
    pids = {int(worker["pid"]) for worker in description.get("workers", []) if worker["status"] == "READY"}
    found = []
    for path in (server.temp / "models").glob(".*.load"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            state = json.loads(path.read_text())
            if state.get("stands_in") in pids:
                found.append(str(state["error"]))
    return found


def scaling_path(model: str, fewest: int, most: int, version: str = "") -> str:
    """The call of the management API that asks for a number of workers, and is answered at once.

    With `synchronous=true` TorchServe would block one of the threads that serve every client's connections until the
    model is loaded.
    """
    name = f"{model}/{version}" if version else model
    return f"/models/{name}?min_worker={fewest}&max_worker={most}&synchronous=false"


def set_worker_limits(
    server: Server, model: str, version: str, fewest: int, most: int, timeout: float = REQUEST_S
) -> None:
    """Set how many workers a version of a model (the default one if empty) has at least and at most; does not wait.

    Raises:
        OpserveError: TorchServe refused.
    """
    answer = server.request("management", "PUT", scaling_path(model, fewest, most, version), timeout)
    if answer.status_code >= 300:
        raise OpserveError(f"TorchServe did not scale {model}{version and ' '}{version}: {error_message(answer.text)}")
