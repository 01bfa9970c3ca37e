"""Packs a model into a .mar that is in place only once it has answered its sample: `python -m archive.pack NAME`."""

import argparse
from pathlib import Path

from archive.packer.contents import DEFAULT_VERSION
from archive.packer.pack import pack_from_options
from archive.packer.runtime import RUNTIMES
from archive.process.command import run
from archive.repository import MODEL_STORE


def main() -> int:
    """Packs a model of `archive/`, or your own files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", help="a model of archive/")
    parser.add_argument("--artifact", type=Path, metavar="FILE", help="your own model: a .pt, .pt2 or .onnx file")
    parser.add_argument("--ops", default="", metavar="FILE[,FILE]", help="shared libraries with its operators")
    parser.add_argument("--name", help="its name")
    parser.add_argument("--config", type=Path, metavar="FILE", help="its model-config.yaml")
    parser.add_argument("--sample", type=Path, metavar="FILE", help="a request it must answer: a JSON body")
    parser.add_argument("--version", default=DEFAULT_VERSION, help=f"the model's version ({DEFAULT_VERSION})")
    parser.add_argument("--profile", help="one of its configuration's profiles (the one that it names)")
    parser.add_argument("--runtime", choices=RUNTIMES, help="the worker that it is for (native where that can run it)")
    parser.add_argument("--sign-key", type=Path, metavar="FILE", help="private key (archive.keys makes one)")
    parser.add_argument("--model-store", type=Path, default=MODEL_STORE, metavar="FOLDER")
    print(pack_from_options(parser.parse_args()))
    return 0


if __name__ == "__main__":
    run(main)
