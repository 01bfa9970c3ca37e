"""The checks of an archive.

Each is made by the code of this repository, none by the archive's own, and nothing is unpacked except into a temporary
folder. Last, if wanted, the model answers its sample in a fresh process: that executes the archive's model, libraries
and hooks, with the rights of the caller.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from archive.errors import ArchiveError, OpserveError
from archive.packer.container import Container, check_growth
from archive.packer.mar_manifest import MAR_MANIFEST_FILE, MAR_RUNTIMES, is_for_native
from archive.packer.trial import try_sample
from archive.process.limits import Limits, call_limited
from archive.process.temporary import temporary_folder
from archive.repository import ROOT
from handlers.errors import ModelError
from handlers.integrity.manifest import MANIFEST_FILE, Manifest
from handlers.integrity.signing import SIGNATURE_FILE, check_signature

CONFIG_FILE = "model-config.yaml"
# The keys that the packer writes there; a requirements file, for one, would be handed to pip.
_MAR_MANIFEST_KEYS = {"modelName", "modelVersion", "handler", "serializedFile", "configFile"}
# Runs the handlers of this repository on the archive's files: its folder comes last, where it cannot replace a module.
_RUN_SAMPLE = (
    "import runpy, sys; sys.path.append(sys.argv[1]); runpy.run_module('handlers.selfcheck', run_name='__main__')"
)


def verify(path: Path, key: str | None = None, *, run: bool = True) -> Manifest:
    """Makes all checks of an archive.

    Args:
        path: the archive.
        key: absolute path of a public key that it must be signed for, or `None`.
        run: whether this machine must be able to serve it: it meets the requirements of its libraries, and the model
            answers its sample as expected, by Python and by the worker that the archive is for.

    Raises:
        ArchiveError: in one line, naming the archive, the file in it and the reason.
    """
    try:
        with temporary_folder("opserve-verify-") as folder:
            content = call_limited(
                "archive.packer.verify:unpack_checked",
                str(path.absolute()),
                str(folder),
                key,
                limits=Limits.of_file(path),
            )
            manifest = Manifest.decode(content.encode())
            if run:
                manifest.check_machine()
                try_sample(folder, [sys.executable, "-c", _RUN_SAMPLE, str(folder)], ROOT)
            return manifest
    except OpserveError as error:
        raise ArchiveError(f"{path.name}: {error}") from error


def unpack_checked(path: str, folder: str, key: str | None) -> str:
    """Makes all checks of an archive except those of this machine, and unpacks it; called where it can do no harm.

    Args:
        path: the archive.
        folder: an empty one to unpack it into.
        key: absolute path of a public key that it must be signed for, or `None`.

    Returns:
        Its manifest, as it is in the archive.

    Raises:
        OpserveError: naming the file and the reason.
    """
    with Container(Path(path)) as container:
        manifest = check_container(container, key)
        container.extract(Path(folder))
        check_unpacked(Path(folder), manifest)
    return manifest.encode().decode()


def has_manifest(container: Container) -> bool:
    """Whether an archive was made by opserve's packer, or claims to be."""
    return MANIFEST_FILE in container.names


