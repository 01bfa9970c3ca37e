"""Packing that a signal ends leaves nothing behind, half-written or running."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from archive.process.temporary import temporary_file, temporary_folder
from archive.repository import ROOT
from tests.support.external import write_model_config

TIMEOUT_S = 120
# Reports its process and does not return.
HANGS = """
import os
import time
from pathlib import Path

Path({note!r}).write_text(str(os.getpid()))
time.sleep(1000)
"""


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def is_gone(pid: str) -> bool:
    """Whether a process has ended, even if nothing has waited for it."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


@pytest.fixture
def begin(external, tmp_path) -> Callable[[], tuple[subprocess.Popen, str]]:
    """`begin()` packs a model that hangs while it is tried; returns the packer and the pid of the trial."""
    (tmp_path / "hooks.py").write_text(HANGS.format(note=str(tmp_path / "note")))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "store").mkdir()

    def start() -> tuple[subprocess.Popen, str]:
        (tmp_path / "note").unlink(missing_ok=True)
        config = write_model_config(tmp_path / "mine.yaml", hooks="hooks.py")
        packing = subprocess.Popen(
            # Tests that run in the background ignore interrupts, and so would the processes they start.
            ["env", "--default-signal", *command(external, config, tmp_path / "store")],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(tmp_path / "temporary")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(lambda: (tmp_path / "note").exists() and (tmp_path / "note").read_text(), "the trial")
        return packing, (tmp_path / "note").read_text()

    return start


def command(external, config: Path, store: Path) -> list[str]:
    words = [sys.executable, "-m", "archive.pack", "--artifact", external.scripted, "--ops", external.library]
    return [*map(str, [*words, "--name", "mine", "--config", config, "--model-store", store])]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_a_packer_that_is_asked_to_end_leaves_nothing(begin, tmp_path, number: int) -> None:
    packing, trial = begin()
    assert list((tmp_path / "temporary").iterdir())
    packing.send_signal(number)
    assert packing.wait(TIMEOUT_S) == 128 + number
    assert list((tmp_path / "temporary").iterdir()) == []
    assert list((tmp_path / "store").iterdir()) == []
    assert is_gone(trial)


def test_what_a_killed_packer_leaves_is_removed_by_the_next(begin, external, tmp_path) -> None:
    packing, trial = begin()
    packing.kill()
    packing.wait(TIMEOUT_S)
    until(lambda: is_gone(trial), "the end of the trial")
    (left,) = (tmp_path / "temporary").iterdir()
    partial = tmp_path / "store" / ".mine.mar.abcd_123"
    partial.write_bytes(b"half of an archive")
    # The folder of a packer that is still running is left alone, and so is anything that only looks like one.
    with temporary_folder("opserve-pack-", tmp_path / "temporary") as busy:
        assert not left.exists()
        left.mkdir()
        (tmp_path / "temporary" / "opserve-pack-elsewher").symlink_to(tmp_path / "store")
        (tmp_path / "temporary" / "opserve-pack-notours-").mkdir()
        environment = os.environ | {"TMPDIR": str(tmp_path / "temporary")}
        words = command(external, external.config, tmp_path / "store")
        packed = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert packed.returncode == 0, packed.stderr
        found = {path.name for path in (tmp_path / "temporary").iterdir()}
        assert found == {busy.name, "opserve-pack-elsewher", "opserve-pack-notours-"}
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["mine.mar"]


def test_a_temporary_file_that_was_renamed_stays(tmp_path) -> None:
    with temporary_file(".x.", tmp_path) as file, temporary_file(".x.", tmp_path) as other:
        file.write_text("whole")
        file.replace(tmp_path / "x")
        assert other.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
