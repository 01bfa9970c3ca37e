"""The same sources give the same archive: in another folder, at another time, in another process."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from archive.repository import BUILD, ROOT
from tests.support.packed import files_in


def copy_of_the_sources(folder: Path) -> Path:
    """What a clone of the repository would hold, changes that are not committed included."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    shutil.copytree(BUILD / "lib", folder / "build" / "lib")
    return folder


def run(folder: Path, *arguments: str, seed: str = "random") -> None:
    environment = os.environ | {"PYTHONPATH": "extensions", "PYTHONHASHSEED": seed}
    subprocess.run([sys.executable, "-m", *arguments], cwd=folder, env=environment, check=True, capture_output=True)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[Path]:
    base = tmp_path_factory.mktemp("clones")
    return [copy_of_the_sources(base / name) for name in ("one", "another/place")]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_packing_in_two_folders_gives_the_same_archive(folders):
    for index, folder in enumerate(folders):
        shutil.copytree(BUILD / "models" / "digits", folder / "build" / "models" / "digits")
        # Times and modes of the files differ, as those of two checkouts do.
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                os.utime(path, (1_000_000_000 * (index + 1),) * 2)
                path.chmod(0o644 if index else 0o755)
        run(folder, "archive.pack", "digits", "--version", "2.0", seed=str(index + 1))
    one, other = (folder / "model_store" / "digits@2.0.mar" for folder in folders)
    assert files_in(one) == files_in(other)
    assert sha256(one) == sha256(other)


def test_exporting_to_onnx_in_two_folders_gives_the_same_file(folders):
    for index, folder in enumerate(folders):
        shutil.copytree(BUILD / "models" / "karate", folder / "build" / "models" / "karate")
        run(folder, "archive.karate.build_onnx", "--output", "build/models/karate_onnx", seed=str(index + 1))
    one, other = (folder / "build" / "models" / "karate_onnx" / "karate.onnx" for folder in folders)
    assert sha256(one) == sha256(other)
    for root in (folders[0], Path(torch.__file__).parent):
        assert str(root).encode() not in one.read_bytes()


@pytest.mark.slow
def test_training_and_packing_in_two_folders_gives_the_same_archive(folders):
    for folder in folders:
        shutil.rmtree(folder / "build" / "models", ignore_errors=True)
        run(folder, "archive.digits.build", "--output", "build/models/digits")
        run(folder, "archive.pack", "digits")
    one, other = (folder / "model_store" / "digits.mar" for folder in folders)
    assert files_in(one) == files_in(other)
    assert sha256(one) == sha256(other)
