"""`make clean` removes what `make` can build again, and nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archive.packer.manifest import write_archive_with_manifest
from archive.packer.pack import unpack
from archive.repository import ROOT
from handlers.integrity.manifest import MANIFEST_FILE


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one model, built and packed, and caches."""
    for folder in ("archive/karate", "build/models/karate"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for folder in ("model_store", ".pytest_cache", ".ruff_cache", ".venv"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x").touch()
    (tmp_path / "model_store" / "x").unlink()
    shutil.copy(ROOT / "model_store" / "karate.mar", tmp_path / "model_store")
    return tmp_path


def clean(root: Path) -> list[str]:
    """Runs the command with the standard library alone; returns the lines that it prints."""
    command = [sys.executable, "-S", "-m", "scripts.clean", "--root", str(root)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in root.iterdir() if path.name != "model_store") == [".venv", "archive"]
    return done.stdout.splitlines()


def test_what_make_can_build_is_removed(root: Path) -> None:
    (root / "model_store" / ".karate.mar.abcd_123").write_bytes(b"half")
    assert clean(root) == []
    assert not (root / "model_store").exists()
    assert clean(root) == []


def test_archives_that_only_their_owner_could_make_again_stay(root: Path) -> None:
    store = root / "model_store"
    # An external model, another version, a link, another file.
    shutil.copy(store / "karate.mar", store / "mine.mar")
    shutil.copy(store / "karate.mar", store / "karate@2.0.mar")
    (store / "digits.mar").symlink_to(store / "karate.mar")
    (store / "notes.txt").touch()
    assert clean(root) == [
        "kept model_store/digits.mar: it is a link",
        "kept model_store/karate@2.0.mar: its model is not one of archive/",
        "kept model_store/mine.mar: its model is not one of archive/",
        "kept model_store/notes.txt: it is not an archive",
        "`make` cannot build these again; `rm -r model_store` removes them",
    ]
    assert not (store / "karate.mar").exists() and (store / "mine.mar").stat().st_size


@pytest.mark.parametrize("kind", ["older", "signed", "broken", "other"])
def test_an_archive_of_a_shipped_name_stays_if_it_is_not_what_make_builds(
    root: Path, tmp_path: Path, kind: str
) -> None:
    path = root / "model_store" / "karate.mar"
    reason = "its model is not the one in build/models/karate"
    if kind == "older":
        (root / "build" / "models" / "karate" / "karate.pt").write_bytes(b"newer")
    elif kind == "broken":
        path.write_bytes(path.read_bytes()[:1000])
        reason = "it cannot be read"
    else:
        folder = unpack(path, root / "build" / "unpacked")
        (folder / MANIFEST_FILE).unlink()
        manifest = folder / "MAR-INF" / "MANIFEST.json"
        if kind == "other":
            manifest.write_text(manifest.read_text().replace('"1.0"', '"7.0"'))
        path.unlink()
        write_archive_with_manifest(folder, path, Ed25519PrivateKey.generate() if kind == "signed" else None)
        reason = "it is signed" if kind == "signed" else "it contains karate 7.0"
    assert clean(root)[0] == f"kept model_store/karate.mar: {reason}"
    assert path.exists()
