"""The harness of the serving benchmark: who is refused, what is left running, and what it says of the goals."""

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy
import pytest

from archive.repository import ROOT
from benchmarks.payloads import oip_binary, shared_region
from benchmarks.serving import (
    answers,
    environments,
    frontend_limit,
    goals,
    limit,
    profile,
    profiles_plot,
    report,
    rounds,
    servers,
    torchserves,
    workloads,
)
from benchmarks.serving.answers import WrongAnswer
from benchmarks.serving.goals import DIGITS, GRAPH_JSON, GRAPH_NPZ, GRAPH_SHARED, LATENCY, THROUGHPUT, TINY
from benchmarks.serving.processes import Processes
from benchmarks.serving.rounds import Cell, Findings, Plan
from benchmarks.serving.servers import PEER_SERVERS, PeerServer, Running, ServerFailed, msgpack_map
from benchmarks.serving.torchserves import STOCK
from benchmarks.serving.workloads import Workload
from handlers.codecs.oip import JSON_LENGTH_HEADER

SERVER = Path(__file__).with_name("tiny_server.py")
PYTHONS = {environments.COMMON: Path(sys.executable)}
ONCE = Plan([[workloads.tiny()]], {"": (2,)}, 1, 1)
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed (apt install wrk)")


def tiny_server(*arguments: str, name: str = "tiny") -> PeerServer:
    return PeerServer(name=name, command=lambda python, port: [str(python), str(SERVER), *arguments])


class Watched(PeerServer):
    """Remembers what it started, and in which folders."""

    started: list[Running] = []  # noqa: RUF012  one list for all is meant
    folder: list[Path] = []  # noqa: RUF012

    def launch(self, *arguments: object) -> Running:
        running = super().launch(*arguments)
        self.started.append(running)
        self.folder.append(arguments[-1])
        return running


def watched(*arguments: str) -> Watched:
    Watched.started.clear()
    Watched.folder.clear()
    return Watched(name="tiny", command=tiny_server(*arguments).command)


def run(*servers: PeerServer, plan: Plan = ONCE, say=lambda line: None) -> Findings:
    return rounds.run(plan, servers, Path(), PYTHONS, say)


def cell(server: str, workload: str, connections: int, rate: float, **changes: object) -> Cell:
    common = Cell(
        server=server,
        workload=workload,
        operator="opserve",
        connections=connections,
        rate=rate,
        p50_ms=1.0,
        p99_ms=2.0,
        requests=1000,
        errors=0,
        cpu_ms=0.5,
        memory=2**20,
        generator_cpu=0.1,
        generator_limited=False,
    )
    return replace(common, **changes)


def verdicts(*cells: Cell, **changes: dict) -> dict[tuple[str, str], tuple[str, str]]:
    """(work, goal) -> (verdict, measured)."""
    findings = replace(Findings(list(cells), {}, {}, {}, {}), **changes)
    return {(v.work, v.goal): (v.verdict, v.measured) for v in goals.verdicts(findings)}


# -- before anything is timed


def test_a_server_that_answers_wrongly_is_refused_before_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(rounds.loadtest_wrk, "load", lambda *arguments: asked.append(arguments))
    server = watched("2.001")
    findings = run(server)
    assert findings.failures == {"tiny": "scaled_add json: z is not the expected one"}
    assert findings.cells == [] and asked == []
    assert Watched.started[0].processes.find() == []


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (503, b"busy", "answered 503: busy"),
        (200, b"[1, 2]", "not an answer"),
        (200, b"<html>", "not an answer"),
        (200, b'{"y": [2.5, 4.25, 0]}', "answered ['y'], expected ['z']"),
        (200, b'{"z": [2.5, 4.25]}', "z has the shape (2,), expected (3,)"),
        (200, b'{"z": [2.5, 4.25, 0.01]}', "z is not the expected one"),
    ],
)
def test_an_answer_that_is_not_the_right_one_is_none(status: int, body: bytes, said: str) -> None:
    with pytest.raises(WrongAnswer) as error:
        answers.check(workloads.tiny(), status, body, {})
    assert said in str(error.value)


@pytest.mark.parametrize("kind", ["json", "oip", "npz"])
def test_an_answer_is_read_as_it_was_sent(kind: str) -> None:
    outputs = {"label": numpy.array([3, 1], "int64"), "probabilities": numpy.array([[0.25, 0.75]], "float32")}
    body = workloads.ENCODERS[kind](outputs).body.replace(b'"inputs"', b'"outputs"')
    answers.check(Workload("graph_op", kind, {}, outputs), 200, body, {})


