"""Puts another version of a served model in its place, without a request being lost: registers it beside the old one,
tries it, makes it the default, waits until the old one has answered all it was given, and unregisters that.
"""

import sys

if not __package__:  # run as a file: import from the repository, not from this folder
    sys.path[0] = __file__.rpartition("/scripts/")[0]

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

from archive.errors import OpserveError
from archive.packer.names import is_name
from archive.process.command import run
from scripts.predict import archive_of, try_sample
from scripts.torchserve import archives as mar
from scripts.torchserve import deployment, snapshot
from scripts.torchserve.arguments import add_server_arguments
from scripts.torchserve.deployment import Deployment
from scripts.torchserve.lock import server_lock
from scripts.torchserve.scaling import wait_for_workers
from scripts.torchserve.server import Server, error_message
from scripts.torchserve.worker_log import LogMark
from scripts.torchserve.workers import set_worker_limits

TIMEOUT_S = 300.0
POLL_S = 0.1
NO_MODEL_API = "this server registers and removes no models; `make stop start MODEL_API=1` starts one that does"


def deploy(server: Server, model: str, version: str, timeout: float) -> None:
    """Replace the default version of a model; whatever goes wrong before the switch leaves all as it was.

    A deploy that was cut short is finished first, or taken back where it had not come as far as the switch.
    """
    server.require_running()
    if not is_name(version):
        raise OpserveError(f"{version!r} cannot name a version: letters, digits, '-' and '.', a letter or digit first")
    server.require_model(model)
    for left in deployment.unfinished(server):
        if left.model == model:
            settle(server, left, timeout)
            if left.new == version == server.require_model(model)["modelVersion"]:
                return
    old = server.require_model(model)
    if version in server.versions(model):
        raise OpserveError(
            f"{model} {version} is served already (`make status`); deploy another version"
            + (f", or first `make remove MODEL={model} VERSION={version}`" if version != old["modelVersion"] else "")
        )
    archive = archive_of(server, model, version)
    if archive.sample is None or archive.sample.answer is None:
        raise OpserveError(
            f"{archive.path.name} carries no sample with its answer, so that it cannot be tried; "
            "`make archive` packs it with one"
        )
    workers = len(old["workers"])
    if workers and "pid" not in (describe_by_worker(server, model, old["modelVersion"], timeout) or {}):
        raise OpserveError(
            f"{model} {old['modelVersion']} does not say which worker answers, so nothing would tell when it is idle: "
            "it was not packed by opserve, or has no worker that answers (`make status`)"
        )
    mark = LogMark(server.logs)
    deployment.record(server, model, old["modelVersion"], version)
    try:
        register(server, archive, timeout)
        scale_up(server, archive, max(workers, 1), mark, timeout)
        try_sample(server, f"{model}/{version}", archive, f"{model} {version}")
        change(server, "PUT", f"/models/{model}/{version}/set-default", timeout)
    except BaseException as error:
        rest = take_back(server, model, version, timeout)
        if isinstance(error, OpserveError):
            raise OpserveError(f"{error}\n{model} {old['modelVersion']} is served as before{rest}") from None
        raise
    print(f"{model} {version} is the default; {old['modelVersion']} answers what it was given before", flush=True)
    # A server that ends while the old one is waited for comes back with the new one.
    snapshot.save(server)
    retire(server, model, old["modelVersion"], timeout)


def settle(server: Server, left: Deployment, timeout: float) -> None:
    """Finish a deploy that was cut short after its switch, or take back one that was cut short before."""
    if server.require_model(left.model)["modelVersion"] == left.new:
        print(f"{left.model} {left.new} is the default since a deploy that was interrupted", flush=True)
        if left.old in server.versions(left.model):
            retire(server, left.model, left.old, timeout)
        else:
            deployment.forget(server, left.model)
    elif rest := take_back(server, left.model, left.new, timeout):
        raise OpserveError(f"a deploy of {left.model} {left.new} was interrupted{rest}")
    else:
        print(f"{left.model} {left.new} was left behind by a deploy that was interrupted, and is removed", flush=True)


