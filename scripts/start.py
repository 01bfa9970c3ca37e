"""Starts TorchServe and waits until every model has answered its archive's sample correctly."""

import argparse

from archive.process.command import run
from scripts.torchserve.arguments import StartOptions, add_start_arguments
from scripts.torchserve.lifecycle import start
from scripts.torchserve.server import Server


def main(arguments: list[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_start_arguments(parser)
    parser.add_argument("--predict", action="store_true", help="try the samples even if it is already running")
    parser.add_argument("--no-supervisor", action="store_true", help="leave nothing that starts it again when it ends")
    options = parser.parse_args(arguments)
    start(
        Server.from_arguments(options),
        StartOptions.from_arguments(options),
        predict=options.predict,
        supervised=not options.no_supervisor,
    )
    return 0


if __name__ == "__main__":
    run(main)
