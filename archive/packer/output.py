"""The frame of every `build.py`: an output folder that is complete or absent, and errors in one line."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from archive.errors import OpserveError
from archive.process.signals import Terminated, raise_on_termination
from archive.process.temporary import temporary_folder


class BuildError(OpserveError):
    """A model could not be built; the message is the one line a person needs."""


@contextmanager
def output_folder(description: str) -> Iterator[Path]:
    """Parses `--output FOLDER` and yields an empty folder that takes FOLDER's place when the body ends well.

    A body that fails leaves FOLDER as it was. `OpserveError` and `OSError` end the program with one line on stderr.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where the artifact is written")
    target = parser.parse_args().output
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with raise_on_termination(), temporary_folder(f".{target.name}-", target.parent) as temporary:
            partial = Path(temporary, target.name)
            partial.mkdir()
            yield partial
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
    except (OpserveError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    except Terminated as ended:
        raise SystemExit(ended.exit_code) from ended


def write_sample(folder: Path, request: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    """Writes a sample whose request is one JSON body; values may be arrays."""
    (folder / "request").mkdir(parents=True)
    (folder / "request" / "body.json").write_bytes(_json(request))
    (folder / "answer.json").write_bytes(_json(answer))


def _json(document: Mapping[str, Any]) -> bytes:
    return orjson.dumps(dict(document), option=orjson.OPT_SERIALIZE_NUMPY)
