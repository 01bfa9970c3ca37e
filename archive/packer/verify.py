"""Checks an archive without a server: `python -m archive.packer.verify FILE.mar`.

Every check is made by the code of this repository, none by the archive's own, and nothing is unpacked but into a
temporary folder. Last of all, unless `--no-run` is given, the model answers its sample in a fresh process: that
executes the archive's model, libraries and hooks, with the rights of who typed the command.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

from archive.errors import ArchiveError, OpserveError
from archive.packer.container import Container, check_growth
from archive.process.command import run as run_main
from archive.process.limits import Limits, call_limited
from archive.process.temporary import temporary_folder
from archive.repository import ROOT
from handlers.errors import ModelError
from handlers.integrity.manifest import MANIFEST_FILE, Manifest
from handlers.integrity.signing import SIGNATURE_FILE, check_signature, public_key_path

MAR_MANIFEST_FILE = "MAR-INF/MANIFEST.json"
CONFIG_FILE = "model-config.yaml"
# What a manifest of ours may say of the model; a file of requirements, for one, would be handed to pip.
_MANIFEST_KEYS = {"modelName", "modelVersion", "handler", "serializedFile", "configFile"}
# Runs our handlers on the archive's files: the archive's folder comes last, where it can replace no module of ours.
_RUN_SAMPLE = (
    "import runpy, sys; sys.path.append(sys.argv[1]); runpy.run_module('handlers.selfcheck', run_name='__main__')"
)


def verify(path: Path, key: str | None = None, run: bool = True) -> Manifest:
    """Makes all checks of an archive.

    Args:
        path: the archive.
        key: absolute path of a public key that it must be signed for, or `None`.
        run: whether this machine must be able to serve it: its libraries' needs are met here and its sample is answered
            as expected.

    Raises:
        ArchiveError: in one line, naming the archive, the file in it and the reason.
    """
    try:
        with temporary_folder("opserve-verify-") as folder:
            found = call_limited(
                "archive.packer.verify:unpack_checked",
                str(path.absolute()),
                str(folder),
                key,
                limits=Limits.of_file(path),
            )
            seal = Manifest.decode(found.encode())
            if run:
                seal.check_machine()
                run_sample(folder)
            return seal
    except OpserveError as error:
        raise ArchiveError(f"{path.name}: {error}") from error


def unpack_checked(path: str, folder: str, key: str | None) -> str:
    """Makes all checks of an archive but those of this machine, and unpacks it; called where it can do no harm.

    Args:
        path: the archive.
        folder: an empty one to unpack it into.
        key: absolute path of a public key that it must be signed for, or `None`.

    Returns:
        Its seal, as it stands in the archive.

    Raises:
        OpserveError: naming the file and the reason.
    """
    with Container(Path(path)) as container:
        seal = check_sealed(container, key)
        container.extract(Path(folder))
        check_contents(Path(folder), seal)
    return seal.encode().decode()


def has_manifest(container: Container) -> bool:
    """Whether an archive was made by opserve's packer, or says so."""
    return MANIFEST_FILE in container.names


def check_sealed(container: Container, key: str | None) -> Manifest:
    """Holds the files of an archive against its seal, without unpacking it and without executing anything.

    Args:
        container: the archive.
        key: absolute path of a public key that it must be signed for, or `None`.

    Raises:
        OpserveError: naming the file and the reason.
    """
    if not has_manifest(container):
        check_signature(b"", None, key)
        raise ArchiveError(f"{MANIFEST_FILE}: missing from the archive; it was not packed by opserve")
    content = container.read(MANIFEST_FILE)
    check_signature(content, container.read(SIGNATURE_FILE) if SIGNATURE_FILE in container.names else None, key)
    seal = Manifest.decode(content)
    listed, found = set(seal.files), set(container.names) - {MANIFEST_FILE, SIGNATURE_FILE}
    for name in sorted(listed - found):
        raise ModelError(f"{name}: missing from the archive")
    for name in sorted(found - listed):
        raise ModelError(f"{name}: not a file of this archive; {MANIFEST_FILE} does not list it")
    for name, record in seal.files.items():
        hashed = hashlib.sha256()
        for chunk in container.chunks(name):
            hashed.update(chunk)
        record.check(name, hashed.hexdigest(), container.size(name))
    container.check_canonical()
    check_manifest(container, seal)
    return seal