def take_back(server: Server, model: str, version: str, timeout: float) -> str:
    """Unregister a version that is not the default yet.

    Returns:
        Why it stays registered, or "".
    """
    try:
        if version in server.versions(model):
            change(server, "DELETE", f"/models/{model}/{version}", timeout)
        deployment.forget(server, model)
    except OpserveError as problem:
        return f", and {version} stays registered: {problem}"
    return ""


def retire(server: Server, model: str, version: str, timeout: float) -> None:
    """Unregister the version that was the default, when it has answered all that it was given."""
    drain(server, model, version, timeout)
    change(server, "DELETE", f"/models/{model}/{version}", timeout)
    deployment.forget(server, model)
    print(f"{model} {version} had nothing left to answer and is gone")


def register(server: Server, archive: mar.Archive, timeout: float) -> None:
    """Have the server unpack an archive of its model store, and begin to start the workers that it asks for.

    Not synchronously: TorchServe would block a thread that answers requests until the model is loaded.
    """
    # The name of a file may hold what means something in a query.
    address = f"/models?url={quote(archive.path.name)}&synchronous=false"
    answer = server.request("management", "POST", address, timeout)
    if answer.status_code == 405:
        raise OpserveError(NO_MODEL_API)
    if answer.status_code >= 300:
        raise OpserveError(f"TorchServe did not register {archive.path.name}: {error_message(answer.text)}")


def scale_up(server: Server, archive: mar.Archive, workers: int, mark: LogMark, timeout: float) -> None:
    """Wait until a registered version has at least so many workers, each of which has answered the sample to itself.

    Raises:
        OpserveError: one of them died, with its traceback; or they were not ready in time.
    """
    model, version = archive.model, archive.version
    described = server.versions(model)[version]
    workers, most = max(workers, int(described["minWorkers"])), max(workers, int(described["maxWorkers"]))
    if int(described["minWorkers"]) < workers:
        set_worker_limits(server, model, version, workers, most, timeout)
    wait_for_workers(server, model, workers, most, version=version, mark=mark, timeout=timeout)


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
                "the same command again goes on waiting, and --timeout waits longer"
            )
        # As many at once as there are workers, so that each gets one.
        with ThreadPoolExecutor(len(pids)) as pool:
            answers = pool.map(lambda _, left=left: describe_by_worker(server, model, version, left), pids)
            idle |= {told["pid"] for told in answers if told and "pid" in told}
        if not pids <= idle:
            time.sleep(POLL_S)


def describe_by_worker(server: Server, model: str, version: str, timeout: float) -> dict[str, Any] | None:
    """What the worker that got round to it says of its model and itself, or None if none did."""
    try:
        answer = server.request("management", "GET", f"/models/{model}/{version}?customized=true", timeout)
        told = answer.json()[0]["customizedMetadata"]
        told = json.loads(told) if isinstance(told, str) else told
    except (OpserveError, ValueError, LookupError, TypeError):  # a full queue, or somebody else's handler
        return None
    return told if isinstance(told, dict) else None


def change(server: Server, method: str, path: str, timeout: float) -> None:
    """Call the management API; anything but success is an error."""
    answer = server.request("management", method, path, timeout)
    if answer.status_code == 405:
        raise OpserveError(NO_MODEL_API)
    if answer.status_code != 200:
        raise OpserveError(f"TorchServe refused {method} {path}: {error_message(answer.text)}")


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a served model")
    parser.add_argument("version", help="the version that shall take the default's place; its archive is packed")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="seconds to wait for each step (300)")
    add_server_arguments(parser)
    options = parser.parse_args(arguments)
    server = Server.from_arguments(options)
    with server_lock(server):
        deploy(server, options.model, options.version, options.timeout)
        snapshot.save(server)
    return 0


if __name__ == "__main__":
    run(main)
