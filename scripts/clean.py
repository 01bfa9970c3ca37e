"""Removes what `make` can build again: `build/`, caches, and the archives of the models in archive/."""

import argparse
from pathlib import Path

from archive.repository import ROOT
from scripts.setup.cleaning import clean


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository (this one)")
    clean(parser.parse_args().root.resolve())


if __name__ == "__main__":
    main()
