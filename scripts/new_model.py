"""Writes the folder of a new model, which can be packed as it is: `python -m scripts.new_model NAME`."""

import argparse

from archive.building.new_model import write_new_model
from archive.process.command import run
from archive.repository import ROOT


def main() -> int:
    """Writes the folder and prints what to do next."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", metavar="NAME")
    name = parser.parse_args().name
    folder = write_new_model(name).relative_to(ROOT)
    print(f"{folder} is written; `make archive MODEL={name}` packs it as it is")
    return 0


if __name__ == "__main__":
    run(main)
