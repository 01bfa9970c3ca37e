"""Makes a `.mar`: `python -m archive.packer.pack NAME`, or with `--artifact …` and more for files from elsewhere.

The archive is sealed, written under a temporary name, verified, unpacked, tried on its sample in a fresh process, and
only then put in place. Whatever goes wrong is one line on stderr, exit status 1, and a model store that is as it was.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from archive.errors import ArchiveError, OpserveError
from archive.packer.container import Container
from archive.packer.contents import (
    DEFAULT_VERSION,
    ROOT,
    ArchiveContents,
    contents_of_files,
    contents_of_model,
    synthetic_body,
)
from archive.packer.manifest import seal_archive
from archive.packer.verify import describe, verify
from archive.process.command import run
from archive.process.fresh import run_in_fresh_process
from archive.process.temporary import temporary_file, temporary_folder
from handlers.config import CONFIG_FILE
from handlers.integrity.manifest import MANIFEST_FILE, Manifest
from handlers.integrity.signing import SIGNATURE_FILE
from handlers.sample import SAMPLE_FOLDER, SAMPLE_REFUSED

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MODEL_STORE = ROOT / "model_store"
HANDLERS = ROOT / "handlers"
# What TorchServe is pointed at.
HANDLER = HANDLERS / "opserve_handler.py"
# How long TorchServe starts a worker again and again that does not load, unless the configuration says. Its own default
# is five minutes, after which the model's requests would wait for ever; this is as long as it can count, 23 days, and
# begins anew whenever a worker comes up, be it as a stand-in (handlers/torchserve/stand_in.py).
RETRY_SECONDS = 2_000_000


def pack(
    contents: ArchiveContents, model_store: Path = MODEL_STORE, key: Ed25519PrivateKey | None = None
) -> tuple[Path, Manifest]:
    """Writes the archive into the model store after it has answered its sample in a fresh process.

    Args:
        contents: what it is made of.
        model_store: folder to put it into.
        key: signs it, if given.

    Returns:
        Where it lies, and its seal.

    Raises:
        ArchiveError: the archive cannot be made, does not load, or answers its sample wrong.
    """
    with temporary_folder("opserve-pack-") as work:
        stage = work / "stage"
        stage_files(contents, stage)
        if not (stage / SAMPLE_FOLDER / "answer.json").exists():
            record_answer(contents, stage)
        made = unpack(run_model_archiver(contents, stage, work), work / "made")
        archive = work / contents.file_name
        seal = seal_archive(made, archive, key)
        verify(archive, run=False)
        run_selfcheck(contents.name, unpack(archive, work / "unpacked"))
        return put_in_place(archive, model_store), seal


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
    if contents.sample is None:
        (sample / "request").mkdir(parents=True)
        (sample / "request" / "body.json").write_bytes(synthetic_body(contents.config.inputs))
    elif contents.sample.is_dir():
        shutil.copytree(contents.sample, sample)
    else:
        (sample / "request").mkdir(parents=True)
        shutil.copy(contents.sample, sample / "request" / "body.json")


def record_answer(contents: ArchiveContents, stage: Path) -> None:
    """Takes the model's own answer to the sample as the expected one, where none was given."""
    try:
        answer = run_in_fresh_process([sys.executable, "-m", "handlers.selfcheck", "--print"], stage)
    except ArchiveError as error:
        made_up = contents.sample is None and SAMPLE_REFUSED in str(error)
        hint = " (it was made up from the signature; SAMPLE=request.json gives a real one)" if made_up else ""
        raise ArchiveError(f"{contents.name}: {error}{hint}") from error
    (stage / SAMPLE_FOLDER / "answer.json").write_text(answer, encoding="utf-8")


def run_model_archiver(contents: ArchiveContents, stage: Path, work: Path) -> Path:
    """Runs torch-model-archiver over the staged files; returns the `.mar`, still in the temporary folder."""
    out, scratch = work / "out", work / "tmp"
    out.mkdir()
    scratch.mkdir()
    rest = work / "rest"  # what torch-model-archiver has no option of its own for
    artifact, handler = contents.artifact.name, HANDLER.name
    shutil.copytree(stage, rest, ignore=lambda folder, names: {artifact, handler, CONFIG_FILE} & set(names))
    command = [sys.executable, "-m", "model_archiver.model_packaging", "--model-name", contents.name]
    command += [
        "--version",
        contents.version,
        "--serialized-file",
        str(stage / artifact),
        "--handler",
        str(stage / handler),
    ]
    command += ["--config-file", str(stage / CONFIG_FILE), "--extra-files", str(rest), "--export-path", str(out)]
    # It deletes $TMPDIR/<model-name> before and after.
    run_in_fresh_process(command, work, TMPDIR=str(scratch))
    return out / f"{contents.name}.mar"


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
    """Moves a finished archive into the model store; a reader sees the old one or the new one, never a part."""
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


def main() -> int:
    arguments = parse_arguments()
    try:
        if arguments.model:
            contents = contents_of_model(arguments.model, version=arguments.version, profile=arguments.profile)
        else:
            libraries = [Path(library) for library in arguments.ops.split(",") if library]
            contents = contents_of_files(
                arguments.name,
                arguments.artifact,
                libraries,
                arguments.config,
                arguments.sample,
                arguments.version,
                arguments.profile,
            )
        path, seal = pack(contents, arguments.model_store, signing_key(arguments.sign_key))
    except (OpserveError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(describe(path, seal) + ("\n  signed" if arguments.sign_key else ""))
    return 0


def signing_key(path: Path | None) -> Ed25519PrivateKey | None:
    """The key to sign with, where one is wanted."""
    if path is None:
        return None
    from archive.packer.keys import load_private_key  # needed by those only who sign

    return load_private_key(path)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Packs a model into a .mar and tries it before it is put in place.")
    parser.add_argument("model", nargs="?", help="a folder under archive/")
    parser.add_argument("--artifact", type=Path, metavar="FILE", help="the model: a .pt, .pt2 or .onnx file")
    parser.add_argument("--ops", default="", metavar="FILE[,FILE]", help="shared libraries with its operators")
    parser.add_argument("--name", help="the model's name")
    parser.add_argument("--config", type=Path, metavar="FILE", help="its model-config.yaml")
    parser.add_argument("--sample", type=Path, metavar="FILE", help="a request it must answer: a JSON body")
    parser.add_argument("--version", default=DEFAULT_VERSION, help=f"the model's version ({DEFAULT_VERSION})")
    parser.add_argument("--profile", help="which of the configuration's profiles (the one that it names)")
    parser.add_argument(
        "--sign-key", type=Path, metavar="FILE", help="private key to sign with (archive.packer.keys makes one)"
    )
    parser.add_argument("--model-store", type=Path, default=MODEL_STORE, metavar="FOLDER")
    arguments = parser.parse_args()
    foreign = [option for option in ("artifact", "name", "config") if getattr(arguments, option)]
    if arguments.model and (foreign or arguments.ops or arguments.sample):
        parser.error("name a folder under archive/, or give --artifact, --name and --config; not both")
    if not arguments.model and len(foreign) < 3:
        missing = [f"--{option}" for option in ("artifact", "name", "config") if option not in foreign]
        parser.error(f"{' and '.join(missing)} must be given" if foreign else "name a model, or give --artifact …")
    return arguments


if __name__ == "__main__":
    run(main)
