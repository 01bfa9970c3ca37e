"""Shows the ends of the server's logs, or follows them."""

import sys

if not __package__:  # run as a file: import from the repository, not from this folder
    sys.path[0] = __file__.rpartition("/scripts/")[0]

import argparse
import os

from archive.errors import OpserveError
from archive.process.command import run
from scripts.torchserve.arguments import add_server_arguments
from scripts.torchserve.server import Server


def main(arguments: list[str] | None = None) -> int:
    """Entry point: hands over to `tail`, which also follows a log that is rotated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--follow", action="store_true", help="go on printing what is written")
    parser.add_argument("--lines", type=int, default=20, help="lines of each log (20)")
    add_server_arguments(parser)
    options = parser.parse_args(arguments)
    server = Server.from_arguments(options)
    logs = sorted(path for path in server.logs.glob("*.log") if path.stat().st_size or options.follow)
    if not logs:
        raise OpserveError(f"{server.logs} holds no logs; `make start` starts the server that writes them")
    sys.stdout.flush()
    os.execvp("tail", ["tail", "-n", str(options.lines), *(["-F"] if options.follow else []), *map(str, logs)])


if __name__ == "__main__":
    run(main)
