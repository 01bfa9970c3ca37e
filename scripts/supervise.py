"""Watches one server and starts it again when it ends without having been asked to.

`make start` leaves one of these running next to the server, and `make stop` ends both.
"""

import argparse
import sys

from scripts.torchserve.arguments import StartOptions, add_start_arguments
from scripts.torchserve.supervisor import supervise


def main(arguments: list[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_start_arguments(parser)
    parser.add_argument("--foreground", action="store_true", help="start the server, and stop it with this process")
    options = parser.parse_args(arguments)
    return supervise(StartOptions.from_arguments(options), foreground=options.foreground)


if __name__ == "__main__":
    sys.exit(main())
