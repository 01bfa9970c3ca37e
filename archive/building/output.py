"""The frame of every `build.py`: an output folder that is complete or unchanged, and errors in one line."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from archive.errors import OpserveError
from archive.process.command import run
from archive.process.temporary import temporary_folder
from archive.repository import BUILD


class BuildError(OpserveError):
    """A model could not be built."""


def run_build(build: Callable[[Path], None]) -> None:
    """Runs `build` as a command: parses `--output FOLDER`, and has it fill an empty folder that then replaces FOLDER.

    If it fails, FOLDER stays as it was.
    """

    def main() -> int:
        parser = argparse.ArgumentParser(description=(build.__doc__ or "").partition("\n")[0])
        parser.add_argument(
            "--output", type=Path, required=True, metavar="FOLDER", help="where the artifact is written"
        )
        target: Path = parser.parse_args().output
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(f".{target.name}-", target.parent) as temporary:
            partial = temporary / target.name
            partial.mkdir()
            build(partial)
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
        return 0

    run(main)


def built_model(name: str) -> Path:
    """The folder that another model was built into.

    Raises:
        BuildError: it has not been built.
    """
    folder = BUILD / "models" / name
    if not folder.is_dir():
        raise BuildError(f"{folder} does not exist; make archive MODEL={name}")
    return folder


def write_sample(folder: Path, request: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    """Writes a sample whose request is one JSON body; values may be arrays."""
    write_sample_parts(folder, {"body.json": _json(request)}, answer)


def write_sample_parts(folder: Path, parts: Mapping[str, bytes], answer: Mapping[str, Any]) -> None:
    """Writes a sample whose request has several parts, each in a file: `image.png` is the part `image`."""
    (folder / "request").mkdir(parents=True)
    for name, content in parts.items():
        (folder / "request" / name).write_bytes(content)
    (folder / "answer.json").write_bytes(_json(answer))


def _json(document: Mapping[str, Any]) -> bytes:
    return orjson.dumps(dict(document), option=orjson.OPT_SERIALIZE_NUMPY)
