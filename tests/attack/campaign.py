"""Runs attacks against a target, one after the other, and checks every promise."""

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
from tests.attack.wire import TIMEOUT_S, Reply, Shot

# Threads that send innocent requests to each model under attack, and how long each rests between two.
NEIGHBOURS = 3
REST_S = 0.005
# An attack ends once it has broken this many promises; the rest would only take time.
ENOUGH = 6
RECOVERY_S = 90.0
# The beginning of the text that an attack tries to get into a log as a line, or into a metric.
FORGERY = "FORGED8181"
_FORGED = re.compile(rf"(?:^|MODEL_LOG - )(?:\[METRICS\])?{FORGERY}")


@dataclass(frozen=True)
class Attack:
    """Hostile requests of one kind.

    Attributes:
        name: for `--only`, and in the report.
        about: one line for people.
        models: which models are attacked, and have neighbours asked meanwhile.
        shots: the requests; `None` where `strike` does something else.
        strike: everything else than sending `shots`.
        together: requests at a time.
        measured: how many requests are held against the bounds of one; 1 where they come one at a time, else 64.
        measured: how many requests are checked against the bounds of one.
        neighbours: the models whose innocent requests are sent meanwhile, if not those attacked.
        model_fails: whether the attack makes a model raise, which is logged with a traceback.
    """

    name: str
    about: str
    models: tuple[str, ...]
    shots: Callable[[random.Random], Iterator[Shot]] | None = None
    strike: Callable[[Battle], None] | None = None
    together: int = 4
    measured: int | None = None
    neighbours: tuple[str, ...] | None = None
    model_fails: bool = False


# What a broken promise is about.
ANSWER, NEIGHBOUR, DEATH, MEMORY, PROCESSOR, LOG = "answer", "neighbour", "death", "memory", "processor", "log"


class Complaint(NamedTuple):
    """A broken promise: which, and how."""

    kind: str
    text: str


@dataclass
class Outcome:
    """The outcome of an attack.

    Attributes:
        statuses: how often each status was answered, in words.
        asked, wrong: innocent requests, and those answered wrong or not at all.
        deaths: processes that ended.
        peak: the highest of each reading.
        left: memory that stayed with a worker.
        slowest_s: the longest anybody waited.
        cut_short: whether the time was up before all of it was done.
        complaints: every broken promise, in words.
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
    complaints: list[Complaint] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """Hostile ones."""
        return self.statuses.total()


class Battle:
    """A running attack, for its strike to act on."""

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
        """Whether to stop: enough promises are broken, or the time is up."""
        if time.monotonic() > self._deadline:
            self.outcome.cut_short = True
        return self.outcome.cut_short or len(self.outcome.complaints) >= ENOUGH

    def complain(self, kind: str, text: str) -> None:
        """Records a broken promise."""
        with self._lock:
            self.outcome.complaints.append(Complaint(kind, text))

    def count(self, status: str) -> None:
        """Records an answer to a hostile request."""
        with self._lock:
            self.outcome.statuses[status] += 1

    def send(self, shot: Shot, timeout: float = TIMEOUT_S) -> Reply:
        """Sends a hostile request over the calling thread's connection, and checks the answer."""
        if not hasattr(self._local, "connection"):
            self._local.connection = self.target.connect()
            self._open.append(self._local.connection)
        reply = self._local.connection.send(shot, timeout)
        self.judge(shot, reply)
        return reply

    def judge(self, shot: Shot, reply: Reply) -> None:
        """Counts an answer and records what is wrong with it."""
        self.count(str(reply.status or "none"))
        complaint = shot.expect(reply)
        if complaint:
            self.complain(ANSWER, f"{shot.describe()}: {complaint}")
        with self._lock:
            self.outcome.slowest_s = max(self.outcome.slowest_s, reply.seconds)

    @contextlib.contextmanager
    def measured(self, what: str) -> Iterator[None]:
        """Checks the cost of the block against the bounds of one request."""
        pids = [pid for model in self.attack.models for pid, _ in self.before.workers[model]]
        meter = Meter(pids, self.bounds).start()
        try:
            yield
        finally:
            reading = meter.stop()
            peak = self.outcome.peak
            self.outcome.peak = Reading(max(peak.memory, reading.memory), max(peak.processor_s, reading.processor_s))
            if meter.ended:
                self.complain(MEMORY, f"{what}: a worker took more than {self.bounds.ceiling >> 20} MiB, and was ended")
            if reading.memory > self.bounds.memory:
                self.outcome.over += 1
                self.complain(MEMORY, f"{what}: {reading.memory >> 20} MiB, {self.bounds.memory >> 20} are allowed")
            if reading.processor_s > self.bounds.processor_s:
                self.outcome.over += 1
                self.complain(
                    PROCESSOR, f"{what}: {reading.processor_s:.1f} processor seconds, {self.bounds.processor_s} allowed"
                )

    def close(self) -> None:
        """Closes the connections."""
        for connection in self._open:
            connection.close()


