"""Gives a served model more or fewer workers, and waits until they are there."""

import sys

if not __package__:  # run as a file: import from the repository, not from this folder
    sys.path[0] = __file__.rpartition("/scripts/")[0]

import argparse
from typing import Any

from scripts import served
from scripts.errors import OpserveError, run
from scripts.predict import token_command
from scripts.server import Server, add_arguments, ready_workers
from scripts.status import table
from scripts.worker_log import LogMark, model_of

# Every worker is a Python process with a model in it; a larger number is a slip of the finger.
MOST_WORKERS = 256
TIMEOUT_S = 300.0


def worker_count(text: str) -> int:
    """A number of workers, as argparse wants it checked."""
    if not (text.isascii() and text.isdigit()) or int(text) > MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of workers: a whole number from 0 to {MOST_WORKERS}")
    return int(text)


def worker_path(model: str, fewest: int, most: int) -> str:
    """The call of the management API that sets a model's workers, and answers when they are there."""
    return f"/models/{model}?min_worker={fewest}&max_worker={most}&synchronous=true"


def set_workers(server: Server, model: str, fewest: int, most: int) -> dict[str, Any]:
    """Set the number of workers that a model has at least, and may have; when new ones die, the error holds their
    traceback.

    Returns:
        The model's description, with `fewest` workers ready.
    """
    mark = LogMark(server.logs)
    answer = server.request("management", "PUT", worker_path(model, fewest, most), TIMEOUT_S)
    described = server.require_model(model)
    ready = ready_workers(described)
    if answer.status_code >= 300 or ready != fewest:
        dead = [worker for worker in mark.dead_workers() if model_of(worker) == model]
        reason = mark.last_words(dead[0]) if dead else answer.text.strip()
        raise OpserveError(f"{model} has {ready} of {fewest} workers ready:\n{reason}")
    return described


def scale(server: Server, model: str, workers: int) -> None:
    """Set the number of workers, and show them."""
    server.require_running()
    server.require_model(model)
    described = set_workers(server, model, workers, workers)
    print(f"{model}: {workers} worker{'s' if workers != 1 else ''} ready")
    if workers:
        rows = [["worker", "pid", "status", "since"]]
        rows += [[w["id"], str(w["pid"]), w["status"], w["startTime"]] for w in described["workers"]]
        print(table(rows))
    path = worker_path(model, workers, workers)
    print(f"curl -X PUT {token_command(server, 'management')} '{server.address('management')}{path}'")


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a served model")
    parser.add_argument("workers", type=worker_count, help="how many workers it shall have")
    add_arguments(parser)
    options = parser.parse_args(arguments)
    server = Server.of(options)
    scale(server, options.model, options.workers)
    served.remember(server)
    return 0


if __name__ == "__main__":
    run(main)
