"""The commands used with a running server: status, predict, scale, logs, tokens, and a second start."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from archive.repository import ROOT
from scripts.torchserve.tokens import KeyFile
from tests.support import archives
from tests.support.torchserve import TorchServe

pytestmark = pytest.mark.server
COMMANDS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py") if '__name__ == "__main__"' in path.read_text())


def test_status_shows_every_model_and_its_workers(running: TorchServe) -> None:
    shown = running.script("status")
    assert shown.returncode == 0, shown.stderr
    assert running.server.address("inference") in shown.stdout
    rows = {line.split()[0]: line.split() for line in shown.stdout.splitlines() if line}
    assert rows["echo"][1:4] == ["1.0", "1/1", "1"]
    assert rows["parts"][5] == "python"
    assert int(rows["parts"][6]) == running.describe("parts")["workers"][0]["pid"]


def test_a_second_start_says_so_and_disturbs_nothing(running: TorchServe) -> None:
    before = running.server.require_running().pid
    again = running.start("--predict")
    assert again.returncode == 0, again.stderr
    assert f"already running (pid {before})" in again.stdout
    assert '"doubled"' in again.stdout
    assert running.server.require_running().pid == before


def test_the_shipped_configuration_takes_effect(running: TorchServe) -> None:
    model = running.describe("echo")
    assert running.management("POST", "/models?url=http://127.0.0.1:1/x.mar").status_code == 405
    assert requests.get(f"{running.server.address('management')}/models", timeout=10).status_code == 400
    assert model["workers"][0]["gpu"] is False
    assert running.predict("echo", json={"values": [1]}).status_code == 200
    assert "ts_inference_requests_total{" in running.metrics().text
    logs = (running.home / "logs" / "ts_log.log").read_text()
    for line in ("Metrics mode: PROMETHEUS", "Model API enabled: false"):
        assert line in logs, line


@pytest.mark.parametrize("model", ["echo", "parts"])
def test_predict_prints_prediction_expected_and_a_curl_that_works(running: TorchServe, model: str) -> None:
    shown = running.script("predict", model)
    assert shown.returncode == 0, shown.stderr
    prediction, expected = (
        json.loads(re.search(rf"{word} +(.*)", shown.stdout)[1]) for word in ("prediction", "expected")
    )
    assert prediction == expected
    line = next(text for text in shown.stdout.splitlines() if text.lstrip().startswith("curl"))
    pasted = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(pasted.stdout) == expected


def test_predict_fails_when_the_answer_is_not_the_expected_one(running: TorchServe, tmp_path: Path) -> None:
    body = json.dumps({"values": [1]}).encode()
    store = tmp_path / "model_store"
    store.mkdir()
    archives.make(store, "echo", archives.ECHO, {"body.json": body}, {"doubled": [2.1]})
    shown = running.script("predict", "echo", "--model-store", str(store))
    assert shown.returncode == 1
    assert "DIFFERENT: answer.doubled[0] is 2, expected 2.1" in shown.stdout


def test_predict_takes_your_own_request(running: TorchServe, tmp_path: Path) -> None:
    request = tmp_path / "my request.json"
    request.write_text('{"values": [21]}')
    shown = running.script("predict", "echo", "--request", str(request))
    assert shown.returncode == 0, shown.stderr
    assert '{"doubled": [42]}' in shown.stdout


@pytest.mark.parametrize("script", [("scale", "eco", "2"), ("predict", "eco"), ("predict", "../models")])
def test_an_unknown_model_is_an_error_that_lists_the_served_ones(running: TorchServe, script: tuple[str, ...]) -> None:
    failed = running.script(*script)
    assert failed.returncode == 1
    assert (
        failed.stderr == f"error: no model '{script[1]}' is served; there are: echo, loads_once, loads_slowly, parts\n"
    )


def test_an_expired_token_is_renewed(running: TorchServe) -> None:
    first = running.script("tokens", "inference").stdout.strip()
    expires = KeyFile(running.server.key_file, lambda kind, key: None).read("inference")[1].timestamp()
    while time.time() < expires + 0.1:
        time.sleep(expires + 0.1 - time.time())
    url = f"{running.server.address('inference')}/predictions/echo"
    old = requests.post(url, json={"values": []}, headers={"Authorization": f"Bearer {first}"}, timeout=10)
    assert old.status_code == 400
    second = running.script("tokens", "inference").stdout.strip()
    new = requests.post(url, json={"values": []}, headers={"Authorization": f"Bearer {second}"}, timeout=10)
    assert second != first
    assert new.status_code == 200


def test_logs_shows_what_the_workers_wrote(running: TorchServe) -> None:
    shown = running.script("logs", "--lines", "1000")
    assert shown.returncode == 0
    assert "Torch worker started." in shown.stdout
    assert "model_log.log <==" in shown.stdout


def test_only_the_user_may_read_the_tokens_and_reach_the_sockets(running: TorchServe) -> None:
    assert running.server.key_file.stat().st_mode & 0o077 == 0
    assert running.server.temp.stat().st_mode & 0o077 == 0


def explains_itself(command: list[str], folder: Path) -> bool:
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, *command, "--help"], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.startswith("usage:")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    assert explains_itself(["-m", f"scripts.{name}"], ROOT)


def test_tokens_are_printed_in_any_folder(tmp_path: Path) -> None:
    assert explains_itself([str(ROOT / "scripts" / "tokens.py")], tmp_path)