def check_manifest(container: Container, seal: Manifest) -> None:
    """Holds what TorchServe is told against the seal.

    Raises:
        ArchiveError: the manifest is not the one that the packer has torch-model-archiver write.
    """
    if MAR_MANIFEST_FILE not in container.names:
        raise ArchiveError(f"{MAR_MANIFEST_FILE}: missing from the archive")
    try:
        manifest: Any = json.loads(container.read(MAR_MANIFEST_FILE))
        model = manifest["model"]
        strange = sorted(model.keys() - _MANIFEST_KEYS)
        said = model["modelName"], model["modelVersion"]
        files = {key: model[key] for key in ("handler", "serializedFile", "configFile")}
        runtime = manifest["runtime"]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ArchiveError(f"{MAR_MANIFEST_FILE}: not written by opserve's packer ({error!r})") from error
    if strange or runtime != "python":
        what = f"the key {strange[0]}" if strange else f"the runtime {runtime!r}"
        raise ArchiveError(f"{MAR_MANIFEST_FILE}: not written by opserve's packer: {what}")
    if said != (seal.name, seal.version):
        raise ArchiveError(
            f"{MAR_MANIFEST_FILE}: is of {said[0]} {said[1]}, but {MANIFEST_FILE} of {seal.name} {seal.version}"
        )
    for key, name in files.items():
        # One of TorchServe's own handlers, or `file:function`, is no file of the archive either.
        if not isinstance(name, str) or "/" in name or name not in seal.files:
            raise ArchiveError(f"{MAR_MANIFEST_FILE}: the {key} {name!r} that it names is no file of the archive")
    if not files["handler"].endswith("_handler.py") or files["configFile"] != CONFIG_FILE:
        raise ArchiveError(f"{MAR_MANIFEST_FILE}: not written by opserve's packer: handler {files['handler']!r}")


def check_contents(folder: Path, seal: Manifest) -> None:
    """Checks an unpacked archive for sense: its configuration, the files it names, and what its libraries need.

    Raises:
        OpserveError: naming the file and the reason.
    """
    # Slow to import, and not needed where only the files are checked.
    from archive.packer.requirements import is_library, read_needs
    from handlers.config import ModelConfig, read_yaml

    config = ModelConfig.parse(read_yaml(folder / CONFIG_FILE), CONFIG_FILE)
    if config.profile != seal.profile:
        raise ArchiveError(f"{MANIFEST_FILE}: says profile {seal.profile}, but {CONFIG_FILE} {config.profile}")
    for name in filter(None, (config.artifact, *config.op_libraries, config.hooks)):
        if name not in seal.files:
            raise ArchiveError(f"{name}: named in {CONFIG_FILE}, and no file of the archive")
    for name in seal.files:
        path = folder / name
        if is_library(path) != (name in seal.libraries):
            raise ArchiveError(f"{MANIFEST_FILE}: does not say what {name} needs, or says it of what is no library")
        check_nested(path, name)
    for name, needs in seal.libraries.items():
        said, found = needs.as_dict(), read_needs(folder / name).as_dict()
        for key in said:
            # Which PyTorch it was tried with is known to who packed it only.
            if key != "torch_exactly" and said[key] != found[key]:
                raise ArchiveError(
                    f"{MANIFEST_FILE}: says {key} {said[key]} of {name}; the file itself says {found[key]}"
                )


def check_nested(path: Path, name: str) -> None:
    """Raises `ArchiveError` for a ZIP file within the archive (.pt, .pt2 and .npz are ones) that is a bomb."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\3\4":
            return
    try:
        with zipfile.ZipFile(path) as nested:
            total = sum(info.file_size for info in nested.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise ArchiveError(f"{name}: damaged: {error}") from error
    try:
        check_growth(path.stat().st_size, total)
    except ArchiveError as error:
        raise ArchiveError(f"{name}: {error}") from error


def run_sample(folder: Path) -> None:
    """Has the model of an unpacked archive answer its sample, in a fresh process and by our own handlers.

    Raises:
        ArchiveError: it does not load, or its answer is not the expected one.
    """
    from archive.process.fresh import run_in_fresh_process

    run_in_fresh_process([sys.executable, "-c", _RUN_SAMPLE, str(folder)], ROOT)


def describe(path: Path, seal: Manifest) -> str:
    """An archive in a few lines: name, version, profile, size, sha256, and what its libraries need."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    profile = "" if seal.profile is None else f", profile {seal.profile}"
    lines = [
        f"{seal.name} {seal.version}{profile}: {os.path.relpath(path)}, {path.stat().st_size:,} bytes, sha256 {digest}",
        *(f"  {name} needs {needs.describe()}" for name, needs in seal.libraries.items()),
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, metavar="FILE.mar")
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="public key that it must be signed for (OPSERVE_PUBLIC_KEY)"
    )
    parser.add_argument(
        "--no-run", action="store_true", help="execute nothing of it, and leave out what this machine must have for it"
    )
    arguments = parser.parse_args()
    key = str(arguments.key.resolve()) if arguments.key else public_key_path()
    try:
        seal = verify(arguments.archive, key, run=not arguments.no_run)
    except (OpserveError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(describe(arguments.archive, seal))
    origin = f"signed for {key}" if key else "its signature, if any, not looked at (no OPSERVE_PUBLIC_KEY)"
    print(f"  whole and as packed; {'not run' if arguments.no_run else 'answers its sample as expected'}; {origin}")
    return 0


if __name__ == "__main__":
    run_main(main)
