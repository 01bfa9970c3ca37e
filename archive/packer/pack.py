"""Makes a `.mar`.

It is written under a temporary name with its manifest, verified, unpacked, has to answer its sample in a fresh process,
and is only then put in place. Whatever goes wrong leaves the model store as it was.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from archive.errors import ArchiveError
from archive.packer.archiver import run_model_archiver
from archive.packer.container import Container
from archive.packer.contents import ArchiveContents, make_request_body
from archive.packer.describe import describe
from archive.packer.manifest import write_archive_with_manifest
from archive.packer.verify import verify
from archive.process.fresh import run_in_fresh_process
from archive.process.temporary import temporary_file, temporary_folder
from archive.repository import MODEL_STORE, ROOT
from handlers.config import CONFIG_FILE
from handlers.integrity.manifest import MANIFEST_FILE, Manifest
from handlers.integrity.signing import SIGNATURE_FILE
from handlers.sample import SAMPLE_FOLDER, SAMPLE_REFUSED

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HANDLERS = ROOT / "handlers"
# The one that TorchServe loads.
HANDLER = HANDLERS / "opserve_handler.py"
# How long TorchServe keeps restarting a worker that does not load, unless the configuration says. Its own default is
# five minutes, after which the model's requests would wait forever; this is nearly the most it can count, 23 days, and
# starts anew whenever a worker comes up, even as a stand-in (handlers/torchserve/stand_in.py).
RETRY_SECONDS = 2_000_000


def pack_and_describe(
    *,
    model: str | None,
    artifact: Path | None,
    ops: str,
    name: str | None,
    config: Path | None,
    sample: Path | None,
    version: str,
    profile: str | None,
    sign_key: Path | None,
    model_store: Path,
) -> str:
    """Packs a model of `archive/` or your own files, as the options of `archive.pack` say; returns a description.

    Raises:
        OpserveError: as `pack` does, or because the options contradict each other.
    """
    if model and not (artifact or ops or name or config or sample):
        contents = ArchiveContents.from_model(model, version=version, profile=profile)
    elif artifact and name and config and not model:
        libraries = [Path(library) for library in ops.split(",") if library]
        contents = ArchiveContents.from_files(
            name, artifact, libraries, config, sample, version=version, profile=profile
        )
    else:
        raise ArchiveError("name a model of archive/, or give --artifact, --name and --config of your own; not both")
    path, manifest = pack(contents, model_store, _load_key(sign_key))
    return describe(path, manifest, signed=sign_key is not None)


def _load_key(path: Path | None) -> Ed25519PrivateKey | None:
    if path is None:
        return None
    from archive.packer.keys import load_private_key  # needs cryptography, which only signing does

    return load_private_key(path)


def pack(
    contents: ArchiveContents, model_store: Path = MODEL_STORE, key: Ed25519PrivateKey | None = None
) -> tuple[Path, Manifest]:
    """Writes the archive into the model store after it has answered its sample in a fresh process.

    Args:
        contents: what it is made of.
        model_store: folder to put it into.
        key: signs it, if given.

    Returns:
        Its path and its manifest.

    Raises:
        OpserveError: the archive cannot be made, does not load, or gives a wrong answer to its sample.
    """
    with temporary_folder("opserve-pack-") as work:
        stage = work / "stage"
        stage_files(contents, stage)
        if not (stage / SAMPLE_FOLDER / "answer.json").exists():
            record_answer(contents, stage)
        folder = run_model_archiver(
            contents.name,
            stage / HANDLER.name,
            work / "archiver",
            version=contents.version,
            artifact=stage / contents.artifact.name,
            config=stage / CONFIG_FILE,
            extra_files=[stage],
            archive_format="no-archive",
        )
        archive = work / contents.file_name
        manifest = write_archive_with_manifest(folder, archive, key)
        verify(archive, run=False)
        run_selfcheck(contents.name, unpack(archive, work / "unpacked"))
        return put_in_place(archive, model_store), manifest


def stage_files(contents: ArchiveContents, stage: Path) -> None:
    """Lays out the archive's files in `stage`, as a worker will find them in its current folder."""
    ignored = shutil.ignore_patterns("__pycache__", "*_handler.py")
    shutil.copytree(HANDLERS, stage / "handlers", ignore=ignored)
    shutil.copy(HANDLER, stage)
    for path in (contents.artifact, *contents.op_libraries, *filter(None, [contents.hooks])):
        if path.name in (MANIFEST_FILE, SIGNATURE_FILE):
            raise ArchiveError(f"{path.name}: the packer writes a file of this name; rename yours")
        if (stage / path.name).exists():
            raise ArchiveError(f"two files of the archive are named {path.name}; rename one")
        shutil.copy(path, stage)
    document = {"maxRetryTimeoutInSec": RETRY_SECONDS} | contents.document
    (stage / CONFIG_FILE).write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    sample = stage / SAMPLE_FOLDER
    if contents.sample and contents.sample.is_dir():
        shutil.copytree(contents.sample, sample)
        return
    (sample / "request").mkdir(parents=True)
    body = contents.sample.read_bytes() if contents.sample else make_request_body(contents.config.inputs)
    (sample / "request" / "body.json").write_bytes(body)


def record_answer(contents: ArchiveContents, stage: Path) -> None:
    """Makes the model's own answer to the sample the expected one, where none was given."""
    try:
        answer = run_in_fresh_process([sys.executable, "-m", "handlers.selfcheck", "--print"], stage)
    except ArchiveError as error:
        made_up = contents.sample is None and SAMPLE_REFUSED in str(error)
        hint = " (it was made up from the signature; SAMPLE=request.json gives a real one)" if made_up else ""
        raise ArchiveError(f"{contents.name}: {error}{hint}") from error
    (stage / SAMPLE_FOLDER / "answer.json").write_text(answer, encoding="utf-8")


def unpack(archive: Path, folder: Path) -> Path:
    """Unpacks an archive into a new folder, and returns that."""
    folder.mkdir()
    with Container(archive) as container:
        container.extract(folder)
    return folder


def run_selfcheck(name: str, unpacked: Path) -> None:
    """Runs an unpacked archive on its sample with the archive's own code, in a fresh process.

    Raises:
        ArchiveError: it does not load, or its answer is not the expected one.
    """
    try:
        run_in_fresh_process([sys.executable, "-m", "handlers.selfcheck"], unpacked)
    except ArchiveError as error:
        raise ArchiveError(f"{name}: {error}") from error


def put_in_place(archive: Path, model_store: Path) -> Path:
    """Copies a finished archive into the model store; readers see the old one or the new one, never a part."""
    model_store.mkdir(parents=True, exist_ok=True)
    target = model_store / archive.name
    with temporary_file(f".{archive.name}.", model_store) as partial:
        with partial.open("wb") as out, archive.open("rb") as source:
            shutil.copyfileobj(source, out)
            out.flush()
            os.fsync(out.fileno())
        partial.chmod(0o644)
        partial.replace(target)
    return target
