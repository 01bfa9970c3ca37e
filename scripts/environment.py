"""Makes `.venv` and installs the pinned requirements; does nothing when it is up to date.

Run by the Python that is to be the environment's. This file is readable to an old one, which then gets a clear message.
"""

import argparse
import sys

OLDEST, NEWEST = (3, 11), (3, 13)
if not OLDEST <= sys.version_info[:2] <= NEWEST:
    sys.exit(
        "error: this is Python %d.%d; PyTorch and TorchServe as pinned here need %d.%d to %d.%d. "  # noqa: UP031
        "Name another: make env PYTHON=python3.12" % (sys.version_info[:2] + OLDEST + NEWEST)
    )

from archive.errors import OpserveError  # noqa: E402
from scripts.setup.environment import install  # noqa: E402


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dev", action="store_true", help="also install what tests and lint need")
    try:
        install(development=parser.parse_args().dev)
    except OpserveError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
