"""The handler's metrics on the page that Prometheus reads, next to TorchServe's own."""

import hashlib
import re
import time

import pytest
import requests

from archive.repository import BUILD, ROOT
from handlers.metrics import METRICS
from tests.support.runtimes import packed_for
from tests.support.torchserve import TIMEOUT_S, TorchServe

pytestmark = pytest.mark.server

LINE = re.compile(r"^(\w+)\{(.*)\} (\S+)$", re.MULTILINE)


def page(server: TorchServe, model: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Returns the series of a model, or of none: metric name -> (labels, value) of each."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for name, text, value in LINE.findall(server.metrics().text):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', text))
        if labels.get("model_name", model) == model:
            found.setdefault(name, []).append((labels, float(value)))
    return found


def total(server: TorchServe, name: str, **labels: str) -> float:
    """The sum of the series of `digits` that have these labels."""
    series = page(server, "digits").get(name, [])
    return sum(value for each, value in series if each.items() >= labels.items())


def wait_for_total(server: TorchServe, expected: float, name: str, **labels: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while (got := total(server, name, **labels)) != expected:
        assert time.monotonic() < deadline, f"{name} {labels} is {got}, not {expected}"
        time.sleep(0.1)


def wait_for_handler(server: TorchServe) -> None:
    """Waits until the handler has reported every request that the server handed over."""
    wait_for_total(server, total(server, "ts_inference_requests_total"), "opserve_requests_total")


def test_good_and_bad_requests_are_counted(digits, sample):
    wait_for_handler(digits)
    names = [name for name, kind in METRICS.items() if kind.type == "counter" and not kind.labels]
    before = {name: total(digits, name) for name in names}
    rejected = {
        (code, field): total(digits, "opserve_rejected_requests_total", code=code, field=field)
        for code, field in (("400", "corners"), ("406", "none"), ("400", "none"))
    }
    for _ in range(3):
        assert digits.predict("digits", files=sample.form()).status_code == 200
    for _ in range(2):
        assert digits.predict("digits", files=sample.form(corners=b"[]")).status_code == 400
    assert digits.predict("digits", files=sample.form(), headers={"Accept": "text/html"}).status_code == 406
    assert digits.predict("digits", files=sample.form(mine=b"1")).status_code == 400
    wait_for_total(digits, before["opserve_requests_total"] + 7, "opserve_requests_total", model_version="1.0")
    for (code, field), more in zip(rejected, (2, 1, 1), strict=True):
        wait_for_total(digits, rejected[code, field] + more, "opserve_rejected_requests_total", code=code, field=field)
    wait_for_total(digits, before["opserve_batches_total"] + 7, "opserve_batches_total")
    wait_for_total(digits, before["opserve_model_calls_total"] + 3, "opserve_model_calls_total")
    for name in names:
        assert total(digits, name) > before[name], name
    assert total(digits, "opserve_inference_seconds_total") - before["opserve_inference_seconds_total"] < TIMEOUT_S


def test_the_served_model_is_described(digits):
    series = page(digits, "digits")
    ((labels, value),) = series["opserve_model_info"]
    assert value == 1
    assert (labels["artifact"], labels["format"], labels["device"]) == ("digits.pt", "TorchScript", "cpu")
    assert labels["runtime"].startswith("PyTorch 2.") and labels["model_version"] == "1.0"
    ((labels, value),) = series["opserve_op_library_info"]
    library = BUILD / "lib" / "libopserve_torch.so"
    assert (labels["library"], value) == (library.name, 1)
    assert labels["sha256"] == hashlib.sha256(library.read_bytes()).hexdigest()


def test_torchserves_own_metrics_stay(digits, sample):
    digits.predict("digits", files=sample.form())
    deadline = time.monotonic() + TIMEOUT_S
    own = {"ts_inference_requests_total", "ts_queue_latency_microseconds", "Requests2XX"}
    # The machine's metrics are collected once a minute, and first when the server starts.
    own |= {"WorkerLoadTime", "PredictionTime", "HandlerTime", "QueueTime", "WorkerThreadTime", "MemoryUsed"}
    while missing := own - page(digits, "digits").keys():
        assert time.monotonic() < deadline, missing
        time.sleep(0.1)


@pytest.mark.parametrize("runtime", ["python"], indirect=True)
def test_the_page_needs_no_token(digits):
    """TorchServe does not ask for one: one more reason to listen on loopback only."""
    answer = requests.get(f"{digits.server.address('metrics')}/metrics", timeout=30)
    assert answer.status_code == 200 and "opserve_model_info{" in answer.text


def test_a_variable_turns_the_handlers_metrics_off(serve, runtime, tmp_path, monkeypatch):
    monkeypatch.setenv("OPSERVE_METRICS", "off")
    archive = packed_for(ROOT / "model_store" / "scaled_add.mar", runtime, tmp_path)
    quiet = serve([archive], job_queue_size="99")  # not shared with other tests
    assert quiet.predict("scaled_add", json={"x": [1], "y": [1]}).json() == {"z": [3]}
    assert "ts_inference_requests_total{" in quiet.metrics().text
    for name in ("opserve_requests_total", "PredictionTime", "HandlerTime"):
        assert f"{name}{{" not in quiet.metrics().text
