"""Hostile archives: checking one ends within limits, and says in one line which of them was exceeded."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from archive.errors import ArchiveError, OpserveError
from archive.packer.container import write_archive
from archive.packer.requirements import read_requirements
from archive.packer.verify import verify
from archive.process import limits
from archive.process.limits import Limits, call_limited
from archive.repository import ROOT
from handlers.codecs.safe_yaml import load_yaml
from scripts.torchserve.archives import read_archive
from tests.archive.packer.test_verify import rewrite_manifest
from tests.support import archives, hostile

SMALL = Limits(memory=256 << 20, processor=2, seconds=20)


@pytest.mark.parametrize(
    ("function", "bounds", "said"),
    [
        ("spin", SMALL, "refused: checking it takes more than 2 s of processor time"),
        ("wait", Limits(seconds=1), "refused: checking it takes more than 1 s"),
        ("hoard", SMALL, "refused: checking it takes more than 0.25 GiB of memory"),
        ("talk", Limits(), "refused: its sample is larger than 134,217,728 bytes"),
        ("complain", SMALL, "refused: checking it takes more than 2 s of processor time"),
        ("nest", SMALL, "refused: something in it is nested too deeply"),
    ],
)
def test_each_limit_is_reported_in_one_line(function: str, bounds: Limits, said: str) -> None:
    with pytest.raises(ArchiveError) as caught:
        call_limited(f"tests.support.hostile:{function}", limits=bounds)
    assert str(caught.value) == said


def test_the_process_ends_with_the_one_that_waits_for_it(tmp_path: Path) -> None:
    script = "from archive.process.limits import *; call_limited('tests.support.hostile:wait', limits=Limits())"
    for number in (signal.SIGTERM, signal.SIGKILL):
        waiting = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
        children = Path(f"/proc/{waiting.pid}/task/{waiting.pid}/children")
        deadline = time.monotonic() + 60
        while not (pids := children.read_text().split()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        waiting.send_signal(number)
        waiting.wait()
        while Path(f"/proc/{pids[0]}/cwd").exists():  # not that of a zombie
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("sections", [1, 60_000])
def test_versions_of_a_library_that_never_end_are_refused_at_once(tmp_path: Path, sections: int) -> None:
    library = tmp_path / "libloop.so"
    library.write_bytes(hostile.looping_versions(sections))
    used = time.process_time()
    with pytest.raises(
        ArchiveError, match=r"libloop\.so: not a shared library that can be read: its versions take more"
    ):
        read_requirements(library)
    # Each section of the file, and each entry that it has room for, is read once.
    assert time.process_time() - used < 20


@pytest.mark.parametrize(
    "content", [hostile.looping_versions(), hostile.endless_names()], ids=["looping_versions", "endless_names"]
)
def test_a_library_that_takes_forever_is_refused(changed, monkeypatch, content: bytes) -> None:
    monkeypatch.setattr(limits, "PROCESSOR_SECONDS", 3)

    def edit(files) -> None:
        files["libmine.so"] = content
        rewrite_manifest(files)

    with pytest.raises(ArchiveError, match=r"^changed.mar: (libmine.so: not a shared|refused: checking it takes more)"):
        verify(changed(edit), run=False)


YAML_BOMBS = {
    "aliases": hostile.aliases(),
    "merged_aliases": hostile.merged_aliases(),
    "alias_of_itself": hostile.alias_of_itself(),
    "nested": hostile.nested(),
    "nested lines": hostile.nested("- "),
    "large": b"a: [" + b"x, " * 200_000 + b"x]",
}


@pytest.mark.parametrize("content", YAML_BOMBS.values(), ids=YAML_BOMBS.keys())
def test_yaml_that_expands_to_too_much_is_refused(changed, tmp_path: Path, content: bytes) -> None:
    def edit(files) -> None:
        files["model-config.yaml"] = content
        rewrite_manifest(files)

    path = changed(edit)
    with pytest.raises(ArchiveError) as caught:
        verify(path, run=False)
    assert str(caught.value).startswith("changed.mar: ") and len(str(caught.value)) < 1000
    # `make start` reads it too, also from an archive of another packer.
    with pytest.raises(OpserveError, match="its sample cannot be read") as refused:
        read_archive(path)
    assert len(str(refused.value)) < 1000


def test_yaml_with_ordinary_aliases_is_read() -> None:
    read = load_yaml("a: &x {c: 1}\nb: *x\nd: {<<: *x, e: 2}")
    assert read == {"a": {"c": 1}, "b": {"c": 1}, "d": {"c": 1, "e": 2}}


def test_an_archive_that_takes_too_much_memory_is_refused_by_start_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "of_file", lambda path: SMALL)
    made = archives.make(tmp_path, "echo", archives.ECHO, {"body.json": b"{}"}, {})
    with zipfile.ZipFile(made) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    files["sample/answer.json"] = b"[" + b"{}," * 5_000_000 + b"{}]"
    write_archive(tmp_path / "many.mar", files)
    with pytest.raises(OpserveError, match=r"^many.mar: refused: checking it takes more than 0.25 GiB of memory; "):
        read_archive(tmp_path / "many.mar")


@pytest.mark.parametrize("name", ["../../x", "a\nb", "a/b", "..", "", "x" * 300, "ä", 7, None, ["x"]])
def test_a_model_with_a_name_that_could_be_a_path_is_refused(tmp_path: Path, name: object) -> None:
    for key in ("modelName", "modelVersion"):
        model = {"modelName": "fine", "modelVersion": "1.0", "handler": "h.py"} | {key: name}
        path = tmp_path / "named.mar"
        path.unlink(missing_ok=True)
        write_archive(path, {"MAR-INF/MANIFEST.json": json.dumps({"model": model}).encode(), "h.py": b""})
        with pytest.raises(OpserveError, match=r"^named.mar: its MANIFEST.json does not name a model and handler "):
            read_archive(path)


def test_a_file_name_that_torchserve_misreads_is_refused(tmp_path: Path) -> None:
    for name in ("a=b.mar", "a,b.mar", "a\nb.mar", "http:x.mar"):
        write_archive(tmp_path / name, {"MAR-INF/MANIFEST.json": b"{}"})
        with pytest.raises(OpserveError, match="TorchServe would take this file name for something else"):
            read_archive(tmp_path / name)


def test_something_that_is_not_a_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mar")
    (tmp_path / "link.mar").symlink_to(tmp_path / "pipe.mar")
    (tmp_path / "endless.mar").symlink_to("/dev/zero")
    (tmp_path / "folder.mar").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.mar"))
        for path in sorted(tmp_path.glob("*.mar")):
            with pytest.raises(ArchiveError, match=f"^{path.name}: not a file$"):
                verify(path)
            with pytest.raises(OpserveError, match=f"^{path.name}: not a file; "):
                read_archive(path)