def check_container(container: Container, key: str | None) -> Manifest:
    """Checks the files of an archive against its manifest, without unpacking it and without executing anything.

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
    manifest = Manifest.decode(content)
    listed, found = set(manifest.files), set(container.names) - {MANIFEST_FILE, SIGNATURE_FILE}
    for name in sorted(listed - found):
        raise ModelError(f"{name}: missing from the archive")
    for name in sorted(found - listed):
        raise ModelError(f"{name}: not a file of this archive; {MANIFEST_FILE} does not list it")
    for name, record in manifest.files.items():
        hashed = hashlib.sha256()
        for chunk in container.chunks(name):
            hashed.update(chunk)
        record.check(name, hashed.hexdigest(), container.size(name))
    container.check_canonical()
    _check_mar_manifest(container, manifest)
    return manifest


def _check_mar_manifest(container: Container, manifest: Manifest) -> None:
    """Raises `ArchiveError` unless TorchServe's manifest is as the packer has torch-model-archiver write it."""
    if MAR_MANIFEST_FILE not in container.names:
        raise ArchiveError(f"{MAR_MANIFEST_FILE}: missing from the archive")
    try:
        document: Any = json.loads(container.read(MAR_MANIFEST_FILE))
        model = document["model"]
        unknown = sorted(model.keys() - _MAR_MANIFEST_KEYS)
        name, version, runtime = model["modelName"], model["modelVersion"], document["runtime"]
        files = {key: model[key] for key in ("handler", "serializedFile", "configFile")}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ArchiveError(f"{MAR_MANIFEST_FILE}: not written by opserve's packer ({error!r})") from error
    if unknown or runtime not in MAR_RUNTIMES.values():
        what = f"the key {unknown[0]}" if unknown else f"the runtime {runtime!r}"
        raise ArchiveError(f"{MAR_MANIFEST_FILE}: not written by opserve's packer: {what}")
    if (name, version) != (manifest.name, manifest.version):
        raise ArchiveError(
            f"{MAR_MANIFEST_FILE}: says {name} {version}, but {MANIFEST_FILE} {manifest.name} {manifest.version}"
        )
    for key, file in files.items():
        # One of TorchServe's own handlers, or `file:function`, is not a file of the archive either.
        if not isinstance(file, str) or "/" in file or file not in manifest.files:
            raise ArchiveError(f"{MAR_MANIFEST_FILE}: the {key} {file!r} is not a file of the archive")
    if not files["handler"].endswith("_handler.py") or files["configFile"] != CONFIG_FILE:
        raise ArchiveError(f"{MAR_MANIFEST_FILE}: not written by opserve's packer: handler {files['handler']!r}")


def check_unpacked(folder: Path, manifest: Manifest) -> None:
    """Checks an unpacked archive: its configuration, the files that it names, and what its libraries require.

    Raises:
        OpserveError: naming the file and the reason.
    """
    # Slow to import, and not needed where only the files are checked.
    from archive.packer.requirements import is_library, read_requirements
    from archive.packer.worker_config import WORKER_CONFIG_FILE, encode_worker_config
    from handlers.config import ModelConfig, read_yaml

    document = read_yaml(folder / CONFIG_FILE)
    config = ModelConfig.parse(document, CONFIG_FILE)
    if config.profile != manifest.profile:
        raise ArchiveError(f"{MANIFEST_FILE}: says profile {manifest.profile}, but {CONFIG_FILE} {config.profile}")
    for name in filter(None, (config.artifact, *config.op_libraries, config.hooks)):
        if name not in manifest.files:
            raise ArchiveError(f"{name}: named in {CONFIG_FILE}, but not a file of the archive")
    if WORKER_CONFIG_FILE in manifest.files:
        if (folder / WORKER_CONFIG_FILE).read_bytes() != encode_worker_config(document, config):
            raise ArchiveError(f"{WORKER_CONFIG_FILE}: differs from {CONFIG_FILE}; pack the archive again")
    elif is_for_native(folder):
        raise ArchiveError(f"{WORKER_CONFIG_FILE}: missing from the archive, which is for the native worker")
    for name in manifest.files:
        path = folder / name
        if is_library(path) != (name in manifest.libraries):
            lists = "lists" if name in manifest.libraries else "does not list"
            raise ArchiveError(f"{MANIFEST_FILE}: {lists} {name} as a library; the file says otherwise")
        check_nested(path, name)
    for name, requirements in manifest.libraries.items():
        listed, found = requirements.as_dict(), read_requirements(folder / name).as_dict()
        for key in listed:
            # Which PyTorch the library was tried with is known only where it was packed.
            if key != "torch_exactly" and listed[key] != found[key]:
                raise ArchiveError(
                    f"{MANIFEST_FILE}: says {key} {listed[key]} of {name}; the file itself says {found[key]}"
                )


def check_nested(path: Path, name: str) -> None:
    """Raises `ArchiveError` for a ZIP file within the archive (such as a .pt, .pt2 or .npz) that is a bomb."""
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
