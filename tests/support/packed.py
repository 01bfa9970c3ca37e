"""An archive that is packed once, and ways to change it."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from archive.packer.container import write_archive
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
    """`mine.mar`: an external scripted model with its operator library."""
    contents = ArchiveContents.from_files("mine", external.scripted, [external.library], external.config)
    path, _ = pack(contents, tmp_path_factory.mktemp("packed"))
    return path


@pytest.fixture
def unpacked(packed, tmp_path) -> Path:
    """Its files, unpacked as for a worker."""
    return unpack(packed, tmp_path / "unpacked")


@pytest.fixture
def changed(packed, tmp_path) -> Callable[[Callable[[Files], None]], Path]:
    """`changed(edit)` is a canonical archive of the same files after `edit` has changed the dictionary of them."""

    def change(edit: Callable[[Files], None]) -> Path:
        files = files_in(packed)
        edit(files)
        path = tmp_path / "changed.mar"
        path.unlink(missing_ok=True)
        write_archive(path, files)
        return path

    return change


def with_requirements(content: bytes, library: str = "libmine.so", **changes: object) -> bytes:
    """A manifest in which a library has other requirements."""
    manifest = Manifest.decode(content)
    return replace(manifest, libraries={library: replace(manifest.libraries[library], **changes)}).encode()


def change_requirements(folder: Path, **changes: object) -> LibraryRequirements:
    """Changes the requirements of an unpacked archive's library."""
    path = folder / MANIFEST_FILE
    path.write_bytes(with_requirements(path.read_bytes(), **changes))
    return Manifest.decode(path.read_bytes()).libraries["libmine.so"]
