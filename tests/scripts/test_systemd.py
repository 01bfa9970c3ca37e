"""systemd accepts the unit, and what the unit names exists."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from archive.repository import ROOT

UNIT = ROOT / "deploy" / "systemd" / "opserve.service"


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=", comment_prefixes="#")
    parser.optionxform = str
    parser.read_string(UNIT.read_text())
    return parser


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here (Debian's package systemd)")
    # The paths and the user are those of the machine that it is installed on.
    text = UNIT.read_text().replace("/opt/opserve", str(ROOT))
    text = "\n".join(line for line in text.splitlines() if not line.startswith(("User=", "Group=")))
    (tmp_path / UNIT.name).write_text(text + "\n")
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / UNIT.name)], capture_output=True, text=True, check=False
    )
    about_it = [line for line in done.stderr.splitlines() if "opserve" in line]
    assert (done.returncode, about_it) == (0, []), done.stderr


def test_the_unit_runs_what_exists_and_writes_only_to_its_own_folder() -> None:
    service = unit()["Service"]
    home = service["WorkingDirectory"]
    for key in ("ExecStart", "ExecStartPre", "ExecStopPost"):
        python, _, module, *_ = service[key].split()
        assert python == f"{home}/.venv/bin/python"
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
    assert service["ReadWritePaths"] == home
    assert service["ProtectSystem"] == "strict"
    assert service["Restart"] == "on-failure"
    assert service["KillMode"] == "mixed"