def test_binary_tensors_follow_the_json() -> None:
    outputs = {"label": numpy.array([3, 1], "int64"), "x": numpy.array([[0.25], [0.75]], "float32")}
    payload = oip_binary(outputs)
    length = int(payload.headers[JSON_LENGTH_HEADER])
    head = payload.body[:length].replace(b'"inputs"', b'"outputs"')
    headers = {JSON_LENGTH_HEADER: str(len(head))}
    answers.check(Workload("graph_op", "npz", {}, outputs), 200, head + payload.body[length:], headers)


def test_msgpack_is_what_the_format_says() -> None:
    # The format's own examples: fixmap, fixstr, bin 32, array 16, float 64.
    packed = msgpack_map({"image": b"PN", "corners": numpy.array([[1.5]], "float32")})
    assert packed == (
        b"\x82\xa5image\xc6\x00\x00\x00\x02PN\xa7corners\xdc\x00\x01\xdc\x00\x01\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"
    )


def test_the_limit_in_one_process_is_that_of_right_answers(tmp_path: Path) -> None:
    sent = [workloads.tiny(), workloads.digits()]
    found = list(limit.rates(ROOT / "model_store", sent, tmp_path / "unpacked", 0.01))
    assert [(each.name, rate > 0) for each, rate in found] == [(TINY, True), (DIGITS, True)]
    wrong = replace(workloads.tiny(), outputs={"z": numpy.zeros(3, "float32")})
    with pytest.raises(WrongAnswer):
        list(limit.rates(ROOT / "model_store", [wrong], tmp_path / "wrong", 0.01))


def test_an_answer_in_shared_memory_is_what_was_written_there() -> None:
    inputs, outputs = {"x": numpy.arange(4, dtype="float32")}, {"label": numpy.array([3, 1], "int64")}
    with shared_region(4096) as region:
        sent = Workload("graph_op", workloads.SHARED_MEMORY, inputs, outputs, region=region)
        document = json.loads(sent.payload().body)
        numpy.testing.assert_array_equal(numpy.frombuffer(region.buf[:16], "float32"), inputs["x"])
        (output,) = document["outputs"]
        answer = json.dumps({"outputs": [output | {"datatype": "INT64", "shape": [2]}]}).encode()
        with pytest.raises(WrongAnswer, match="label is not the expected one"):
            answers.check(sent, 200, answer, {})
        start = output["parameters"]["shared_memory_offset"]
        region.buf[start : start + 16] = outputs["label"].tobytes()
        answers.check(sent, 200, answer, {})
        sent.payload()  # wipes the answer before it
        with pytest.raises(WrongAnswer, match="label is not the expected one"):
            answers.check(sent, 200, answer, {})
    with pytest.raises(WrongAnswer, match="No such file"):
        answers.check(sent, 200, answer, {})


# -- what is left running


def test_a_server_and_what_it_detached_are_ended_when_the_run_is_interrupted() -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(*arguments: object) -> None:
        assert len(Watched.started[0].processes.find()) == 2  # the server, and the child that left its session
        raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "measure", interrupt)
        with pytest.raises(Interrupted):
            run(watched("2"))
    assert Watched.started[0].processes.find() == []
    assert not Watched.folder[0].exists()


def test_a_server_that_ends_while_it_starts_says_why_and_the_next_one_has_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounds, "measure", lambda running, *arguments: cell(running.server.name, TINY, 2, 1.0))
    findings = run(tiny_server("two", name="broken"), tiny_server("2"))
    assert "could not convert string to float: 'two'" in findings.failures["broken"]
    assert [each.server for each in findings.cells] == ["tiny"]


def test_an_environment_that_was_not_made_is_a_failure_of_its_servers() -> None:
    findings = rounds.run(ONCE, [tiny_server("2")], Path(), {}, lambda line: None)
    assert findings.failures == {"tiny": "its environment was not made"}


def test_only_processes_with_the_mark_are_a_servers(tmp_path: Path) -> None:
    ours, theirs = Processes(), Processes()
    sleeping = [sys.executable, "-c", "import signal; signal.pause()"]
    started = [processes.spawn(sleeping, tmp_path, tmp_path / "log", {}) for processes in (ours, theirs)]
    try:
        assert [process.pid for process in ours.find()] == [started[0].pid]
        assert ours.memory() > 2**20 and ours.memory(without=[started[0].pid]) == 0
        ours.end()
        assert ours.find() == [] and len(theirs.find()) == 1
    finally:
        ours.end()
        theirs.end()
        for process in started:
            process.wait()


# -- who is measured when


