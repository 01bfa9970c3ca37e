"""The call of torch-model-archiver."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from archive.process.fresh import run_in_fresh_process
from archive.process.temporary import temporary_folder


def run_model_archiver(
    name: str,
    handler: Path,
    target: Path,
    *,
    version: str = "1.0",
    artifact: Path | None = None,
    config: Path | None = None,
    extra_files: Sequence[Path] = (),
    archive_format: Literal["default", "no-archive"] = "default",
    python: Path | str = sys.executable,
) -> Path:
    """Runs torch-model-archiver.

    Args:
        name: the model's name.
        handler: the file of the handler.
        target: folder to write into.
        version: the model's version.
        artifact: the model file.
        config: the model's configuration.
        extra_files: other files, and folders whose contents are taken.
        archive_format: `no-archive` gives a folder.
        python: interpreter of an environment that has torch-model-archiver.

    Returns:
        `target/NAME.mar`, or the folder `target/NAME`.

    Raises:
        ArchiveError: with the last line of its output.
    """
    target.mkdir(parents=True, exist_ok=True)
    command = [str(python), "-m", "model_archiver.model_packaging", "--force", "--archive-format", archive_format]
    command += ["--model-name", name, "--version", version, "--handler", str(handler.absolute())]
    for option, file in (("--serialized-file", artifact), ("--config-file", config)):
        command += [option, str(file.absolute())] if file else []
    if extra_files:
        command += ["--extra-files", ",".join(str(file.absolute()) for file in extra_files)]
    # It deletes $TMPDIR/NAME before and after.
    with temporary_folder("opserve-archiver-") as scratch:
        run_in_fresh_process([*command, "--export-path", str(target.absolute())], scratch, TMPDIR=str(scratch))
    return target / (name if archive_format == "no-archive" else f"{name}.mar")
