"""A build that a signal ends leaves nothing behind."""

import signal
import subprocess
import sys

from archive.repository import ROOT
from tests.archive.packer.test_interrupted import TIMEOUT_S, until

BUILD = """
import time
from pathlib import Path
from archive.building.output import run_build

def build(folder):
    (folder / "half").write_text("a model")
    Path(folder.parents[1], "begun").touch()
    time.sleep(1000)

run_build(build)
"""


def test_a_build_that_is_asked_to_end_leaves_nothing(tmp_path) -> None:
    script = [sys.executable, "-c", BUILD, "--output", str(tmp_path / "model")]
    building = subprocess.Popen(script, cwd=ROOT)
    until((tmp_path / "begun").exists, "the build")
    building.terminate()
    assert building.wait(TIMEOUT_S) == 128 + signal.SIGTERM
    assert [path.name for path in tmp_path.iterdir()] == ["begun"]
