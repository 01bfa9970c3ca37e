"""Has an unpacked archive answer its sample, in a fresh process for each worker that may run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from archive.errors import ArchiveError
from archive.native_worker import NOT_BUILT, find_worker
from archive.packer.mar_manifest import is_for_native
from archive.process.fresh import run_in_fresh_process


def try_sample(folder: Path, python: list[str], current: Path) -> None:
    """Checks the answer of Python and, if the archive is for it, that of the native worker.

    Args:
        folder: the unpacked archive, whose files have been checked.
        python: the command that makes the check in Python, or prints the answer if the option `--print` follows.
        current: the folder in which that runs.

    Raises:
        OpserveError: a worker does not load the model, refuses the sample, or does not answer it as expected.
    """
    if not is_for_native(folder):
        run_in_fresh_process(python, current)
        return
    worker = find_worker()
    if worker is None:
        raise ArchiveError(f"it is for the native worker, {NOT_BUILT}")
    by_python = run_in_fresh_process([*python, "--print"], current)
    try:
        by_native = run_in_fresh_process([str(worker), "--selfcheck", str(folder), "--print"], folder)
    except ArchiveError as error:
        raise ArchiveError(f"the native worker fails: {error}; RUNTIME=python packs it for Python") from error
    try:
        _compare(folder, json.loads(by_python), json.loads(by_native))
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"the answer to the sample request cannot be read: {error}") from error


def _compare(folder: Path, by_python: Any, by_native: Any) -> None:
    # Slow to import, and not needed where only the files of an archive are checked.
    from handlers.config import CONFIG_FILE, ModelConfig
    from handlers.sample import SAMPLE_FOLDER, difference, read_sample_answer

    tolerance = ModelConfig.read(folder / CONFIG_FILE).tolerance
    expected = read_sample_answer(folder / SAMPLE_FOLDER / "answer.json")
    if found := difference(by_python, expected, tolerance):
        raise ArchiveError(f"the sample request gets a wrong answer: {found}")
    # Both may be within the tolerance of what is expected, and differ by twice that.
    if found := difference(by_native, expected, tolerance) or difference(by_native, by_python, tolerance):
        raise ArchiveError(f"the native worker gives the sample request another answer than Python: {found}")
