"""Runs an unpacked archive on its own sample: `python -m handlers.selfcheck [FOLDER]`, in a fresh process.

Exits with 0 if the response is the expected one, with 1 and one line on stderr otherwise.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import orjson

from handlers.errors import ModelError, OpserveError
from handlers.model import ServableModel
from handlers.sample import SAMPLE_FOLDER, difference, read_sample_answer, read_sample_request


def run_sample(model: ServableModel, folder: Path) -> bytes:
    """The body of the model's response to the sample request of the archive unpacked in `folder`.

    Raises:
        ModelError: there is no sample, or the model refuses it.
    """
    return model.answer_sample(read_sample_request(folder / SAMPLE_FOLDER / "request"))


def check(model: ServableModel, folder: Path) -> None:
    """Raises `ModelError` unless the sample of the archive unpacked in `folder` gets the expected response."""
    expected = read_sample_answer(folder / SAMPLE_FOLDER / "answer.json")
    found = difference(orjson.loads(run_sample(model, folder)), expected, model.config.tolerance)
    if found:
        raise ModelError(f"the sample request gets a wrong answer: {found}")


def main() -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="the unpacked archive (default: here)")
    parser.add_argument("--print", action="store_true", help="print the answer instead of checking it")
    arguments = parser.parse_args()
    try:
        model = ServableModel(arguments.folder)
        if arguments.print:
            sys.stdout.buffer.write(run_sample(model, arguments.folder) + b"\n")
        else:
            check(model, arguments.folder)
    except OpserveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
