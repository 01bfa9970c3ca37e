"""Replaces the default version of a served model by another one without losing a request.

The new version is registered next to the old one, tried, and made the default; the old one is removed when it has
answered all requests that it got.
"""

from archive.errors import OpserveError
from archive.packer.names import is_name
from scripts.torchserve import deploy_record, preflight, snapshot, versions
from scripts.torchserve.archives import find_archive
from scripts.torchserve.client import check_sample
from scripts.torchserve.deploy_record import DeployRecord
from scripts.torchserve.scaling import wait_for_workers
from scripts.torchserve.server import Server
from scripts.torchserve.worker_log import LogMark
from scripts.torchserve.workers import set_worker_limits


def deploy(server: Server, model: str, version: str, timeout: float) -> None:
    """Makes a version the default one of its model; an error before the switch leaves everything as it was.

    An interrupted deploy of the model is finished first, or rolled back if it had not reached the switch.

    Args:
        server: the server.
        model: a served model.
        version: a version that is not served yet and whose archive is in the model store.
        timeout: seconds for each step.

    Raises:
        OpserveError: the version cannot be deployed; the message says why.
    """
    server.require_running()
    if not is_name(version):
        raise OpserveError(f"{version!r} cannot name a version: letters, digits, '-' and '.', a letter or digit first")
    server.require_model(model)
    for record in deploy_record.load_unfinished(server):
        if record.model == model:
            _settle(server, record, timeout)
            if record.new == version == server.require_model(model)["modelVersion"]:
                return
    described = server.require_model(model)
    old = described["modelVersion"]
    if version in server.versions(model):
        hint = f", or first `make remove MODEL={model} VERSION={version}`" if version != old else ""
        raise OpserveError(f"{model} {version} is served already (`make status`); deploy another version{hint}")
    archive = find_archive(server.model_store, model, version)
    if archive.sample is None or archive.sample.answer is None:
        raise OpserveError(
            f"{archive.path.name} contains no sample with its answer, so it cannot be tried; "
            "`make archive` packs it with one"
        )
    preflight.check_workers([archive])
    workers = len(described["workers"])
    if workers and "pid" not in (versions.describe_by_worker(server, model, old, timeout) or {}):
        raise OpserveError(
            f"{model} {old} does not report which worker answers, so there is no way to know when it is idle: "
            "it was not packed by opserve, or none of its workers answers (`make status`)"
        )
    mark = LogMark(server.logs)
    deploy_record.save(server, model, old, version)
    try:
        versions.register(server, archive, timeout)
        _start_workers(server, model, version, max(workers, 1), mark, timeout)
        check_sample(server, f"{model}/{version}", archive, f"{model} {version}")
        versions.call(server, "PUT", f"/models/{model}/{version}/set-default", timeout)
    except BaseException as error:
        remark = _roll_back(server, model, version, timeout)
        if isinstance(error, OpserveError):
            raise OpserveError(f"{error}\n{model} {old} is served as before{remark}") from None
        raise
    print(f"{model} {version} is the default; {old} answers the requests that it got before", flush=True)
    # If the server ends during the wait for the old version, it comes back with the new one.
    snapshot.save(server)
    _retire(server, model, old, timeout)


def _start_workers(server: Server, model: str, version: str, workers: int, mark: LogMark, timeout: float) -> None:
    """Waits until a registered version has at least this many workers, each of which has checked its own sample."""
    described = server.versions(model)[version]
    configured = int(described["minWorkers"])
    workers, most = max(workers, configured), max(workers, int(described["maxWorkers"]))
    if configured < workers:
        set_worker_limits(server, model, version, workers, most, timeout)
    wait_for_workers(server, model, workers, most, version=version, mark=mark, timeout=timeout)


def _settle(server: Server, record: DeployRecord, timeout: float) -> None:
    """Finishes a deploy that was interrupted after its switch, or rolls back one that was interrupted before."""
    model, new = record.model, record.new
    if server.require_model(model)["modelVersion"] == new:
        print(f"{model} {new} is the default since a deploy that was interrupted", flush=True)
        if record.old in server.versions(model):
            _retire(server, model, record.old, timeout)
        else:
            deploy_record.remove(server, model)
    elif remark := _roll_back(server, model, new, timeout):
        raise OpserveError(f"a deploy of {model} {new} was interrupted{remark}")
    else:
        print(f"{model} {new} was left behind by a deploy that was interrupted, and is removed", flush=True)


def _roll_back(server: Server, model: str, version: str, timeout: float) -> str:
    """Unregisters a version that is not the default yet; returns a remark if it stays registered, or ""."""
    try:
        if version in server.versions(model):
            versions.unregister(server, model, version, timeout)
        deploy_record.remove(server, model)
    except OpserveError as error:
        return f", and {version} stays registered: {error}"
    return ""


def _retire(server: Server, model: str, version: str, timeout: float) -> None:
    """Removes the version that was the default, once it has answered all its requests."""
    versions.drain(server, model, version, timeout)
    versions.unregister(server, model, version, timeout)
    deploy_record.remove(server, model)
    print(f"{model} {version} has answered all its requests and is removed")
