"""Short forms of the attacks, and that a campaign notices every kind of violation."""

import json
from collections.abc import Iterator

import pytest

from tests.attack import report
from tests.attack.attacks import ATTACKS
from tests.attack.campaign import ANSWER, DEATH, FORGERY, LOG, MEMORY, NEIGHBOUR, PROCESSOR, Attack, run
from tests.attack.target import Target, target
from tests.attack.watch import MIB, Bounds
from tests.attack.wire import Request
from tests.support import archives
from tests.support.torchserve import Serve

pytestmark = pytest.mark.server

# `make attack` runs all attacks on all models, and each to its end.
SHORT = (
    *("gpu-words", "describe-header", "odd-headers", "addresses", "in-place-model", "long-lists", "surrogates"),
    *("exact-numbers", "long-texts", "forged-lines", "declared-sizes", "zip-archives", "grpc-streams"),
)
MODELS = ("scaled_add", "in_place", "whole")
SECONDS = 1.5


@pytest.fixture(scope="module")
def attacked(runtime, tmp_path_factory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("attacked"), MODELS, runtime) as server:
        yield server


@pytest.mark.parametrize("name", SHORT)
def test_an_attack_is_harmless(attacked, name):
    (attack,) = (attack for attack in ATTACKS if attack.name == name)
    outcome = run(attack, attacked, Bounds(), seed=1, seconds=SECONDS)
    assert outcome.requests and outcome.asked
    assert not outcome.violations, report.list_violations([outcome])


# Returns its numbers; `do` names what it does wrong.
FRAGILE = f"""
import json
import os
import time

kept, wrong = [], []


def handle(data, context):
    if data is None:
        return None
    request = json.loads(bytes(data[0]["body"]))
    do = request.get("do")
    if do == "die":
        os._exit(3)
    elif do == "spin":
        end = time.process_time() + 0.8
        while time.process_time() < end:
            pass
    elif do == "grab":
        bytearray(b"x" * (200 << 20))
    elif do == "keep":
        kept.append(bytearray(b"x" * (80 << 20)))
    elif do == "spoil":
        wrong.extend([7.0] * 5)
    elif do == "fail":
        raise ValueError("this is not how to refuse")
    elif do == "forge":
        print("{FORGERY} a line", flush=True)
    elif do == "refuse":
        context.set_response_status(400, "Bad Request", 0)
        return ["not JSON"]
    return [json.dumps({{"y": [wrong.pop()] if wrong and do is None else request["x"]}})]
"""
TIGHT = Bounds(memory=100 * MIB, processor_s=0.5, left=60 * MIB)


@pytest.fixture(scope="module")
def fragile(serve: Serve, tmp_path_factory) -> Target:
    return Target(serve([archives.make(tmp_path_factory.mktemp("fragile"), "fragile", FRAGILE)]), ["fragile"])


def attempt(fragile: Target, do: str | None, times: int = 1):
    request = Request("fragile", json.dumps({"x": [1.0], "do": do}).encode())
    attack = Attack("attempt", "what the test says", ("fragile",), lambda _: iter([request] * times), together=1)
    return run(attack, fragile, TIGHT, seed=1, seconds=20)


def test_a_sound_server_has_no_violations(fragile):
    outcome = attempt(fragile, None, times=50)
    assert not outcome.violations
    assert (outcome.statuses, outcome.wrong, outcome.deaths, outcome.over) == ({"200": 50}, 0, 0, 0)
    assert outcome.asked >= 50


@pytest.mark.parametrize(
    ("do", "kinds"),
    [
        ("die", {DEATH, ANSWER}),
        ("spin", {PROCESSOR}),
        ("grab", {MEMORY}),
        ("keep", {MEMORY}),
        ("spoil", {NEIGHBOUR}),
        ("fail", {ANSWER, LOG}),
        ("forge", {LOG}),
        ("refuse", {ANSWER}),
    ],
)
def test_every_fault_is_noticed(fragile, do, kinds):
    outcome = attempt(fragile, do)
    assert kinds <= {violation.kind for violation in outcome.violations}, outcome.violations
    assert report.list_violations([outcome])
