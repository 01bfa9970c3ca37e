"""Gives a served model more or fewer workers, and waits until they are there."""

import sys

if not __package__:  # run as a file: import from the repository, not from this folder
    sys.path[0] = __file__.rpartition("/scripts/")[0]

import argparse

from archive.process.command import run
from scripts.predict import token_command
from scripts.torchserve import snapshot
from scripts.torchserve.arguments import add_server_arguments
from scripts.torchserve.scaling import set_workers
from scripts.torchserve.server import Server
from scripts.torchserve.tables import format_table
from scripts.torchserve.workers import scaling_path

# Every worker is a Python process with a model in it; a larger number is a slip of the finger.
MOST_WORKERS = 256


def worker_count(text: str) -> int:
    """A number of workers, as argparse wants it checked."""
    if not (text.isascii() and text.isdigit()) or int(text) > MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of workers: a whole number from 0 to {MOST_WORKERS}")
    return int(text)


def scale(server: Server, model: str, workers: int) -> None:
    """Set the number of workers, and show them."""
    server.require_running()
    server.require_model(model)
    described = set_workers(server, model, workers, workers)
    print(f"{model}: {workers} worker{'s' if workers != 1 else ''} ready")
    if workers:
        rows = [["worker", "pid", "status", "since"]]
        rows += [[w["id"], str(w["pid"]), w["status"], w["startTime"]] for w in described["workers"]]
        print(format_table(rows))
    path = scaling_path(model, workers, workers)
    print(f"curl -X PUT {token_command(server, 'management')} '{server.address('management')}{path}'")


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a served model")
    parser.add_argument("workers", type=worker_count, help="how many workers it shall have")
    add_server_arguments(parser)
    options = parser.parse_args(arguments)
    server = Server.from_arguments(options)
    scale(server, options.model, options.workers)
    snapshot.save(server)
    return 0


if __name__ == "__main__":
    run(main)
