"""Where the C headers of ONNX Runtime come from, and what is said and built where there are none."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from native_build import configure, tool
from test_build import one_line

SCRIPT = REPOSITORY / "extensions/cmake/onnxruntime_headers.py"
specification = importlib.util.spec_from_file_location("onnxruntime_headers", SCRIPT)
headers = importlib.util.module_from_spec(specification)
specification.loader.exec_module(headers)

DEBIAN = """\
Types: deb deb-src
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def machine(root: Path, sources: dict[str, str], release: str = "ID=debian\nVERSION_CODENAME=bookworm\n") -> Path:
    (root / "etc/apt/sources.list.d").mkdir(parents=True)
    (root / "etc/os-release").write_text(release)
    for name, text in sources.items():
        (root / "etc/apt" / name).write_text(text)
    return root


def test_the_machines_own_entry_is_used_with_another_suite(tmp_path: Path) -> None:
    security = DEBIAN.replace("/debian\n", "/debian-security\n").replace(
        "bookworm bookworm-updates", "bookworm-security"
    )
    root = machine(tmp_path, {"sources.list.d/debian.sources": f"{DEBIAN}\n{security}"})
    assert headers.debian_sources(root) == [
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie\nComponents: main\n"
        + DEBIAN.splitlines()[-1]
        + "\n"
    ]


def test_a_key_inside_the_entry_stays_whole(tmp_path: Path) -> None:
    key = "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc=\n -----END PGP PUBLIC KEY BLOCK-----\n"
    text = DEBIAN.replace("Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n", key)
    (source,) = headers.debian_sources(machine(tmp_path, {"sources.list.d/debian.sources": text}))
    assert " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc=\n -----END PGP PUBLIC KEY BLOCK-----\n" in source


def test_one_line_entries_and_other_peoples_archives(tmp_path: Path) -> None:
    lines = """\
# deb http://commented.example/debian bookworm main
deb-src http://mirror.example/debian bookworm main
deb [signed-by=/k.gpg arch=amd64] http://other.example/apt bookworm main # theirs
deb http://mirror.example/debian/ bookworm main non-free-firmware
deb http://mirror.example/debian bookworm-updates main
deb http://packages.example/ stable extra
"""
    off = DEBIAN.replace("mirror", "off") + "Enabled: no\n"
    root = machine(tmp_path, {"sources.list": lines, "sources.list.d/off.sources": off})
    assert headers.debian_sources(root) == [
        "Types: deb\nURIs: http://mirror.example/debian/\nSuites: trixie\nComponents: main\n",
        "Types: deb\nURIs: http://other.example/apt\nSuites: trixie\nComponents: main\nSigned-By: /k.gpg\n",
    ]


@pytest.mark.parametrize("release", ["ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=bookworm\n", ""])
def test_another_distribution_has_no_debian_entry(release: str, tmp_path: Path) -> None:
    assert headers.debian_sources(machine(tmp_path, {"sources.list.d/debian.sources": DEBIAN}, release)) == []


def headers_of(folder: Path, version: int | str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / headers.HEADER).write_text(f"#pragma once\n#define ORT_API_VERSION {version}\n")
    return folder


def run_script(into: Path, path: Path | None = None, named: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(path or os.environ["PATH"]), "LC_ALL": "C"}
    if named is not None:
        environment["ONNXRUNTIME_INCLUDE_DIR"] = str(named)
    command = [sys.executable, str(SCRIPT), "--into", str(into)]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)


def test_a_named_folder_is_taken(tmp_path: Path) -> None:
    for version in (18, 30):
        folder = headers_of(tmp_path / f"{version}/include", version)
        assert run_script(tmp_path / "into", named=folder).stdout.strip() == str(folder)
    # As some packages lay it out.
    nested = headers_of(tmp_path / "nested/include/onnxruntime", 21)
    assert run_script(tmp_path / "into", named=nested.parent).stdout.strip() == str(nested)


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        (None, "cannot be read (No such file or directory)"),
        (17, "is of API version 17, but 18 or newer is needed"),
        ("x", "does not say its ORT_API_VERSION"),
    ],
)
def test_a_named_folder_that_does_not_serve_is_an_error(version: int | str | None, reason: str, tmp_path: Path) -> None:
    if version is not None:
        headers_of(tmp_path, version)
    result = run_script(tmp_path / "into", named=tmp_path)
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("No ONNX Runtime headers: ONNXRUNTIME_INCLUDE_DIR is set, but ")
    assert f"{tmp_path}/{headers.HEADER} {reason}. Set ONNXRUNTIME_INCLUDE_DIR to " in line


def tools(folder: Path, **scripts: str) -> Path:
    """A PATH of these commands alone."""
    folder.mkdir()
    for name, text in scripts.items():
        tool = folder / name.replace("_", "-")
        tool.write_text(f"#!/bin/bash\nPATH=/usr/bin:/bin\n{text}\n")
        tool.chmod(0o755)
    return folder


installed = pytest.mark.skipif(
    (headers.SYSTEM / headers.HEADER).is_file() or not headers.debian_sources(),
    reason="needs a Debian machine without libonnxruntime-dev",
)


