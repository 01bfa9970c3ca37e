"""`make doctor` runs before anything is installed, and each failure names its fix."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from archive.repository import ROOT
from scripts import doctor
from scripts.setup import checks
from scripts.torchserve import java


def test_it_needs_the_standard_library_only() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "scripts.doctor"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    for line in done.stdout.splitlines():
        assert line.split()[0] in ("OK", "FAIL", "—", "fix:"), line
    assert (done.returncode == 1) == ("FAIL" in done.stdout)
    assert {line.split()[1] for line in done.stdout.splitlines() if "fix:" not in line} == set(checks.CHECKS)


# The files of the repository that `make doctor`, `make env` and `make clean` import, on a Python that may be too old.
IMPORTED = """
import sys
import scripts.doctor, scripts.clean
paths = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
print(*[path for path in paths if path.startswith(sys.argv[1])])
"""


def test_what_it_imports_is_readable_to_an_old_python() -> None:
    command = [sys.executable, "-S", "-c", IMPORTED, f"{ROOT}/"]
    paths = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert str(ROOT / "scripts" / "torchserve" / "machine.py") in paths
    command = [
        Path(sys.executable).with_name("vermin"),
        "--no-config-file",
        "-t=3.6-",
        "--violations",
        "--no-tips",
        "-p=1",
    ]
    command += ["--eval-annotations", "--feature", "union-types", *paths]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    # This one checks the version itself: only its syntax has to be old.
    ast.parse((ROOT / "scripts" / "environment.py").read_text(), feature_version=(3, 6))


def old_pythons() -> list[str]:
    """Returns the Pythons of this machine that are too old for opserve."""
    home = Path.home() / ".pyenv" / "versions"
    found = [shutil.which(f"python3.{minor}") or "" for minor in range(6, 11)]
    found += [str(path) for minor in range(6, 11) for path in home.glob(f"3.{minor}.*/bin/python")]
    return [path for path in found if path and checks.run(path, "-c", "")[0] == 0]


@pytest.mark.skipif(not old_pythons(), reason="this machine has no old Python to run it with")
def test_an_old_python_is_one_line_with_the_fix() -> None:
    for executable in old_pythons():
        done = subprocess.run(
            [executable, "-m", "scripts.doctor"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        assert (done.returncode, done.stderr) == (1, ""), executable
        lines = done.stdout.splitlines()
        assert lines[0].startswith("FAIL  python       3.")
        assert lines[1].split() == "fix: name a Python 3.11 to 3.13: make serve PYTHON=python3.12".split()
        assert len([line for line in lines if "fix:" not in line]) == len(checks.CHECKS)


def test_a_missing_compiler_is_one_line_with_the_fix(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert doctor.main(["--only", "compiler"]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert message.startswith("error: no C++ compiler: no-such-compiler not on PATH; install one")


def test_a_compiler_that_cannot_make_a_program_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'probe.cpp:2: fatal error: concepts: No such file' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    result = checks.CHECKS["compiler"]()
    assert result.state == checks.FAIL
    assert "concepts: No such file" in result.text


def fake_java(folder: Path, version: str) -> Path:
    """Makes a program that reports this version of Java; returns its home."""
    executable = folder / "bin" / "java"
    executable.parent.mkdir(parents=True)
    executable.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2024-01-01' >&2\n")
    executable.chmod(0o755)
    return folder


@pytest.mark.parametrize(("version", "major"), [("1.8.0_392", 8), ("11.0.2", 11), ("17", 17), ("25.0.2", 25)])
def test_java_versions_are_read(tmp_path: Path, version: str, major: int) -> None:
    assert java.read_version(fake_java(tmp_path, version) / "bin" / "java") == major


def test_java_is_taken_from_java_home_then_path_then_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = fake_java(tmp_path / "a", "21.0.1"), fake_java(tmp_path / "b", "17.0.1")
    third = fake_java(tmp_path / "runtime", "25.0.1")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "java").symlink_to(third / "bin" / "java")
    monkeypatch.setenv("PATH", f"{second / 'bin'}{os.pathsep}/nowhere")
    monkeypatch.setenv("JAVA_HOME", str(first))
    assert java.find_java(tmp_path)[0] == java.Java(first, 21, "JAVA_HOME")
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path / "old", "11.0.1")))
    found, remarks = java.find_java(tmp_path)
    assert found == java.Java(second, 17, "PATH")
    assert "is Java 11" in remarks[0]
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", "/nowhere")
    # The stand-in is a shell script, which does not need PATH.
    assert java.find_java(tmp_path)[0] == java.Java(third, 25, ".venv/bin/java")
