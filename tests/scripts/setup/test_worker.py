"""The native worker gets into its place in an environment at once, or not at all."""

import subprocess
import sys
from pathlib import Path

import pytest

from archive.errors import OpserveError
from archive.native_worker import ONNX_ENGINE, PROGRAM, TORCH_ENGINE, worker_folder
from archive.repository import ROOT
from scripts.setup import checks, cleaning
from scripts.setup.worker import place, read_obstacle, take_away


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A build with a program and both engines."""
    for name in (PROGRAM, TORCH_ENGINE, ONNX_ENGINE, "lib/libopserve_torch.so"):
        (tmp_path / "build" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "build" / name).write_text(f"#!/bin/sh\n# {name}\necho first\n")
        (tmp_path / "build" / name).chmod(0o755)
    return tmp_path / "build"


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """Where TorchServe looks for it, in an environment."""
    package = tmp_path / ".venv" / "lib" / "python3.11" / "site-packages" / "ts"
    package.mkdir(parents=True)
    return package / "cpp"


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_torchserve_looks_for_it_in_its_package() -> None:
    assert worker_folder() is not None and worker_folder().parent.name == "ts"


def test_the_program_and_its_engines_are_placed_and_run_there(built: Path, link: Path) -> None:
    program = place(built, link)
    assert program == link / "bin" / "model_worker_socket"
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "first\n"
    assert files(link) == sorted([PROGRAM, TORCH_ENGINE, ONNX_ENGINE])


def test_nothing_is_changed_by_a_second_time_and_a_new_build_replaces_all(built: Path, link: Path) -> None:
    place(built, link)
    first, before = link.resolve(), link.lstat().st_mtime_ns
    place(built, link)
    assert (link.resolve(), link.lstat().st_mtime_ns) == (first, before)
    (built / PROGRAM).write_text("#!/bin/sh\necho second\n")
    (built / ONNX_ENGINE).unlink()
    assert subprocess.run([place(built, link)], capture_output=True, text=True, check=True).stdout == "second\n"
    assert files(link) == sorted([PROGRAM, TORCH_ENGINE])
    # A worker that was started from the first ones has mapped them.
    assert not first.exists()
    assert sorted(path.name for path in link.parent.iterdir()) == sorted([link.resolve().name, "cpp"])


def test_a_program_without_engines_still_has_the_folder_that_torchserve_demands(built: Path, link: Path) -> None:
    for name in (TORCH_ENGINE, ONNX_ENGINE):
        (built / name).unlink()
    place(built, link)
    assert (link / "lib").is_dir() and files(link) == [PROGRAM]


def test_somebody_elses_worker_is_left_alone(built: Path, link: Path) -> None:
    (link / "bin").mkdir(parents=True)
    (link / "bin" / "model_worker_socket").write_text("theirs")
    with pytest.raises(OpserveError, match="is there already, and not from opserve: move it away"):
        place(built, link)
    take_away(link)
    assert files(link) == [PROGRAM]


def test_what_was_placed_can_be_taken_away(built: Path, link: Path) -> None:
    place(built, link)
    take_away(link)
    take_away(link)
    assert list(link.parent.iterdir()) == []


def test_make_clean_takes_it_away_but_not_through_a_linked_environment(built: Path, link: Path, tmp_path: Path) -> None:
    place(built, link)
    other = tmp_path / "other"
    other.mkdir()
    (other / ".venv").symlink_to(tmp_path / ".venv")
    cleaning.clean(other)
    assert (link / PROGRAM).is_file()
    cleaning.clean(tmp_path)
    assert list(link.parent.iterdir()) == [] and not built.exists()


def test_what_a_build_lacked_is_said(tmp_path: Path) -> None:
    assert read_obstacle(tmp_path / "absent") is None
    (tmp_path / "no-worker.txt").write_text("no headers of ISA-L (…)\n")
    assert read_obstacle(tmp_path / "no-worker.txt") == "no headers of ISA-L (…)"


def test_missing_headers_are_found_by_the_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\n! grep -q 'jpeglib\\|isa-l' \"$2\"\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert checks.missing_headers() == {"isa-l.h": "libisal-dev", "jpeglib.h": "libjpeg-dev"}
    result = checks.CHECKS["worker"]()
    assert result.state == checks.NONE and "isa-l.h, jpeglib.h not found" in result.text
    assert result.fix == "Debian, Ubuntu: apt install libisal-dev libjpeg-dev; then make ext"
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert len(checks.missing_headers()) == 3


def test_the_command_explains_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.worker", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--stamp" in done.stdout
