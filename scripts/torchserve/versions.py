"""Registers, drains and removes versions of models on a running server."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

from archive.errors import OpserveError
from scripts.torchserve import deploy_record
from scripts.torchserve.archives import Archive
from scripts.torchserve.server import Server, error_message
from scripts.torchserve.workers import count_ready_workers

POLL_S = 0.1
NO_MODEL_API = "this server does not register or remove models; `make stop start MODEL_API=1` starts one that does"


def register(server: Server, archive: Archive, timeout: float) -> None:
    """Makes the server unpack an archive of its model store and begin to start the workers that it asks for.

    Not synchronously: TorchServe would block a thread that answers requests until the model is loaded.
    """
    # The name of a file may contain characters that have a meaning in a query.
    call(server, "POST", f"/models?url={quote(archive.path.name)}&synchronous=false", timeout)


def unregister(server: Server, model: str, version: str, timeout: float) -> None:
    """Makes the server forget a version; its workers are killed."""
    call(server, "DELETE", f"/models/{model}/{version}", timeout)


def call(server: Server, method: str, path: str, timeout: float) -> None:
    """Calls the management API.

    Raises:
        OpserveError: the answer is not a success.
    """
    answer = server.request("management", method, path, timeout)
    if answer.status_code == 405:
        raise OpserveError(NO_MODEL_API)
    if answer.status_code >= 300:
        raise OpserveError(f"TorchServe refused {method} {path}: {error_message(answer.text)}")


def remove(server: Server, model: str, version: str, timeout: float) -> None:
    """Removes a version of a model, or all of them, from the server; archives stay in the model store.

    Args:
        server: the server.
        model: a served model.
        version: the version; all of them if empty.
        timeout: seconds for each step.

    Raises:
        OpserveError: there is no such version, or it is the default one of several.
    """
    server.require_running()
    default = server.require_model(model)["modelVersion"]
    versions = server.versions(model)
    if version and version not in versions:
        raise OpserveError(f"{model} {version} is not served; there are: {', '.join(sorted(versions))}")
    if version == default and len(versions) > 1:
        raise OpserveError(
            f"{model} {version} is the default version; `make deploy MODEL={model} VERSION=…` puts another in its "
            f"place, and `make remove MODEL={model}` removes all versions"
        )
    # TorchServe removes the default version only after the others.
    for each in [version] if version else sorted(versions, key=lambda name: (name == default, name)):
        if count_ready_workers(versions[each]):
            if "pid" in (describe_by_worker(server, model, each, timeout) or {}):
                drain(server, model, each, timeout)
            else:
                print(f"{model} {each} does not report when it is idle: requests that it is answering now are lost")
        unregister(server, model, each, timeout)
        print(f"{model} {each} is no longer served")
    if not version or any((each.model, each.new) == (model, version) for each in deploy_record.load_unfinished(server)):
        deploy_record.remove(server, model)


def drain(server: Server, model: str, version: str, timeout: float) -> None:
    """Waits until a version that is no longer the default has answered all requests that it got before.

    TorchServe does not report whether a worker is busy, and kills busy ones too. But requests wait in one queue, and a
    request for a description waits behind them: a worker that has answered one has answered everything before it.

    Raises:
        OpserveError: it took longer than `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    idle: set[int] = set()
    while True:
        described = server.describe(model, version)
        pids = {worker["pid"] for worker in described["workers"]} if described else set()
        if pids <= idle:
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise OpserveError(
                f"{model} {version} is not idle after {timeout:.0f} s and stays registered next to the new default; "
                "the same command again continues to wait, and --timeout waits longer"
            )
        # As many requests at a time as there are workers, so that each gets one.
        with ThreadPoolExecutor(len(pids)) as pool:
            answers = pool.map(lambda _, left=left: describe_by_worker(server, model, version, left), pids)
            idle |= {answer["pid"] for answer in answers if answer and "pid" in answer}
        if not pids <= idle:
            time.sleep(POLL_S)


def describe_by_worker(server: Server, model: str, version: str, timeout: float) -> dict[str, Any] | None:
    """Returns one of the workers' own description of its model and process, or None if none answers with one."""
    try:
        answer = server.request("management", "GET", f"/models/{model}/{version}?customized=true", timeout)
        description = answer.json()[0]["customizedMetadata"]
        description = json.loads(description) if isinstance(description, str) else description
    except (OpserveError, ValueError, LookupError, TypeError):  # the queue is full, or the handler is not opserve's
        return None
    return description if isinstance(description, dict) else None
