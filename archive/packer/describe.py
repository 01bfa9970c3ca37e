"""Says what archives are, without checking them: `python -m archive.packer.describe FILE.mar …`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from archive.errors import ArchiveError, OpserveError
from archive.packer.container import Container
from archive.packer.verify import describe, has_manifest
from handlers.integrity.manifest import MANIFEST_FILE, Manifest
from handlers.integrity.signing import SIGNATURE_FILE


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archives", type=Path, nargs="+", metavar="FILE.mar")
    for path in parser.parse_args().archives:
        try:
            with Container(path) as container:
                if not has_manifest(container):
                    raise ArchiveError("it was not packed by opserve")
                print(describe(path, Manifest.decode(container.read(MANIFEST_FILE))))
                if SIGNATURE_FILE in container.names:
                    print("  signed")
        except (OpserveError, OSError) as error:
            print(f"error: {path}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
