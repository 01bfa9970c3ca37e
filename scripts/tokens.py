"""Prints a token that is valid now, for `-H "Authorization: Bearer …"`; an expired one is renewed first."""

import sys

# Clients call this file by its path, from any folder.
if not __package__:
    sys.path[0] = __file__.rpartition("/scripts/")[0]

import argparse

from archive.process.command import run
from scripts.torchserve.arguments import add_server_arguments
from scripts.torchserve.server import Server


def main(arguments: list[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["inference", "management"])
    add_server_arguments(parser)
    options = parser.parse_args(arguments)
    print(Server.from_arguments(options).token(options.kind) or "")
    return 0


if __name__ == "__main__":
    run(main)
