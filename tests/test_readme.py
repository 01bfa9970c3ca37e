"""Runs every command of the README and the pages it leads to, in order, in a copy of the project with its own ports."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from archive.repository import ROOT
from scripts.torchserve.configuration import write_config
from tests.support.external import ExternalFiles

pytestmark = pytest.mark.server

README = ROOT / "README.md"
# Their commands are for a server that runs.
PAGES = [ROOT / "docs" / name for name in ("requests.md", "operations.md")]
THIS_TEST_SUITE = "make test"
BY_HAND = "torchserve --start"


def blocks(*languages: str, page: Path = README) -> list[tuple[str, str]]:
    """(language, text) of a page's fenced blocks in these languages, in order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [(language, text.strip()) for language, text in found if language in languages]


def left_out(folder: str, names: list[str]) -> set[str]:
    """What a copy must not have, and of build/ what other tests may be building meanwhile."""
    if Path(folder) == ROOT / "build":
        return set(names) - {"bin", "lib", "models", "samples", ".opserve_ops", ".worker"}
    here = {".git", ".venv", "model_store", "logs", "key_file.json", "__pycache__", ".pytest_cache", ".ruff_cache"}
    return here.intersection(names)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, external: ExternalFiles) -> Path:
    """The project as it stands, built; the environment is shared."""
    folder = tmp_path_factory.mktemp("readme") / "opserve"
    shutil.copytree(ROOT, folder, ignore=left_out, symlinks=True)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    shutil.copy(external.scripted, folder / "my.pt")
    shutil.copy(external.library, folder / "my.so")
    (yaml,) = (text for _, text in blocks("yaml") if text.startswith("# my.yaml"))
    (folder / "my.yaml").write_text(yaml)
    return folder


@pytest.mark.slow
def test_every_command_of_the_readme_and_its_pages(copy, tmp_path_factory):
    write_config(copy, metrics_config="metrics.yaml")  # as it ships: a path from the folder the server runs in
    ports = dict(
        re.findall(r"^(\w+)_address=http://127\.0\.0\.1:(\d+)$", (copy / "config.properties").read_text(), re.M)
    )
    script = ["set -euo pipefail", "trap 'make stop' EXIT"]
    promised: dict[Path, str] = {}
    for page in (README, *PAGES):
        if page != README:
            script.append("make stop start > started")
        output = None
        for number, (language, text) in enumerate(blocks("sh", "json", "python", "yaml", "text", page=page)):
            if language == "json" and output:
                promised[output] = text
            output = None
            # The one command that cannot run inside itself; that CI runs it is tested below.
            if language != "sh" or text == THIS_TEST_SUITE:
                continue
            commands = text.replace(":8080", f":{ports['inference']}").replace(":8081", f":{ports['management']}")
            commands = commands.replace(":8082", f":{ports['metrics']}")
            output = copy / f"output-{page.stem}-{number}"
            script.append(f"{{\n{commands}\n}} > {output}")
            if BY_HAND in text:
                script.append("until .venv/bin/python -m scripts.predict digits > predicted 2>&1; do sleep 0.5; done")
    # A TMPDIR of its own keeps a server started by hand apart from any other; a socket's path must be short.
    temporary = Path("/tmp") / f"readme-{os.getpid()}"
    temporary.mkdir(mode=0o700)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    try:
        done = subprocess.run(
            ["bash", "-c", "\n".join(script)],
            cwd=copy,
            env=environment | {"TMPDIR": str(temporary), "TEMP": str(temporary)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        said = "\n".join(f"--- {path.name}\n{path.read_text()}" for path in sorted(copy.glob("output-*")))
        assert done.returncode == 0, f"{said}\n{done.stdout}\n{done.stderr}"
        assert not list(temporary.glob(".ts.sock*")) and not (temporary / ".model_server.pid").exists()
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    assert "same" in (copy / "output-README-0").read_text()
    assert (copy / "model_store" / "mine.mar").is_file()
    assert len(promised) == 4
    for output, text in promised.items():
        check_answer(json.loads(output.read_text()), json.loads(text))


def check_answer(got: dict, want: dict) -> None:
    """What a page shows below a call is what the call printed."""
    if "probabilities" in want:
        # The digits of a probability are those of the machine that trained the model.
        assert got.keys() == want.keys() and got["label"] == want["label"]
    else:
        assert got == want


def test_ci_runs_the_readmes_test_command():
    assert ("sh", THIS_TEST_SUITE) in blocks("sh")
    assert THIS_TEST_SUITE in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_readme_names_only_what_exists():
    text = README.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
    known = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in set(re.findall(r"`?make ([a-z-]+)", text)):
        assert re.search(rf"^  {target}\s", known, re.MULTILINE), target


def test_the_chinese_readme_shows_the_same_commands_and_answers():
    languages = ("sh", "json", "yaml", "text", "python")
    assert blocks(*languages, page=ROOT / "README.zh.md") == blocks(*languages)
