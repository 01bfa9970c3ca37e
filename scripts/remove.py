"""Takes a version of a served model, or all of it, off the running server when it has answered what it was given."""

import sys

if not __package__:  # run as a file: import from the repository, not from this folder
    sys.path[0] = __file__.rpartition("/scripts/")[0]

import argparse

from archive.errors import OpserveError
from archive.process.command import run
from scripts.deploy import TIMEOUT_S, change, describe_by_worker, drain
from scripts.torchserve import deployment, snapshot
from scripts.torchserve.arguments import add_server_arguments
from scripts.torchserve.lock import server_lock
from scripts.torchserve.server import Server
from scripts.torchserve.workers import count_ready_workers


def remove(server: Server, model: str, version: str, timeout: float) -> None:
    """Unregister a version of a model, or every version if none is named; its archive stays in the model store.

    Raises:
        OpserveError: there is no such version, or it is the default one and others are served beside it.
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
    # TorchServe does not give up the default one before the others.
    for each in [version] if version else sorted(versions, key=lambda name: (name == default, name)):
        if count_ready_workers(versions[each]):
            if "pid" in (describe_by_worker(server, model, each, timeout) or {}):
                drain(server, model, each, timeout)
            else:
                print(f"{model} {each} does not say when it is idle: requests that it is answering now are lost")
        change(server, "DELETE", f"/models/{model}/{each}", timeout)
        print(f"{model} {each} is not served any more")
    if not version or version in {each.new for each in deployment.unfinished(server) if each.model == model}:
        deployment.forget(server, model)


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a served model")
    parser.add_argument("version", nargs="?", default="", help="one of its versions (all of them)")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="seconds to wait for each step (300)")
    add_server_arguments(parser)
    options = parser.parse_args(arguments)
    server = Server.from_arguments(options)
    with server_lock(server):
        remove(server, options.model, options.version, options.timeout)
        snapshot.save(server)
    return 0


if __name__ == "__main__":
    run(main)
