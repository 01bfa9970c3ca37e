"""Writes the files of a new operator, which compile and pass their tests: `python -m scripts.new_op NAME`."""

import argparse

from archive.process.command import run
from archive.repository import ROOT
from scripts.operators.new_operator import KINDS, format_files, write


def main() -> int:
    """Writes the files and prints which, and what to do next."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", metavar="NAME", help="the name in PyTorch, for example row_norm")
    parser.add_argument("--kind", choices=KINDS, default=KINDS[0])
    options = parser.parse_args()
    written = write(ROOT, options.name, options.kind)
    format_files(written)
    for path in written:
        print(f"wrote {path.relative_to(ROOT)}")
    print(f"try it: make ext && make test TESTS=tests/extensions/test_{options.name}.py; see docs/operators.md")
    return 0


if __name__ == "__main__":
    run(main)
