"""An archive packed once, and ways to change it."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from archive.packer.container import Container, write_archive
from archive.packer.contents import ArchiveContents
from archive.packer.pack import pack, unpack
from handlers.integrity.manifest import MANIFEST_FILE, Manifest
from handlers.integrity.requirements import LibraryRequirements

Files = dict[str, bytes]


def files_in(archive: Path) -> Files:
    """Every file of an archive."""
    with zipfile.ZipFile(archive) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.fixture(scope="session")
def packed(external, tmp_path_factory) -> Path:
    """`mine.mar`: a scripted model with an operator library that is not ours."""
    contents = ArchiveContents.from_files("mine", external.scripted, [external.library], external.config)
    path, _ = pack(contents, tmp_path_factory.mktemp("packed"))
    return path


@pytest.fixture
def unpacked(packed, tmp_path) -> Path:
    """The folder in which a worker finds it."""
    return unpack(packed, tmp_path / "unpacked")


@pytest.fixture
def changed(packed, tmp_path) -> Callable[[Callable[[Files], None]], Path]:
    """`changed(edit)` is a canonical archive of the same files after `edit` changed the dictionary of them."""

    def change(edit: Callable[[Files], None]) -> Path:
        files = files_in(packed)
        edit(files)
        path = tmp_path / "changed.mar"
        write_archive(path, files)
        return path

    return change


def resealed(content: bytes, library: str = "libmine.so", **needs) -> bytes:
    """A seal of which a library needs something else."""
    seal = Manifest.decode(content)
    return replace(seal, libraries={library: replace(seal.libraries[library], **needs)}).encode()


def demand(folder: Path, **needs) -> LibraryRequirements:
    """Has an unpacked archive's library need something else."""
    path = folder / MANIFEST_FILE
    path.write_bytes(resealed(path.read_bytes(), **needs))
    return Manifest.decode(path.read_bytes()).libraries["libmine.so"]


def names_in(archive: Path) -> list[str]:
    """The files of an archive, in its order."""
    with Container(archive) as container:
        return container.names