def run(attack: Attack, target: Target, bounds: Bounds, seed: int, seconds: float) -> Outcome:
    """Runs an attack among innocent requests.

    Args:
        attack: the attack.
        target: the server; sound again afterwards, or restarted.
        bounds: what one request may cost.
        seed: of what is random in it.
        seconds: after which no more requests begin.
    """
    begun = time.monotonic()
    battle = Battle(attack, target, bounds, random.Random(f"{seed} {attack.name}"), begun + seconds)
    logs = Logs(target.torchserve.server.logs)
    resident = {pid: watch.resident(pid) for model in attack.models for pid, _ in battle.before.workers[model]}
    models = attack.models if attack.neighbours is None else attack.neighbours
    with _neighbours(battle, models):
        (attack.strike or _fire)(battle)
    battle.close()
    _judge_processes(battle)
    _judge_leftover(battle, resident)
    _judge_logs(battle, logs)
    battle.outcome.seconds = time.monotonic() - begun
    return battle.outcome


def _fire(battle: Battle) -> None:
    """Sends the attack's shots, a few at a time, and measures what they cost."""
    attack = battle.attack
    shots = attack.shots(battle.generator)
    with ThreadPoolExecutor(attack.together) as pool:
        size = attack.measured or (1 if attack.together == 1 else 64)
        while not battle.over and (part := list(itertools.islice(shots, size))):
            what = part[0].describe() if len(part) == 1 else f"{len(part)} requests from {part[0].describe()}"
            with battle.measured(what):
                list(pool.map(lambda shot: None if battle.over else battle.send(shot), part))


@contextlib.contextmanager
def _neighbours(battle: Battle, models: Sequence[str]) -> Iterator[None]:
    """Innocent requests to some models, for as long as the context lasts."""
    stop = threading.Event()
    outcome, lock = battle.outcome, threading.Lock()

    def ask(model: str, offset: int) -> None:
        connection = battle.target.connect()
        innocents = battle.target.innocents[model]
        more = len(innocents)  # of them are asked when all is over: what an attack leaves behind hurts these
        for number in itertools.count(offset):
            more -= stop.is_set()
            if more < 0:
                break
            innocent = innocents[number % len(innocents)]
            reply = connection.send(innocent.shot)
            wrong = innocent.wrong(reply.status, reply.body)
            with lock:
                outcome.asked += 1
                outcome.slowest_s = max(outcome.slowest_s, reply.seconds)
                if wrong:
                    more = min(more, 1)
                    outcome.wrong += 1
                    if outcome.wrong <= ENOUGH:
                        battle.complain(NEIGHBOUR, f"a neighbour at {model}: {wrong}")
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


def _judge_processes(battle: Battle) -> None:
    target = battle.target
    try:
        after = watch.processes(target.torchserve, target.models)
        gone = watch.deaths(battle.before, after)
    except Exception as error:
        gone = [f"the management API does not answer: {str(error).splitlines()[0]}"]
    battle.outcome.deaths = len(gone)
    for each in gone:
        battle.complain(DEATH, each)
    if battle.outcome.complaints:
        _recover(target)


def _recover(target: Target) -> None:
    """Waits until every model answers again; restarts the server if one does not."""
    healthy = all(watch.wait_until(lambda model=model: target.answers(model), RECOVERY_S) for model in target.models)
    if not healthy:
        target.torchserve.stop()
        started = target.torchserve.start()
        assert started.returncode == 0, f"{started.stdout}\n{started.stderr}"


def _judge_leftover(battle: Battle, resident: dict[int, int]) -> None:
    for pid, before in resident.items():
        left = watch.resident(pid) - before
        battle.outcome.left = max(battle.outcome.left, left)
        if left > battle.bounds.left:
            battle.outcome.over += 1
            battle.complain(MEMORY, f"{left >> 20} MiB stayed with a worker when all was answered")


def _judge_logs(battle: Battle, logs: Logs) -> None:
    for name, lines in logs.new().items():
        if name in watch.FAULTS and not battle.attack.model_fails:
            faults = [line for line in lines if watch.FAULTS[name].search(line)]
            if faults:
                battle.complain(LOG, f"{name} has {len(faults)} lines of a fault, first: {faults[0][:300]}")
        forged = [line for line in lines if _FORGED.search(line)]
        if forged:
            battle.complain(LOG, f"{name} has {len(forged)} lines that a client wrote, first: {forged[0][:100]}")
    try:
        page = battle.target.torchserve.metrics().text
    except Exception:
        return  # a server that has ended is recorded already
    if FORGERY in page:
        battle.complain(LOG, "the page of metrics has a name or a label that a client wrote")
