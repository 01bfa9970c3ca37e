"""Checks every prerequisite, one line each with its fix; needs nothing but the system's Python.

Runs on Python 3.6 too, as do the modules it imports: a Python that is too old is one of the things it reports.
"""

import argparse
import sys

from scripts.setup.checks import CHECKS, FAIL


def main(arguments: "list[str] | None" = None) -> int:
    """Runs the command; returns 1 if something is missing that opserve cannot do without."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=list(CHECKS), help="one check, silent unless it fails")
    options = parser.parse_args(arguments)
    results = {name: check() for name, check in CHECKS.items() if options.only in (None, name)}
    for name, result in results.items():
        if not options.only:
            _show(f"{result.state:<5} {name:<12} {result.text}")
            if result.fix:
                _show(f"{'':<18} fix: {result.fix}")
        elif result.state == FAIL:
            print(f"error: {result.text}; {result.fix}", file=sys.stderr)
    return int(any(result.state == FAIL for result in results.values()))


def _show(line: str) -> None:
    """Prints a line, even if the terminal's encoding lacks some of its characters."""
    encoding = sys.stdout.encoding or "ascii"
    print(line.encode(encoding, "replace").decode(encoding))


if __name__ == "__main__":
    sys.exit(main())