@installed
def test_the_package_is_fetched_and_unpacked_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    apt = f"""
echo "$@" >> {log}
if [[ "$*" == *download* ]]; then echo package > libonnxruntime-dev_1.deb; fi
"""
    dpkg = """
[[ "$(cat "$2")" == package ]] || exit 1
mkdir -p "$3/usr/include/onnxruntime"
echo '#define ORT_API_VERSION 21' > "$3/usr/include/onnxruntime/onnxruntime_c_api.h"
"""
    path = tools(tmp_path / "bin", apt_get=apt, dpkg=dpkg)
    into = tmp_path / "new/into"
    for _ in range(2):
        result = run_script(into, path)
        assert result.returncode == 0, result.stderr
        assert result.stdout.strip() == str(into / "usr/include/onnxruntime")
    assert len(log.read_text().splitlines()) == 2
    # Neither the machine's lists nor its cache are touched, and nothing of ours stays behind.
    assert "Dir::State::Lists=" in log.read_text()
    assert "Dir::Cache=" in log.read_text()
    assert [entry.name for entry in into.parent.iterdir()] == ["into"]


@installed
@pytest.mark.parametrize(
    ("apt_get", "reason"),
    [
        ("echo 'W: minor' >&2; echo 'E: Failed to fetch' >&2; exit 100", "could not be fetched (apt-get: E: Failed to"),
        ("exit 3", "could not be fetched (apt-get: status 3)"),
        ("[[ $* == *download* ]] && echo x > a.deb; exit 0", "could not be fetched (dpkg: broken)"),
    ],
)
def test_a_failed_download_is_one_line_with_the_fix(apt_get: str, reason: str, tmp_path: Path) -> None:
    path = tools(tmp_path / "bin", apt_get=apt_get, dpkg="echo broken >&2; exit 2")
    result = run_script(tmp_path / "build/into", path)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("No ONNX Runtime headers: libonnxruntime-dev of Debian trixie ")
    assert reason in line
    assert line.endswith("(1.18 or newer), or install libonnxruntime-dev.")
    assert list((tmp_path / "build").iterdir()) == []


@installed
def test_no_apt_is_explained(tmp_path: Path) -> None:
    result = run_script(tmp_path / "into", tools(tmp_path / "bin"))
    assert result.returncode == 1
    assert "libonnxruntime-dev is not installed, and there is no apt-get to fetch it with" in result.stderr


def without_headers(folder: Path) -> str:
    """An interpreter that finds none, as a machine without a network would."""
    fake = folder / "python"
    fake.write_text("#!/bin/sh\necho 'No ONNX Runtime headers: reason. Fix.' >&2\nexit 1\n")
    fake.chmod(0o755)
    return f"-DPython_EXECUTABLE={fake}"


def test_without_headers_the_rest_is_built_and_the_reason_told(tmp_path: Path) -> None:
    result = configure(tmp_path / "build", "-DOPSERVE_BUILD_TORCH=OFF", without_headers(tmp_path))
    assert result.returncode == 0, result.stderr
    expected = (
        "libopserve_onnxruntime.so is left out; models saved as ONNX cannot be served. No ONNX Runtime headers: reason"
    )
    assert expected in one_line(result.stderr)
    targets = (tmp_path / "build/build.ninja").read_text()
    assert "libopserve_kernels.a" in targets
    assert "opserve_onnxruntime" not in targets


def test_a_library_that_was_asked_for_is_not_left_out(tmp_path: Path) -> None:
    options = ("-DOPSERVE_BUILD_TORCH=OFF", "-DOPSERVE_BUILD_ONNXRUNTIME=ON")
    result = configure(tmp_path / "build", *options, without_headers(tmp_path))
    assert result.returncode != 0
    assert "No ONNX Runtime headers: reason. Fix." in one_line(result.stderr)


def test_a_named_folder_that_does_not_serve_stops_the_build(tmp_path: Path) -> None:
    options = ("-DOPSERVE_BUILD_TORCH=OFF", f"-DONNXRUNTIME_INCLUDE_DIR={tmp_path}")
    result = configure(tmp_path / "build", *options, f"-DPython_EXECUTABLE={sys.executable}")
    assert result.returncode != 0
    assert "ONNXRUNTIME_INCLUDE_DIR is set, but" in one_line(result.stderr)


@pytest.mark.parametrize("linked", [False, True])
def test_the_same_sources_give_the_same_bytes_in_another_folder(linked: bool, tmp_path: Path) -> None:
    """The folder with the headers differs from machine to machine, and may be a link."""
    found = Path(run_script(REPOSITORY / "build/onnxruntime-headers").stdout.strip())
    elsewhere = tmp_path / "another folder"
    shutil.copytree(REPOSITORY / "extensions", elsewhere / "extensions", ignore=shutil.ignore_patterns("__pycache__"))
    include = elsewhere / "include"
    if linked:
        include.symlink_to(found)
    else:
        shutil.copytree(found, include)
    objects = []
    for repository, folder in ((REPOSITORY, found), (elsewhere, include)):
        build = tmp_path / f"build {len(objects)}"
        options = ("-DOPSERVE_BUILD_TORCH=OFF", f"-DPython_EXECUTABLE={sys.executable}", "-DCMAKE_BUILD_TYPE=Release")
        configured = configure(build, *options, f"-DONNXRUNTIME_INCLUDE_DIR={folder}", source=repository / "extensions")
        assert configured.returncode == 0, configured.stderr
        target = "CMakeFiles/opserve_onnxruntime.dir/bindings/onnxruntime/library_onnxruntime.cpp.o"
        command = [tool("ninja"), "-C", str(build), target]
        built = subprocess.run(command, check=False, capture_output=True, text=True)
        assert built.returncode == 0, built.stdout
        objects.append((build / target).read_bytes())
    assert objects[0] == objects[1]
