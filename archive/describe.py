"""Prints what archives are, without checking them: `python -m archive.describe FILE.mar …`."""

import argparse
from pathlib import Path

from archive.packer.describe import describe_unchecked
from archive.process.command import run


def main() -> int:
    """Prints a few lines for each archive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archives", type=Path, nargs="+", metavar="FILE.mar")
    for path in parser.parse_args().archives:
        print(describe_unchecked(path))
    return 0


if __name__ == "__main__":
    run(main)
