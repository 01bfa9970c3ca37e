"""How servers are measured: which are refused, in which order, and what is left running."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.common import workloads
from benchmarks.common.workloads import Workload
from benchmarks.serving import environments, rounds, servers
from benchmarks.serving.goals import TINY
from benchmarks.serving.rounds import Findings, Measurement, Plan
from benchmarks.serving.servers import PeerServer, Running
from tests.benchmarks.serving.test_goals import make_measurement

SERVER = Path(__file__).parents[1] / "tiny_server.py"
PYTHONS = {environments.COMMON: Path(sys.executable)}
ONCE = Plan([[workloads.tiny()]], {"": (2,)}, 1, 1)
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed (apt install wrk)")


def tiny_server(*arguments: str, name: str = "tiny") -> PeerServer:
    return PeerServer(name=name, command=lambda python, port: [str(python), str(SERVER), *arguments])


class Watched(PeerServer):
    """Remembers what it started, and in which folders."""

    started: list[Running] = []  # noqa: RUF012  one list for all instances
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


def run(*servers: PeerServer, plan: Plan = ONCE, report: Callable[[str], None] = lambda line: None) -> Findings:
    return rounds.run(plan, servers, Path(), PYTHONS, report)


def test_a_server_with_wrong_responses_is_refused_before_it_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    monkeypatch.setattr(servers.wrk, "load", lambda *arguments: loads.append(arguments))
    findings = run(watched("2.001"))
    assert findings.failures == {"tiny": "scaled_add json: z has other values than expected"}
    assert findings.measurements == [] and loads == []
    assert Watched.started[0].processes.find() == []


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


def test_a_server_that_ends_while_it_starts_is_reported_and_the_next_one_has_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measure = lambda running, *arguments: make_measurement(running.server.name, TINY, 2, 1.0)  # noqa: E731
    monkeypatch.setattr(rounds, "measure", measure)
    findings = run(tiny_server("two", name="broken"), tiny_server("2"))
    assert "could not convert string to float: 'two'" in findings.failures["broken"]
    assert [each.server for each in findings.measurements] == ["tiny"]


def test_an_environment_that_was_not_installed_is_a_failure_of_its_servers() -> None:
    findings = rounds.run(ONCE, [tiny_server("2")], Path(), {}, lambda line: None)
    assert findings.failures == {"tiny": "its environment was not installed"}


def test_the_order_is_reversed_from_round_to_round_and_rounds_become_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    order = []

    def measure(running: Running, *arguments: object) -> Measurement:
        order.append(running.server.name)
        return make_measurement(running.server.name, TINY, 2, float(len(order)), errors=1)

    monkeypatch.setattr(rounds, "measure", measure)
    findings = run(tiny_server("2", name="a"), tiny_server("2", name="b"), plan=replace(ONCE, rounds=2))
    assert order == ["a", "b", "b", "a"]
    assert [(each.server, each.rate, each.errors, each.rounds) for each in findings.measurements] == [
        ("a", 2.5, 2, 2),
        ("b", 2.5, 2, 2),
    ]


def test_a_server_is_loaded_before_its_first_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    monkeypatch.setattr(Running, "load", lambda running, workload, connections, seconds: done.append(seconds))

    def measure(running: Running, workload: Workload, connections: int, seconds: int, warm_up_s: int) -> Measurement:
        done.append((connections, warm_up_s))
        return make_measurement(running.server.name, TINY, connections, 1.0)

    monkeypatch.setattr(rounds, "measure", measure)
    plan = Plan([[workloads.tiny()]], {"": (1, 8)}, seconds=2, rounds=1, warm_up_s=1, first_warm_up_s=6)
    run(tiny_server("2"), plan=plan)
    assert done == [3, 3, (1, 1), (8, 1)]


def test_a_server_that_had_no_turn_in_time_is_reported() -> None:
    findings = run(tiny_server("2"), plan=replace(ONCE, limit_s=-1.0))
    assert findings.failures == {"tiny": "not measured: out of time"}


@needs_wrk
def test_a_right_server_is_measured() -> None:
    (found,) = run(watched("2")).measurements
    assert found.rate > 0 and found.errors == 0 and found.connections == 2
    assert found.cpu_ms > 0 and found.memory > 2**20
    assert 0 < found.p50_ms <= found.p99_ms