def test_the_order_is_reversed_from_round_to_round_and_rounds_become_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    order = []

    def measure(running: Running, *arguments: object) -> Cell:
        order.append(running.server.name)
        return cell(running.server.name, TINY, 2, float(len(order)), errors=1)

    monkeypatch.setattr(rounds, "measure", measure)
    findings = run(tiny_server("2", name="a"), tiny_server("2", name="b"), plan=replace(ONCE, rounds=2))
    assert order == ["a", "b", "b", "a"]
    assert [(each.server, each.rate, each.errors, each.rounds) for each in findings.cells] == [
        ("a", 2.5, 2, 2),
        ("b", 2.5, 2, 2),
    ]


def test_a_server_is_loaded_before_its_first_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    monkeypatch.setattr(rounds, "send", lambda running, workload, connections, seconds: done.append(seconds))

    def measure(running: Running, workload: Workload, connections: int, seconds: int, warm_up_s: int) -> Cell:
        done.append((connections, warm_up_s))
        return cell(running.server.name, TINY, connections, 1.0)

    monkeypatch.setattr(rounds, "measure", measure)
    plan = Plan([[workloads.tiny()]], {"": (1, 8)}, seconds=2, rounds=1, warm_up_s=1, first_warm_up_s=6)
    run(tiny_server("2"), plan=plan)
    assert done == [3, 3, (1, 1), (8, 1)]


def test_what_is_not_reached_in_time_is_said() -> None:
    findings = run(tiny_server("2"), plan=replace(ONCE, limit_s=-1.0))
    assert findings.failures == {"tiny": "not measured: the time was over"}


@needs_wrk
def test_a_right_server_is_measured() -> None:
    (found,) = run(watched("2")).cells
    assert found.rate > 0 and found.errors == 0 and found.connections == 2
    assert found.cpu_ms > 0 and found.memory > 2**20
    assert 0 < found.p50_ms <= found.p99_ms


def test_every_peer_has_its_program_and_its_pin() -> None:
    pins = {
        name: {
            line.partition("=")[0].partition("[")[0]
            for line in environments.requirements(name)[0].read_text().splitlines()
        }
        for name in (environments.COMMON, environments.BENTOML, environments.TRITON)
    }
    for server in PEER_SERVERS:
        assert server.distribution in pins[server.environment], server.name


@needs_wrk
@pytest.mark.server
def test_a_request_is_taken_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "WARM_UP_S", 2)
    server = torchserves.opserve_server("latency", ROOT / "model_store")
    with servers.work_folder() as folder, server.launch(["scaled_add"], tmp_path, None, folder) as running:
        running.wait(workloads.tiny())
        found = profile.profile(running, workloads.tiny(), 2, 1)
    assert found["requests/s"] > 0 and found["requests in a batch"] == pytest.approx(1, abs=0.1)
    parts = [value for title, value in found.items() if title.startswith(("frontend", "worker"))]
    assert sum(parts) == pytest.approx(found["together"])
    assert min(found["frontend: network"], found["worker: op"], found["worker: decode"], found["queue"]) > 0
    assert profile.table({TINY: found}).splitlines()[0] == f"| | {TINY} |"


@needs_wrk
@pytest.mark.server
def test_a_handler_that_does_nothing_is_the_limit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(frontend_limit, "WARM_UP_S", 2)
    assert frontend_limit.main(["--seconds", "1", "--turns", "1"]) == 0
    ours, constant = capsys.readouterr().out.splitlines()[2:]
    assert ours.startswith("| scaled_add | ") and constant.startswith("| constant | ")
    assert "| 0/s" not in ours + constant


# -- goals


def test_goals_are_met_or_missed_by_how_much() -> None:
    found = verdicts(
        cell(THROUGHPUT, TINY, 8, 7000.0),
        cell(LATENCY, TINY, 8, 9000.0),
        cell(STOCK, TINY, 8, 1000.0),
        cell("FastAPI", TINY, 8, 7000.0),
        cell("mosec, batches of 8", TINY, 8, 7500.0),
        cell("FastAPI, orjson", TINY, 8, 99000.0),
    )
    work = "tiny JSON, 8 connections, throughput profile"
    assert found[work, "≥ 7 times stock TorchServe"][0] == "met"
    assert found[work, "≥ 1.5 times FastAPI"] == (
        "missed by 33 %",
        f"1.00 times FastAPI ({THROUGHPUT}: 7,000/s, 7,000/s)",
    )
    assert found[work, "level with batching mosec (≥ 0.9 times)"][0] == "met"
    assert found["tiny JSON, 1 connection, latency profile", "≥ 2 times stock TorchServe"] == ("not measured", "")


def test_the_best_peer_counts_and_ours_is_no_peer() -> None:
    found = verdicts(
        cell(THROUGHPUT, DIGITS, 8, 90.0),
        cell(LATENCY, DIGITS, 8, 100.0),
        cell("Flask", DIGITS, 8, 50.0),
        cell("FastAPI", DIGITS, 8, 125.0),
    )
    assert found["digits, 8 connections", "ahead of every peer"] == (
        "missed by 20 %",
        f"0.80 times FastAPI ({LATENCY}: 100/s, 125/s)",
    )


