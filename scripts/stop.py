"""Stops the server of a home folder and removes what it, or one that was killed, left behind."""

import argparse

from archive.process.command import run
from scripts.torchserve.arguments import add_server_arguments
from scripts.torchserve.lifecycle import stop
from scripts.torchserve.server import Server


def main(arguments: list[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_server_arguments(parser)
    server = Server.from_arguments(parser.parse_args(arguments))
    print("stopped" if stop(server) else f"not running: no TorchServe in {server.home}")
    return 0


if __name__ == "__main__":
    run(main)
