"""Runs an unpacked archive on its own sample: `python -m handlers.selfcheck [FOLDER]`, in a fresh process.

Ends with 0 if the answer is the expected one, with 1 and one line on stderr that says why not.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import orjson

from handlers.errors import ModelError
from handlers.model import ServableModel
from handlers.request import Answer
from handlers.sample import SAMPLE_FOLDER, difference, read_sample_answer, read_sample_request


def answer_sample(folder: Path) -> Answer:
    """Loads the archive unpacked in `folder` and answers its sample request.

    Raises:
        ModelError: the archive cannot be loaded, or has no sample.
    """
    request = read_sample_request(folder / SAMPLE_FOLDER / "request")
    return ServableModel(folder).answer([request])[0]


def check(folder: Path) -> None:
    """Raises `ModelError` unless the archive unpacked in `folder` answers its sample as expected."""
    expected = read_sample_answer(folder / SAMPLE_FOLDER / "answer.json")
    answer = answer_sample(folder)
    got = orjson.loads(answer.body)
    if answer.status != 200:
        raise ModelError(f"the sample request is refused: {got['error']['message']}")
    wrong = difference(got, expected)
    if wrong:
        raise ModelError(f"the sample request gets a wrong answer: {wrong}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="the unpacked archive (default: here)")
    parser.add_argument("--print", action="store_true", help="print the answer instead of checking it")
    arguments = parser.parse_args()
    try:
        if arguments.print:
            answer = answer_sample(arguments.folder)
            sys.stdout.buffer.write(answer.body + b"\n")
            return 0 if answer.status == 200 else 1
        check(arguments.folder)
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
