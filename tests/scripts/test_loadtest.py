"""`make loadtest`: the results of its generators, the settings it refuses, and a real server under load."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from archive.errors import OpserveError
from archive.repository import ROOT
from benchmarks.common import workloads
from benchmarks.serving.servers import PeerServer, Running
from scripts.load import rate, wrk
from scripts.load.result import Load, percentiles
from scripts.load.settings import LoadSettings
from tests.support.torchserve import Serve

SERVER = ROOT / "tests" / "benchmarks" / "tiny_server.py"
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed (apt install wrk)")
WRK_RESULT = {
    "requests": 1000,
    "duration_us": 2_000_000,
    "bytes": 1,
    "connect": 0,
    "read": 2,
    "write": 0,
    "timeout": 0,
    "status": 30,
    "latency_us": list(range(1001)),
    "codes": {},
}


@pytest.fixture
def half_refused(tmp_path: Path) -> Iterator[Running]:
    """A server that refuses every second request."""
    server = PeerServer(name="tiny", command=lambda python, port: [str(python), str(SERVER), "2", "2"])
    with server.launch(["scaled_add"], tmp_path, Path(sys.executable), tmp_path) as running:
        running.wait_ready(workloads.tiny())
        yield running


def parse(cpu: float = 0.0, threads: int = 1, **changes: object) -> Load:
    return wrk.parse(json.dumps(WRK_RESULT | changes), cpu, threads)


def test_the_result_of_wrk_is_parsed() -> None:
    load = parse(cpu=0.5)
    assert (load.requests, load.seconds, load.rate) == (1000, 2.0, 485.0)
    assert load.errors == {"read": 2, "status": 30} and load.failed == 32
    assert (load.percentile_ms(50), load.percentile_ms(99), load.percentile_ms(100)) == (0.5, 0.99, 1.0)
    assert (load.generator_cpu, load.generator_limited) == (0.25, False)


def test_errors_are_counted_by_status_if_it_is_known() -> None:
    load = parse(codes={"200": 970, "503": 20, "400": 10})
    assert load.errors == {"read": 2, "503": 20, "400": 10}
    assert load.rate == 485.0


def test_a_busy_generator_is_the_limit() -> None:
    assert parse(cpu=1.9).generator_limited
    assert not parse(cpu=1.9, threads=2).generator_limited


def test_no_answer_at_all_has_no_latency() -> None:
    load = parse(requests=0, status=0, connect=8)
    assert load.rate == 0 and load.latency_us == [] and load.errors == {"read": 2, "connect": 8}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"requests": "many"}', json.dumps(WRK_RESULT | {"codes": 3})])
def test_anything_else_is_not_a_measurement(text: str) -> None:
    with pytest.raises(OpserveError, match=r"^wrk did not report a measurement"):
        wrk.parse(text, 0.0, 1)


def test_percentiles_of_single_latencies() -> None:
    found = percentiles([5.0, 1.0, 3.0, 2.0, 4.0])
    assert len(found) == 1001
    assert (found[0], found[500], found[999], found[1000]) == (1.0, 3.0, 5.0, 5.0)
    assert percentiles([]) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("none", "", ""), "CONNECTIONS is 'none'; it must be a whole number from 1 to 10000"),
        (("0", "", ""), "CONNECTIONS is '0'"),
        (("", "2.5", ""), "SECONDS is '2.5'; it must be a whole number from 1 to 3000"),
        (("", "", "fast"), "RATE is 'fast'; it must be a number from 0.1 to 1e+06"),
        (("", "", "nan"), "RATE is 'nan'"),
    ],
)
def test_a_setting_that_is_not_a_number_is_an_error(settings: tuple[str, str, str], message: str) -> None:
    with pytest.raises(OpserveError) as error:
        LoadSettings.parse(*settings)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["loadtest"], "make loadtest needs MODEL, for example: make loadtest MODEL=digits"),
        (["loadtest", "MODEL=digits", "CONECTIONS=8"], "no such setting: CONECTIONS"),
        (["bench-serving", "QUIK=1"], "no such setting: QUIK"),
    ],
)
def test_a_mistyped_setting_of_make_is_an_error(words: list[str], message: str) -> None:
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and message in done.stderr


def test_a_missing_wrk_is_an_error_that_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(OpserveError, match="apt install wrk"):
        wrk.require()


@needs_wrk
def test_wrk_counts_refusals_by_status(half_refused: Running) -> None:
    payload = workloads.tiny().payload()
    load = wrk.load(half_refused.url(workloads.tiny()), payload.body, payload.headers, 2, 1, codes=True)
    assert load.errors.keys() == {"503"}
    assert abs(load.errors["503"] - load.requests / 2) <= 2
    assert load.generator_cpu > 0


@needs_wrk
def test_wrk_that_cannot_connect_is_an_error() -> None:
    with pytest.raises(OpserveError, match="wrk ended with status 1: unable to connect"):
        wrk.load("http://127.0.0.1:1/x", b"{}", {}, 1, 1)


def test_a_rate_is_kept_and_errors_are_counted(half_refused: Running) -> None:
    payload = workloads.tiny().payload()
    url = half_refused.url(workloads.tiny())
    load, samples = rate.load(url, payload.body, payload.headers, 40, 4, 0.5)
    assert load.requests == 20 and load.errors == {"503": 10}
    assert len(samples) == 10 and len(load.latency_us) == 1001
    assert {round(due * 40) for due, _ in samples} <= set(range(20))


@pytest.mark.server
def test_the_sample_of_a_served_model_is_sent(serve: Serve, tmp_path: Path) -> None:
    server = serve([ROOT / "model_store" / "scaled_add.mar"])
    done = server.script("loadtest", "scaled_add", "--seconds", "1", "--rate", "30", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "errors      none" in done.stdout and "requests    30 answered" in done.stdout
    assert json.loads((tmp_path / "scaled_add.json").read_text())["requests"] == 30
    assert (tmp_path / "scaled_add.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.server
@needs_wrk
def test_the_sample_is_sent_by_wrk_with_the_token(serve: Serve, tmp_path: Path) -> None:
    server = serve([ROOT / "model_store" / "scaled_add.mar"])
    done = server.script("loadtest", "scaled_add", "--seconds", "1", "--connections", "2", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "errors      none" in done.stdout
    missing = server.script("loadtest", "nobody")
    assert missing.returncode == 1 and "no model 'nobody' is served" in missing.stderr
