"""Shows the ends of the server's logs, or follows them."""

import argparse
import os
import sys

from archive.errors import OpserveError
from archive.process.command import run
from scripts.torchserve.arguments import add_server_arguments
from scripts.torchserve.server import Server


def main(arguments: list[str] | None = None) -> int:
    """Runs the command: replaces this process with `tail`, which also follows a log that is rotated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--follow", action="store_true", help="keep printing what is written")
    parser.add_argument("--lines", type=int, default=20, help="lines of each log (20)")
    add_server_arguments(parser)
    options = parser.parse_args(arguments)
    server = Server.from_arguments(options)
    logs = sorted(path for path in server.logs.glob("*.log") if path.stat().st_size or options.follow)
    if not logs:
        raise OpserveError(f"there are no logs in {server.logs}; `make start` starts the server that writes them")
    sys.stdout.flush()
    os.execvp("tail", ["tail", "-n", str(options.lines), *(["-F"] if options.follow else []), *map(str, logs)])


if __name__ == "__main__":
    run(main)
