"""Replaces the default version of a served model by another one without losing a request."""

import argparse

from archive.process.command import run
from scripts.torchserve import snapshot
from scripts.torchserve.arguments import add_server_arguments
from scripts.torchserve.deployment import deploy
from scripts.torchserve.server import Server, server_lock


def main(arguments: list[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a served model")
    parser.add_argument("version", help="the version that is to become the default; its archive is packed")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds to wait for each step (%(default)g)")
    add_server_arguments(parser)
    options = parser.parse_args(arguments)
    server = Server.from_arguments(options)
    with server_lock(server):
        deploy(server, options.model, options.version, options.timeout)
        snapshot.save(server)
    return 0


if __name__ == "__main__":
    run(main)
