"""Puts another version of a served model in its place, without a request being lost: registers it beside the old one,
tries it, makes it the default, waits until the old one has answered all it was given, and unregisters that."""

import sys

if not __package__:  # run as a file: import from the repository, not from this folder
    sys.path[0] = __file__.rpartition("/scripts/")[0]

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

from scripts import mar, served
from scripts.errors import OpserveError, run
from scripts.predict import archive_of, try_sample
from scripts.server import Server, add_arguments, ready_workers
from scripts.stop import alone
from scripts.worker_log import LogMark

TIMEOUT_S = 300.0
POLL_S = 0.1


def deploy(server: Server, model: str, version: str, timeout: float) -> None:
    """Replace the default version of a model; whatever goes wrong before the switch leaves all as it was."""
    server.require_running()
    old = server.require_model(model)
    if version in server.versions(model):
        raise OpserveError(f"{model} {version} is served already (`make status`); deploy another version")
    archive = archive_of(server, model, version)
    if archive.sample is None or archive.sample.answer is None:
        raise OpserveError(
            f"{archive.path.name} carries no sample with its answer, so that it cannot be tried; "
            "`make archive` packs it with one"
        )
    workers = len(old["workers"])
    if workers and "pid" not in (_described(server, model, old["modelVersion"], timeout) or {}):
        raise OpserveError(
            f"{model} {old['modelVersion']} does not say which worker answers, so nothing would tell when it is idle: "
            "it was not packed by opserve, or has no worker that answers (`make status`)"
        )
    mark = LogMark(server.logs)
    try:
        register(server, archive, timeout)
        scale_up(server, archive, max(workers, 1), mark, timeout)
        try_sample(server, f"{model}/{version}", archive, f"{model} {version}")
        _change(server, "PUT", f"/models/{model}/{version}/set-default", timeout)
    except BaseException as error:
        rest = ""
        try:
            if version in server.versions(model):
                _change(server, "DELETE", f"/models/{model}/{version}", timeout)
        except OpserveError as problem:
            rest = f", and {version} stays registered: {problem}"
        if isinstance(error, OpserveError):
            raise OpserveError(f"{error}\n{model} {old['modelVersion']} is served as before{rest}") from None
        raise
    print(f"{model} {version} is the default; {old['modelVersion']} answers what it was given before")
    drain(server, model, old["modelVersion"], timeout)
    _change(server, "DELETE", f"/models/{model}/{old['modelVersion']}", timeout)
    print(f"{model} {old['modelVersion']} had nothing left to answer and is gone")


def register(server: Server, archive: mar.Archive, timeout: float) -> None:
    """Have the server unpack an archive of its model store, and begin to start the workers that it asks for.

    Not synchronously: TorchServe would block a thread that answers requests until the model is loaded.
    """
    # The name of a file may hold what means something in a query.
    address = f"/models?url={quote(archive.path.name)}&synchronous=false"
    answer = server.request("management", "POST", address, timeout)
    if answer.status_code == 405:
        raise OpserveError("this server registers no models; `make stop start MODEL_API=1` starts one that does")
    if answer.status_code >= 300:
        raise OpserveError(f"TorchServe did not register {archive.path.name}: {_reason(answer.text)}")


def scale_up(server: Server, archive: mar.Archive, workers: int, mark: LogMark, timeout: float) -> None:
    """Wait until a registered version has at least so many workers, each of which has answered the sample to itself.

    Raises:
        OpserveError: one of them died, with its traceback; or they were not ready in time.
    """
    name = f"{archive.model} {archive.version}"
    described = server.versions(archive.model)[archive.version]
    if int(described["minWorkers"]) < workers:
        limits = f"min_worker={workers}&max_worker={workers}&synchronous=false"
        answer = server.request("management", "PUT", f"/models/{archive.model}/{archive.version}?{limits}", timeout)
        if answer.status_code >= 300:
            raise OpserveError(f"TorchServe did not scale {name}: {_reason(answer.text)}")
    deadline = time.monotonic() + timeout
    while True:
        described = server.versions(archive.model)[archive.version]
        if ready_workers(described) >= max(workers, int(described["minWorkers"])):
            return
        for worker in mark.ended_workers():
            if worker.endswith(f"-{archive.model}_{archive.version}"):
                raise OpserveError(f"a worker of {name} died while it loaded:\n{mark.last_words(worker)}")
        if time.monotonic() > deadline:
            raise OpserveError(
                f"{name} has {ready_workers(described)} of {workers} workers ready after {timeout:.0f} s"
            )
        time.sleep(POLL_S)


def drain(server: Server, model: str, version: str, timeout: float) -> None:
    """Wait until a version that is the default no more has answered all that it was given as the default.

    TorchServe says of no worker whether it is busy, and ends a busy one as readily. But requests wait in one queue,
    and a question for a description waits behind them; so a worker that has answered one has answered all before it.
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
                f"{model} {version} is not idle after {timeout:.0f} s and stays registered, beside the new default; "
                "--timeout waits longer"
            )
        # As many at once as there are workers, so that each gets one.
        with ThreadPoolExecutor(len(pids)) as pool:
            answers = pool.map(lambda _, left=left: _described(server, model, version, left), pids)
            idle |= {told["pid"] for told in answers if told and "pid" in told}
        if not pids <= idle:
            time.sleep(POLL_S)


def _described(server: Server, model: str, version: str, timeout: float) -> dict[str, Any] | None:
    """What the worker that got round to it says of its model and itself, or None if none did."""
    try:
        answer = server.request("management", "GET", f"/models/{model}/{version}?customized=true", timeout)
        told = answer.json()[0]["customizedMetadata"]
        told = json.loads(told) if isinstance(told, str) else told
    except (OpserveError, ValueError, LookupError, TypeError):  # a full queue, or somebody else's handler
        return None
    return told if isinstance(told, dict) else None


def _change(server: Server, method: str, path: str, timeout: float) -> None:
    answer = server.request("management", method, path, timeout)
    if answer.status_code != 200:
        raise OpserveError(f"TorchServe refused {method} {path}: {_reason(answer.text)}")


def _reason(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, LookupError, TypeError):
        return text.strip()


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a served model")
    parser.add_argument("version", help="the version that shall take the default's place; its archive is packed")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="seconds to wait for each step (300)")
    add_arguments(parser)
    options = parser.parse_args(arguments)
    server = Server.of(options)
    with alone(server):
        deploy(server, options.model, options.version, options.timeout)
        served.remember(server)
    return 0


if __name__ == "__main__":
    run(main)
