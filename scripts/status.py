"""Shows the running server: addresses, processes, and each model with its workers."""

import argparse

from archive.process.command import run
from scripts.torchserve.arguments import add_server_arguments
from scripts.torchserve.server import Server
from scripts.torchserve.status import show_status

NOT_RUNNING = 3


def main(arguments: list[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_server_arguments(parser)
    server = Server.from_arguments(parser.parse_args(arguments))
    return 0 if show_status(server) else NOT_RUNNING


if __name__ == "__main__":
    run(main)
