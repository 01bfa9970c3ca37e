"""Gives a served model more or fewer workers, and waits until they are ready."""

import argparse

from archive.process.command import run
from scripts.torchserve import snapshot
from scripts.torchserve.arguments import add_server_arguments
from scripts.torchserve.curl import token_header
from scripts.torchserve.scaling import set_workers
from scripts.torchserve.server import Server
from scripts.torchserve.status import format_table
from scripts.torchserve.workers import scaling_path

# Each worker is a Python process with a model in it: a larger number is a typing mistake.
MAX_WORKERS = 256


def worker_count(text: str) -> int:
    """Parses a number of workers for argparse."""
    if not (text.isascii() and text.isdigit()) or int(text) > MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {MAX_WORKERS}, got {text!r}")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a served model")
    parser.add_argument("workers", type=worker_count, help="the number of workers it is to have")
    add_server_arguments(parser)
    options = parser.parse_args(arguments)
    server, model, workers = Server.from_arguments(options), options.model, options.workers
    server.require_running()
    server.require_model(model)
    described = set_workers(server, model, workers, workers)
    print(f"{model}: {workers} worker{'s' if workers != 1 else ''} ready")
    if workers:
        rows = [[w["id"], str(w["pid"]), w["status"], w["startTime"]] for w in described["workers"]]
        print(format_table([["worker", "pid", "status", "since"], *rows]))
    url = server.address("management") + scaling_path(model, workers, workers)
    print(f"curl -X PUT {token_header(server, 'management')} '{url}'")
    snapshot.save(server)
    return 0


if __name__ == "__main__":
    run(main)
