"""`python -m archive.verify`: what it accepts, what it refuses, and that it does not execute the archive's code."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import pytest
import yaml

from archive.errors import ArchiveError
from archive.packer.container import write_archive
from archive.packer.contents import ArchiveContents
from archive.packer.pack import pack
from archive.packer.verify import verify
from archive.repository import ROOT
from handlers.integrity.manifest import MANIFEST_FILE, FileRecord, Manifest
from tests.support.packed import Files, with_requirements

MANIFEST = "MAR-INF/MANIFEST.json"


def refusal(path: Path, *, run: bool = False) -> str:
    with pytest.raises(ArchiveError) as caught:
        verify(path, run=run)
    message = str(caught.value)
    assert message.startswith(f"{path.name}: ") and "\n" not in message
    return message.removeprefix(f"{path.name}: ")


def rewrite_manifest(files: Files) -> None:
    """Makes the manifest fit files that were changed, as an attacker who knows the format would."""
    manifest = Manifest.decode(files[MANIFEST_FILE])
    records = {
        name: FileRecord(hashlib.sha256(content).hexdigest(), len(content))
        for name, content in files.items()
        if name != MANIFEST_FILE
    }
    libraries = {name: library for name, library in manifest.libraries.items() if name in records}
    files[MANIFEST_FILE] = Manifest(manifest.name, manifest.version, records, libraries).encode()


def run_cli(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "archive.verify", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | environment, timeout=300
    )


def test_a_good_archive_is_accepted_and_described(packed):
    done = run_cli(packed)
    assert (done.returncode, done.stderr) == (0, "")
    first, needs, last = done.stdout.splitlines()
    assert first.startswith("mine 1.0, runtime ") and f"{packed.stat().st_size:,} bytes, sha256 " in first
    assert needs.startswith("  libmine.so needs x86_64, ") and "GLIBC " in needs
    assert "answers its sample as expected" in last


def test_an_archive_is_described_without_a_check(packed, tmp_path):
    def describe(*archives: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "archive.describe", *map(str, archives)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    said = describe(packed).stdout.splitlines()
    assert said[0].startswith("mine 1.0, runtime ") and said[0].endswith(
        hashlib.sha256(packed.read_bytes()).hexdigest()
    )
    assert said[1].startswith("  libmine.so needs x86_64, ") and len(said) == 2
    junk = tmp_path / "junk.mar"
    junk.write_bytes(b"junk")
    failed = describe(packed, junk)
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert failed.stderr.startswith(f"error: {junk}: not a readable archive")


def test_a_bad_one_is_one_line_and_exit_status_1(changed):
    path = changed(lambda files: files.pop("libmine.so"))
    done = run_cli(path, "--no-run")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: changed.mar: libmine.so: missing from the archive\n"


def test_a_flipped_byte_is_named(changed):
    def flip(files: Files) -> None:
        content = bytearray(files["libmine.so"])
        content[len(content) // 2] ^= 1
        files["libmine.so"] = bytes(content)

    assert refusal(changed(flip)).startswith("libmine.so: damaged or changed: its sha256 is ")


def test_any_flipped_bit_of_the_file_is_refused(packed, tmp_path):
    content = packed.read_bytes()
    generator = random.Random(11)
    path = tmp_path / "damaged.mar"
    for _ in range(150):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        refusal(path)


def test_an_extra_file_is_named(changed):
    said = refusal(changed(lambda files: files.update({"json.py": b""})))
    assert said == "json.py: not a file of this archive; opserve.json does not list it"


def test_the_same_files_in_another_zip_are_refused(packed, tmp_path):
    """Anything that the packer does not write might be read in two ways, so it is not examined any further."""
    path = tmp_path / "again.mar"
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert refusal(path).startswith("not stored as the packer stores files")


def test_an_archive_of_another_packer_is_refused(tmp_path):
    write_archive(tmp_path / "other.mar", {MANIFEST: b"{}", "handler.py": b""})
    assert refusal(tmp_path / "other.mar") == "opserve.json: missing from the archive; it was not packed by opserve"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"modelName": "other"}, "says other 1.0, but opserve.json mine 1.0"),
        ({"modelVersion": "9"}, "says mine 9, but opserve.json mine 1.0"),
        ({"handler": "gone_handler.py"}, "the handler 'gone_handler.py' is not a file of the archive"),
        ({"handler": "image_classifier"}, "the handler 'image_classifier' is not a file of the archive"),
        ({"handler": "../../evil_handler.py"}, "is not a file of the archive"),
        ({"handler": "/tmp:handle"}, "is not a file of the archive"),
        ({"handler": "handlers/model.py"}, "is not a file of the archive"),
        ({"handler": "model-config.yaml"}, "not written by opserve's packer: handler 'model-config.yaml'"),
        ({"handler": ["torchscript_handler.py"]}, "is not a file of the archive"),
        ({"serializedFile": "gone.pt"}, "the serializedFile 'gone.pt' is not a file"),
        ({"configFile": "opserve.json"}, "the configFile 'opserve.json' is not a file"),
        ({"configFile": "libmine.so"}, "not written by opserve's packer"),
        ({"requirementsFile": "branching.pt"}, "not written by opserve's packer: the key requirementsFile"),
        ({"envelope": "body"}, "not written by opserve's packer: the key envelope"),
    ],
)
def test_a_manifest_that_the_packer_does_not_write_is_refused(changed, change, said):
    def edit(files: Files) -> None:
        manifest = json.loads(files[MANIFEST])
        manifest["model"] |= change
        files[MANIFEST] = json.dumps(manifest).encode()
        rewrite_manifest(files)

    message = refusal(changed(edit))
    assert message.startswith(f"{MANIFEST}: ") and said in message


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"model": []}', b"[" * 100_000, b'{"model": {}}'])
def test_something_that_is_not_a_manifest_is_refused(changed, content):
    def edit(files: Files) -> None:
        files[MANIFEST] = content
        rewrite_manifest(files)

    assert refusal(changed(edit)).startswith(f"{MANIFEST}: not written by opserve's packer")


@pytest.mark.parametrize("runtime", ["python3", "native", "", None, ["LSP"]])
def test_another_runtime_is_refused(changed, runtime):
    def edit(files: Files) -> None:
        files[MANIFEST] = json.dumps(json.loads(files[MANIFEST]) | {"runtime": runtime}).encode()
        rewrite_manifest(files)

    assert f"the runtime {runtime!r}" in refusal(changed(edit))


def for_runtime(files: Files, runtime: str) -> None:
    files[MANIFEST] = json.dumps(json.loads(files[MANIFEST]) | {"runtime": runtime}).encode()


def test_a_configuration_for_the_worker_that_says_something_else_is_refused(changed):
    def edit(files: Files) -> None:
        section = json.loads(files["model-config.json"]) | {"max_json_bytes": 7}
        files["model-config.json"] = json.dumps(section, indent=2).encode() + b"\n"
        rewrite_manifest(files)

    assert refusal(changed(edit)) == "model-config.json: differs from model-config.yaml; pack the archive again"


def test_an_archive_of_an_earlier_packer_has_no_configuration_for_the_native_worker(changed):
    def edit(files: Files) -> None:
        del files["model-config.json"]
        for_runtime(files, "python")
        rewrite_manifest(files)

    verify(changed(edit))

    def edit_for_native(files: Files) -> None:
        edit(files)
        for_runtime(files, "LSP")
        rewrite_manifest(files)

    said = refusal(changed(edit_for_native))
    assert said == "model-config.json: missing from the archive, which is for the native worker"


def test_an_archive_without_a_manifest_is_refused(changed):
    def edit(files: Files) -> None:
        del files[MANIFEST]
        rewrite_manifest(files)

    assert refusal(changed(edit)) == f"{MANIFEST}: missing from the archive"


def test_a_configuration_that_names_other_files_is_refused(changed):
    def edit(files: Files) -> None:
        document = yaml.safe_load(files["model-config.yaml"])
        document["opserve"]["op_libraries"] = ["libother.so"]
        files["model-config.yaml"] = yaml.safe_dump(document).encode()
        rewrite_manifest(files)

    assert refusal(changed(edit)) == "libother.so: named in model-config.yaml, but not a file of the archive"


def test_requirements_that_are_not_those_of_the_library_are_refused(changed):
    """They cannot be edited to make a library fit."""

    def edit(files: Files) -> None:
        files[MANIFEST_FILE] = with_requirements(files[MANIFEST_FILE], symbols={"GLIBC": "2.0"})

    assert refusal(changed(edit)).startswith(
        "opserve.json: says symbols {'GLIBC': '2.0'} of libmine.so; the file itself"
    )


def test_a_library_that_the_manifest_does_not_list_is_refused(changed):
    def edit(files: Files) -> None:
        files["sample/hidden.bin"] = files["libmine.so"]
        rewrite_manifest(files)

    assert refusal(changed(edit)).startswith("opserve.json: does not list sample/hidden.bin as a library")


def test_a_bomb_within_the_artifact_is_refused(changed, tmp_path):
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/0", bytes(100 << 20))

    def edit(files: Files) -> None:
        files["branching.pt"] = bomb.read_bytes()
        rewrite_manifest(files)

    said = refusal(changed(edit))
    assert said.startswith("branching.pt: unpacks from ") and said.endswith(": a bomb")


# Stands in for the native worker: prints an answer, or fails as the real one does.
WORKER = """#!/bin/sh
[ "$1" = --selfcheck ] && [ -f "$2/model-config.json" ] && [ "$3" = --print ] || exit 9
{}
"""


@pytest.fixture
def for_native(changed, monkeypatch, tmp_path):
    """`for_native(script)` is an archive for the native worker, in whose place that shell script runs."""

    def make(script: str) -> Path:
        program = tmp_path / "worker"
        program.write_text(WORKER.format(script))
        program.chmod(0o755)
        monkeypatch.setattr("archive.packer.trial.find_worker", lambda: program)

        def edit(files: Files) -> None:
            for_runtime(files, "LSP")
            rewrite_manifest(files)

        return changed(edit)

    return make


def test_the_worker_that_will_serve_must_give_the_same_answer(for_native):
    verify(for_native("cat sample/answer.json"))
    said = refusal(for_native("sed s/1/2/g sample/answer.json"), run=True)
    assert said.startswith("the native worker gives the sample request another answer than Python: answer.y[0] is ")
    said = refusal(for_native("echo '{\"z\": 1}'"), run=True)
    assert said.endswith("answer has the keys ['z'], expected ['y']")
    assert refusal(for_native("echo hello"), run=True).startswith("the answer to the sample request cannot be read: ")
    said = refusal(for_native("echo 'error: libmine.so: it does not fit' >&2; exit 1"), run=True)
    assert said == "the native worker fails: libmine.so: it does not fit; RUNTIME=python packs it for Python"
    assert "was ended by SIGSEGV while it loaded" in refusal(for_native("kill -SEGV $$"), run=True)


def test_without_the_native_worker_its_archives_are_refused_only_where_they_are_run(for_native, monkeypatch):
    path = for_native("")
    monkeypatch.setattr("archive.packer.trial.find_worker", lambda: None)
    verify(path, run=False)
    assert refusal(path, run=True).startswith(
        "it is for the native worker, which is not built here; `make ext` builds it"
    )


def test_an_unsuitable_machine_matters_only_where_the_archive_is_run(changed):
    """The PyTorch that an external library was tried with is not in its file, so it can be edited here."""

    def edit(files: Files) -> None:
        files[MANIFEST_FILE] = with_requirements(files[MANIFEST_FILE], torch_exactly="1.13")

    path = changed(edit)
    verify(path, run=False)
    assert refusal(path, run=True).startswith("libmine.so: built for PyTorch 1.13 and no other")


def test_a_wrong_answer_is_refused(changed):
    def edit(files: Files) -> None:
        files["sample/answer.json"] = b'{"y": [1, 2]}'
        rewrite_manifest(files)

    path = changed(edit)
    verify(path, run=False)
    assert refusal(path, run=True).startswith("the sample request gets a wrong answer: answer.y[0] is ")


def test_the_archives_own_code_is_not_used_to_check_it(changed, tmp_path):
    """Its handlers, and modules that would shadow those of Python, are not imported; its folder is not written to."""
    proof = tmp_path / "executed"
    evil = f"open({str(proof)!r}, 'w').close()\n".encode()

    def edit(files: Files) -> None:
        for name in list(files):
            if name.endswith(".py"):
                files[name] = evil
        files |= {"json.py": evil, "encodings/__init__.py": evil, "sitecustomize.py": evil, "torch.py": evil}
        rewrite_manifest(files)

    path = changed(edit)
    around = sorted(tmp_path.rglob("*"))
    verify(path)
    assert not proof.exists()
    assert sorted(tmp_path.rglob("*")) == around


def test_nothing_is_left_in_the_temporary_folder(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    verify(packed, run=False)
    broken = tmp_path / "broken.mar"
    shutil.copy(packed, broken)
    broken.write_bytes(broken.read_bytes()[:-30])
    refusal(broken)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.mar"]


def test_the_check_at_the_start_of_a_server_is_fast(packed):
    """In a fresh process, imports included; every check is made except those that unpack or run something."""
    script = (
        "import sys; from pathlib import Path; from scripts.torchserve.archives import read_archive; "
        "print(read_archive(Path(sys.argv[1])).model)"
    )
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script, packed], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "mine\n"
    assert time.monotonic() - begun < 5  # 0.3 on an idle machine


def test_a_shipped_model_is_accepted(tmp_path):
    path, manifest = pack(ArchiveContents.from_model("digits"), tmp_path)
    assert verify(path) == manifest
    assert manifest.libraries["libopserve_torch.so"].torch_stable_abi == "2.10"