def test_server_and_operator_are_told_apart() -> None:
    found = verdicts(
        cell(LATENCY, GRAPH_NPZ, 8, 100.0),
        cell("FastAPI", GRAPH_NPZ, 8, 90.0, operator="PyTorch"),
        cell("FastAPI", GRAPH_NPZ, 8, 130.0),
        cell(THROUGHPUT, GRAPH_SHARED, 8, 130.0),
        cell(LATENCY, GRAPH_JSON, 8, 100.0),
        cell("Flask", GRAPH_JSON, 8, 20.0),
        cell("FastAPI, orjson", GRAPH_JSON, 8, 40.0),
        cell("Triton", GRAPH_JSON, 8, 60.0),
    )
    npz, plain = "graph .npz, 8 connections", "graph JSON, 8 connections"
    assert found[npz, "ahead of every peer that runs plain PyTorch"][0] == "met"
    assert found[npz, "≥ 0.8 times the best that runs our operator"][0] == "missed by 4 %"
    assert found["graph, shared memory, 8 connections", "ahead of all"][0] == "met"
    assert found[plain, "≥ 5 times every Python peer as its guide has it"][0] == "met"
    assert found[plain, "the same of FastAPI with orjson for the standard library"][0] == "missed by 50 %"
    assert found[plain, "≥ 2 times Triton"][0] == "missed by 17 %"


def test_a_tail_and_a_start_are_held_against_their_limits() -> None:
    found = verdicts(
        cell(LATENCY, TINY, 32, 100.0, p99_ms=30.0),
        cell("Flask", TINY, 32, 100.0, p99_ms=20.0),
        cell("FastAPI", TINY, 32, 100.0, p99_ms=40.0),
        cell("Ray Serve", TINY, 32, 1.0, p99_ms=1.0, requests=50),
        starts_s={LATENCY: [3.5, 2.5]},
        scale_s={LATENCY: 1.8},
        worker_memory={LATENCY: 200 * 2**20, STOCK: 250 * 2**20},
    )
    assert found[f"{TINY}, p99 at 32 connections", "no worse than the best peer's"][0] == "missed by 50 %"
    assert found["first right answer after the start", "≤ 3 s"][0] == "met"
    assert found["scale 1→2", "≤ 1.5 s"][0] == "missed by 20 %"
    assert found["memory of a worker", "≤ stock's"][0] == "met"


def test_the_page_has_every_figure_every_failure_and_the_limit(tmp_path: Path) -> None:
    cells = [
        cell(LATENCY, TINY, 8, 1234.5),
        cell("Flask", TINY, 8, 10.0, requests=20, errors=3, generator_limited=True),
        cell("mute", TINY, 8, 0.0, p50_ms=math.nan, p99_ms=math.nan),
    ]
    findings = Findings(cells, {LATENCY: [2.0]}, {}, {}, {"Triton": "cannot be installed: no wheel"})
    paths = report.write(findings, goals.verdicts(findings), {TINY: 5000.0}, {"cores": 2}, ONCE, tmp_path)
    assert [path.name for path in paths] == [f"serving_benchmark.{suffix}" for suffix in ("json", "md", "png")]
    page = paths[1].read_text()
    for said in (
        "1,234.5",
        "it was the limit",
        "| Flask | opserve | 8 | 10.0 \\* |",
        "| opserve, latency | opserve | 8 | 1,234.5 |",
        "Triton: cannot be installed: no wheel",
        "5,000.0 requests/s",
        "cores 2",
    ):
        assert said in page
    figures = json.loads(paths[0].read_text(), parse_constant=pytest.fail)["cells"]
    assert (figures[1]["errors"], figures[2]["p99_ms"]) == (3, None)
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def test_the_profiles_are_drawn_when_both_were_measured(tmp_path: Path) -> None:
    both = [cell(server, TINY, connections, 100.0) for server in (LATENCY, THROUGHPUT) for connections in (1, 8)]
    picture = tmp_path / "profiles.png"
    assert not profiles_plot.plot([each for each in both if each.server == LATENCY], picture)
    assert not picture.exists()
    assert profiles_plot.plot(both, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_server_that_was_never_ready_has_its_last_words_in_the_reason(tmp_path: Path) -> None:
    server = PeerServer(name="mute", command=lambda python, port: [str(python), "-c", "raise SystemExit('no port')"])
    with (
        server.launch(["scaled_add"], tmp_path, Path(sys.executable), tmp_path) as running,
        pytest.raises(ServerFailed, match="it ended while it started: no port"),
    ):
        running.wait(workloads.tiny())
