"""The frame of every `build.py`: an output folder that is complete or absent, and errors in one line."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


# Lines such as b"  stride : Final[Tuple[int, int]] = (1, 1)" that follow one another.
_CONSTANTS = re.compile(rb"(?:^  \w+ : Final\[[^\n]*\n)+", re.MULTILINE)


class BuildError(Exception):
    """A model could not be built; the message is the one line a person needs."""


@contextmanager
def output_folder(description: str) -> Iterator[Path]:
    """Parses `--output FOLDER` and yields an empty folder that takes FOLDER's place when the body ends well.

    A body that fails leaves FOLDER as it was. `BuildError` and `OSError` end the program with one line on stderr.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where the artifact is written")
    target = parser.parse_args().output
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as temporary:
            partial = Path(temporary, target.name)
            partial.mkdir()
            yield partial
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
    except (BuildError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error


@contextmanager
def quiet_torchscript() -> Iterator[None]:
    """Silences TorchScript's deprecation warnings: opserve serves it knowingly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def save_script_module(module: torch.jit.ScriptModule, path: Path) -> None:
    """Saves a scripted or traced module so that the same module gives the same bytes, whenever and wherever.

    PyTorch adds records for debuggers that hold the absolute path of every source file; they are left out. An error in
    the module still shows its line, in the code that TorchScript made of it. And it writes a module's constants in the
    order of a set, another one in every process; they are sorted.
    """
    import torch  # slow, and not needed by all that use this module

    with tempfile.TemporaryDirectory(prefix="opserve-save-") as temporary:
        complete = Path(temporary, path.name)  # the name is part of the contents
        with quiet_torchscript():
            module.save(str(complete))
        reader = torch._C.PyTorchFileReader(str(complete))
        writer = torch._C.PyTorchFileWriter(str(path))
        for name in reader.get_all_records():
            # The writer makes the last two itself.
            if not name.endswith(".debug_pkl") and name not in ("version", ".data/serialization_id"):
                content = reader.get_record(name)
                if name.endswith(".py"):
                    content = _CONSTANTS.sub(_sorted_lines, content)
                writer.write_record(name, content, len(content))
        writer.write_end_of_file()


def _sorted_lines(found: re.Match[bytes]) -> bytes:
    return b"".join(sorted(found[0].splitlines(keepends=True)))
