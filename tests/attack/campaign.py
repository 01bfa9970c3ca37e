"""Runs attacks on a server, and compares what happens with what is promised."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.attack import watch
from tests.attack.target import Target
from tests.attack.watch import Bounds, Logs, Meter, Reading
from tests.attack.wire import TIMEOUT_S, Request, Response

# Threads that send innocent requests to each model, and how long each waits after a response.
NEIGHBOURS = 3
REST_S = 0.005
# An attack with this many violations has failed; the rest of it would only take time.
ENOUGH = 6
RECOVERY_S = 90.0
# Begins what an attack tries to make a line of a log, or a metric.
FORGERY = "FORGED8181"
_FORGED = re.compile(rf"(?:^|MODEL_LOG - )(?:\[METRICS\])?{FORGERY}")


@dataclass(frozen=True)
class Attack:
    """Hostile requests of one kind.

    Attributes:
        name: Its name for `--only` and in the report.
        about: A description in one line.
        models: The models that are attacked.
        requests: Generates the requests; `None` if `action` is given.
        action: Does something other than sending requests.
        together: How many requests are sent at a time.
        measured: How many requests are measured together; by default 1 if they are sent one at a time, else 64.
        neighbours: The models that receive innocent requests meanwhile, if not those that are attacked.
        model_fails: Whether the attack makes a model raise, which is logged with a traceback.
    """

    name: str
    about: str
    models: tuple[str, ...]
    requests: Callable[[random.Random], Iterator[Request]] | None = None
    action: Callable[[AttackRun], None] | None = None
    together: int = 4
    measured: int | None = None
    neighbours: tuple[str, ...] | None = None
    model_fails: bool = False


# The kinds of violations.
ANSWER, NEIGHBOUR, DEATH, MEMORY, PROCESSOR, LOG = "answer", "neighbour", "death", "memory", "processor", "log"


class Violation(NamedTuple):
    """A promise that was not kept: its kind, and what happened."""

    kind: str
    text: str


@dataclass
class Outcome:
    """The outcome of an attack.

    Attributes:
        statuses: The number of responses with each status.
        asked: Innocent requests.
        wrong: Innocent requests without the right response.
        deaths: Processes that ended.
        over: Measurements over the bounds.
        peak: The highest of each reading.
        left: Bytes of memory that a worker kept.
        slowest_s: The longest time to a response.
        cut_short: Whether time ran out.
        violations: Promises that were not kept.
    """

    name: str
    statuses: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    wrong: int = 0
    deaths: int = 0
    over: int = 0
    peak: Reading = field(default_factory=lambda: Reading(0, 0.0))
    left: int = 0
    slowest_s: float = 0.0
    seconds: float = 0.0
    cut_short: bool = False
    violations: list[Violation] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """The number of hostile requests."""
        return self.statuses.total()


class AttackRun:
    """One attack while it runs, as its action sees it."""

    def __init__(self, attack: Attack, target: Target, bounds: Bounds, generator: random.Random, deadline: float):
        self.attack, self.target, self.bounds, self.generator = attack, target, bounds, generator
        self.outcome = Outcome(attack.name)
        self.before = watch.processes(target.torchserve, target.models)
        self._deadline = deadline
        self._lock = threading.Lock()
        self._local = threading.local()
        self._open: list = []

    @property
    def over(self) -> bool:
        """Whether to stop, because of enough violations or because time is up."""
        if time.monotonic() > self._deadline:
            self.outcome.cut_short = True
        return self.outcome.cut_short or len(self.outcome.violations) >= ENOUGH

    def report_violation(self, kind: str, text: str) -> None:
        """Records a violation."""
        with self._lock:
            self.outcome.violations.append(Violation(kind, text))

    def count(self, status: str) -> None:
        """Counts a response to a hostile request."""
        with self._lock:
            self.outcome.statuses[status] += 1

    def send(self, request: Request, timeout: float = TIMEOUT_S) -> Response:
        """Sends a hostile request over the calling thread's connection, and judges the response."""
        if not hasattr(self._local, "connection"):
            self._local.connection = self.target.connect()
            self._open.append(self._local.connection)
        response = self._local.connection.send(request, timeout)
        self.judge(request, response)
        return response

    def judge(self, request: Request, response: Response) -> None:
        """Counts a response, and records what is wrong with it."""
        self.count(str(response.status or "none"))
        violation = request.expect(response)
        if violation:
            self.report_violation(ANSWER, f"{request.describe()}: {violation}")
        with self._lock:
            self.outcome.slowest_s = max(self.outcome.slowest_s, response.seconds)

    @contextlib.contextmanager
    def measured(self, what: str) -> Iterator[None]:
        """Compares the cost of what happens inside with the bounds of one request."""
        pids = [pid for model in self.attack.models for pid, _ in self.before.workers[model]]
        meter = Meter(pids, self.bounds).start()
        try:
            yield
        finally:
            reading = meter.stop()
            peak = self.outcome.peak
            self.outcome.peak = Reading(max(peak.memory, reading.memory), max(peak.processor_s, reading.processor_s))
            if meter.ended:
                self.report_violation(
                    MEMORY, f"{what}: a worker was ended at more than {self.bounds.ceiling >> 20} MiB"
                )
            if reading.memory > self.bounds.memory:
                self.outcome.over += 1
                self.report_violation(
                    MEMORY, f"{what}: {reading.memory >> 20} MiB, allowed are {self.bounds.memory >> 20}"
                )
            if reading.processor_s > self.bounds.processor_s:
                self.outcome.over += 1
                self.report_violation(
                    PROCESSOR, f"{what}: {reading.processor_s:.1f} processor seconds, {self.bounds.processor_s} allowed"
                )

    def close(self) -> None:
        """Closes the connections."""
        for connection in self._open:
            connection.close()


