"""Checks an archive without a server: `python -m archive.verify FILE.mar`."""

import argparse
from pathlib import Path

from archive.packer.describe import describe
from archive.packer.verify import verify
from archive.process.command import run
from handlers.integrity.signing import public_key_path


def main() -> int:
    """Prints what an archive is and what was checked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path, metavar="FILE.mar")
    parser.add_argument("--key", type=Path, metavar="FILE", help="public key to demand (OPSERVE_PUBLIC_KEY)")
    parser.add_argument("--no-run", action="store_true", help="do not execute it, nor check what this machine has")
    arguments = parser.parse_args()
    key = str(arguments.key.resolve()) if arguments.key else public_key_path()
    manifest = verify(arguments.archive, key, run=not arguments.no_run)
    print(describe(arguments.archive, manifest))
    answer = "not run" if arguments.no_run else "answers its sample as expected"
    origin = f"signed for {key}" if key else "its signature, if any, not checked (no OPSERVE_PUBLIC_KEY)"
    print(f"  complete and as packed; {answer}; {origin}")
    return 0


if __name__ == "__main__":
    run(main)
