"""Removes a version of a served model, or all of it, from the running server once it has answered its requests."""

import argparse

from archive.process.command import run
from scripts.torchserve import snapshot
from scripts.torchserve.arguments import add_server_arguments
from scripts.torchserve.server import Server, server_lock
from scripts.torchserve.versions import remove


def main(arguments: list[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a served model")
    parser.add_argument("version", nargs="?", default="", help="one of its versions (all of them)")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds to wait for each step (%(default)g)")
    add_server_arguments(parser)
    options = parser.parse_args(arguments)
    server = Server.from_arguments(options)
    with server_lock(server):
        remove(server, options.model, options.version, options.timeout)
        snapshot.save(server)
    return 0


if __name__ == "__main__":
    run(main)