def run(attack: Attack, target: Target, bounds: Bounds, seed: int, seconds: float) -> Outcome:
    """Runs an attack among innocent requests.

    Args:
        attack: The attack.
        target: The server, which is sound again afterwards, or is restarted.
        bounds: What one request may cost.
        seed: The seed of random requests.
        seconds: After this time no more requests are sent.
    """
    begun = time.monotonic()
    attack_run = AttackRun(attack, target, bounds, random.Random(f"{seed} {attack.name}"), begun + seconds)
    logs = Logs(target.torchserve.server.logs)
    resident = {pid: watch.resident(pid) for model in attack.models for pid, _ in attack_run.before.workers[model]}
    models = attack.models if attack.neighbours is None else attack.neighbours
    with _neighbours(attack_run, models):
        (attack.action or _send_all)(attack_run)
    attack_run.close()
    _judge_processes(attack_run)
    _judge_leftover(attack_run, resident)
    _judge_logs(attack_run, logs)
    attack_run.outcome.seconds = time.monotonic() - begun
    return attack_run.outcome


def _send_all(attack_run: AttackRun) -> None:
    """Sends the attack's requests and measures what they cost."""
    attack = attack_run.attack
    requests = attack.requests(attack_run.generator)
    with ThreadPoolExecutor(attack.together) as pool:
        size = attack.measured or (1 if attack.together == 1 else 64)
        while not attack_run.over and (part := list(itertools.islice(requests, size))):
            what = part[0].describe() if len(part) == 1 else f"{len(part)} requests from {part[0].describe()}"
            with attack_run.measured(what):
                list(pool.map(lambda request: None if attack_run.over else attack_run.send(request), part))


@contextlib.contextmanager
def _neighbours(attack_run: AttackRun, models: Sequence[str]) -> Iterator[None]:
    """Sends innocent requests to models while the context lasts."""
    stop = threading.Event()
    outcome, lock = attack_run.outcome, threading.Lock()

    def ask(model: str, offset: int) -> None:
        connection = attack_run.target.connect()
        innocents = attack_run.target.innocents[model]
        more = len(innocents)  # that many follow the attack, to meet what it leaves behind
        for number in itertools.count(offset):
            more -= stop.is_set()
            if more < 0:
                break
            innocent = innocents[number % len(innocents)]
            response = connection.send(innocent.request)
            wrong = innocent.wrong(response.status, response.body)
            with lock:
                outcome.asked += 1
                outcome.slowest_s = max(outcome.slowest_s, response.seconds)
                if wrong:
                    more = min(more, 1)
                    outcome.wrong += 1
                    if outcome.wrong <= ENOUGH:
                        attack_run.report_violation(NEIGHBOUR, f"an innocent request to {model}: {wrong}")
            stop.wait(REST_S)
        connection.close()

    threads = [
        threading.Thread(target=ask, args=(model, i), daemon=True) for model in models for i in range(NEIGHBOURS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _judge_processes(attack_run: AttackRun) -> None:
    target = attack_run.target
    try:
        after = watch.processes(target.torchserve, target.models)
        gone = watch.deaths(attack_run.before, after)
    except Exception as error:
        gone = [f"the management API does not respond: {str(error).splitlines()[0]}"]
    attack_run.outcome.deaths = len(gone)
    for each in gone:
        attack_run.report_violation(DEATH, each)
    if attack_run.outcome.violations:
        _recover(target)


def _recover(target: Target) -> None:
    """Waits until every model responds again, or else restarts the server."""
    healthy = all(watch.wait_until(lambda model=model: target.is_sound(model), RECOVERY_S) for model in target.models)
    if not healthy:
        target.torchserve.stop()
        started = target.torchserve.start()
        assert started.returncode == 0, f"{started.stdout}\n{started.stderr}"


def _judge_leftover(attack_run: AttackRun, resident: dict[int, int]) -> None:
    for pid, before in resident.items():
        left = watch.resident(pid) - before
        attack_run.outcome.left = max(attack_run.outcome.left, left)
        if left > attack_run.bounds.left:
            attack_run.outcome.over += 1
            attack_run.report_violation(MEMORY, f"{left >> 20} MiB stayed with a worker after all responses")


def _judge_logs(attack_run: AttackRun, logs: Logs) -> None:
    for name, lines in logs.new().items():
        if name in watch.FAULTS and not attack_run.attack.model_fails:
            faults = [line for line in lines if watch.FAULTS[name].search(line)]
            if faults:
                attack_run.report_violation(
                    LOG, f"{name} has {len(faults)} lines of faults, the first: {faults[0][:300]}"
                )
        forged = [line for line in lines if _FORGED.search(line)]
        if forged:
            attack_run.report_violation(
                LOG, f"{name} has {len(forged)} lines that a client wrote, the first: {forged[0][:100]}"
            )
    try:
        page = attack_run.target.torchserve.metrics().text
    except Exception:
        return  # that the server is gone is recorded already
    if FORGERY in page:
        attack_run.report_violation(LOG, "the page of metrics has a name or a label that a client wrote")
