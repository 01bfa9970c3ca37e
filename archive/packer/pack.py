"""Makes a `.mar`.

It is written under a temporary name with its manifest, verified, unpacked, has to answer its sample in a fresh process,
and is only then put in place. Whatever goes wrong leaves the model store as it was.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from archive.errors import ArchiveError, OpserveError
from archive.packer.archiver import run_model_archiver
from archive.packer.container import Container
from archive.packer.contents import ArchiveContents, make_request_body
from archive.packer.describe import describe
from archive.packer.manifest import write_archive_with_manifest
from archive.packer.runtime import choose_runtime
from archive.packer.trial import try_sample
from archive.packer.verify import verify
from archive.packer.worker_config import WORKER_CONFIG_FILE, encode_worker_config
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
# Has the archive that is unpacked in the current folder answer its sample, with its own code.
SELFCHECK = [sys.executable, "-m", "handlers.selfcheck"]


def pack_from_options(options: Namespace) -> str:
    """Packs a model of `archive/` or your own files, by the options of `python -m archive.pack`; returns a description.

    Raises:
        OpserveError: as `pack` does, or because the options contradict each other.
    """
    own = (options.artifact, options.name, options.config)
    if options.model and not any((*own, options.ops, options.sample)):
        contents = ArchiveContents.from_model(options.model, version=options.version, profile=options.profile)
    elif all(own) and not options.model:
        contents = ArchiveContents.from_files(
            options.name,
            options.artifact,
            [Path(library) for library in options.ops.split(",") if library],
            options.config,
            options.sample,
            version=options.version,
            profile=options.profile,
        )
    else:
        raise ArchiveError("name a model of archive/, or give --artifact, --name and --config of your own; not both")
    key = None
    if options.sign_key:
        from archive.packer.keys import load_private_key  # needs cryptography, which only signing does

        key = load_private_key(options.sign_key)
    path, manifest = pack(contents, options.model_store, key, options.runtime)
    return describe(path, manifest, signed=key is not None)


def pack(
    contents: ArchiveContents,
    model_store: Path = MODEL_STORE,
    key: Ed25519PrivateKey | None = None,
    runtime: str | None = None,
) -> tuple[Path, Manifest]:
    """Writes the archive into the model store after it has answered its sample in a fresh process.

    Args:
        contents: what it is made of.
        model_store: folder to put it into.
        key: signs it, if given.
        runtime: the worker that it is for; `None` for the native one where that is built and can run the model.

    Returns:
        Its path and its manifest.

    Raises:
        OpserveError: the archive cannot be made, does not load, or gives a wrong answer to its sample.
    """
    chosen = choose_runtime(contents, runtime)
    with temporary_folder("opserve-pack-") as work:
        stage = work / "stage"
        stage_files(contents, stage)
        answer = stage / SAMPLE_FOLDER / "answer.json"
        if not answer.exists():
            with _named(contents):
                answer.write_text(run_in_fresh_process([*SELFCHECK, "--print"], stage), encoding="utf-8")
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
        manifest = write_archive_with_manifest(folder, archive, key, chosen)
        verify(archive, run=False)
        unpacked = unpack(archive, work / "unpacked")
        with _named(contents):
            try_sample(unpacked, SELFCHECK, unpacked)
        return put_in_place(archive, model_store), manifest


def stage_files(contents: ArchiveContents, stage: Path) -> None:
    """Lays out the archive's files in `stage`, as a worker will find them in its current folder."""
    ignored = shutil.ignore_patterns("__pycache__", "*_handler.py")
    shutil.copytree(HANDLERS, stage / "handlers", ignore=ignored)
    shutil.copy(HANDLER, stage)
    for path in (contents.artifact, *contents.op_libraries, *filter(None, [contents.hooks])):
        if path.name in (MANIFEST_FILE, SIGNATURE_FILE, WORKER_CONFIG_FILE):
            raise ArchiveError(f"{path.name}: the packer writes a file of this name; rename yours")
        if (stage / path.name).exists():
            raise ArchiveError(f"two files of the archive are named {path.name}; rename one")
        shutil.copy(path, stage)
    document = {"maxRetryTimeoutInSec": RETRY_SECONDS} | contents.document
    (stage / CONFIG_FILE).write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    (stage / WORKER_CONFIG_FILE).write_bytes(encode_worker_config(document, contents.config))
    sample = stage / SAMPLE_FOLDER
    if contents.sample and contents.sample.is_dir():
        shutil.copytree(contents.sample, sample)
        return
    (sample / "request").mkdir(parents=True)
    body = contents.sample.read_bytes() if contents.sample else make_request_body(contents.config.inputs)
    (sample / "request" / "body.json").write_bytes(body)


@contextlib.contextmanager
def _named(contents: ArchiveContents) -> Iterator[None]:
    """Names the model in errors of its trial."""
    try:
        yield
    except OpserveError as error:
        made_up = contents.sample is None and SAMPLE_REFUSED in str(error)
        hint = " (it was made up from the signature; SAMPLE=request.json gives a real one)" if made_up else ""
        raise ArchiveError(f"{contents.name}: {error}{hint}") from error


def unpack(archive: Path, folder: Path) -> Path:
    """Unpacks an archive into a new folder, and returns that."""
    folder.mkdir()
    with Container(archive) as container:
        container.extract(folder)
    return folder


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
