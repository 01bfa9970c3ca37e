"""Puts the native worker into this environment, or says in one line why there is none; `make ext` builds it."""

import argparse
from pathlib import Path

from archive.errors import OpserveError
from archive.native_worker import PROGRAM, worker_folder
from archive.process.command import run
from archive.repository import BUILD
from scripts.setup.checks import missing_headers
from scripts.setup.worker import place, read_obstacle, take_away


def main() -> int:
    """Places the worker, and writes the stamp that `make` compares with: archives are packed for what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stamp", type=Path, help="written when the worker is placed, or is there no longer")
    parser.add_argument("--possible", action="store_true", help="only fail if what a build lacked is lacking still")
    options = parser.parse_args()
    obstacle, link = read_obstacle(), worker_folder()
    if options.possible:
        return int(obstacle is not None and bool(missing_headers()))
    if link is None:
        raise OpserveError("TorchServe is not in this environment; `make env` installs it")
    if obstacle is None and (BUILD / PROGRAM).is_file():
        place(BUILD, link)
        state = "built\n"
    else:
        take_away(link)
        state = "not built\n"
        print(f"without the native worker, models are served by Python: {obstacle or 'it was not built'}")
    if options.stamp and (state == "built\n" or not options.stamp.is_file() or options.stamp.read_text() != state):
        options.stamp.write_text(state)
    return 0


if __name__ == "__main__":
    run(main)
