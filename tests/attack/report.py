"""The results of a campaign, as a table and a list of every broken promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.attack.campaign import Attack, Bounds, Outcome

HEADER = (
    "| attack | requests | answers by status | neighbours asked | wrong | deaths | memory, MiB | processor, s | "
    "slowest answer, s |"
)
SHOWN = 8


def line(attack: Attack, outcome: Outcome) -> str:
    """The row of an attack, printed as soon as it is over."""
    verdict = f"{len(outcome.complaints)} BROKEN PROMISES" if outcome.complaints else "held"
    cut = ", cut short" if outcome.cut_short else ""
    return f"{attack.name} ({attack.about}): {outcome.requests} requests in {outcome.seconds:.1f} s{cut}: {verdict}"


def table(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table, a line for every attack."""
    lines = [HEADER, "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for each in outcomes:
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(each.statuses.items()))
        numbers = (each.asked, each.wrong, each.deaths, each.peak.memory >> 20)
        cells = [each.name, each.requests, statuses, *numbers, f"{each.peak.processor_s:.2f}", f"{each.slowest_s:.1f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def totals(outcomes: Sequence[Outcome], bounds: Bounds) -> str:
    """The results in a line."""
    requests, asked = sum(each.requests for each in outcomes), sum(each.asked for each in outcomes)
    wrong, dead = sum(each.wrong for each in outcomes), sum(each.deaths for each in outcomes)
    over = sum(each.over for each in outcomes)
    return (
        f"{requests} hostile requests among {asked} innocent ones: {dead} deaths of a worker or the server, {wrong} "
        f"wrong answers to neighbours, {over} over the bounds of {bounds.memory >> 20} MiB and {bounds.processor_s:g} "
        f"processor seconds a request, {sum(len(each.complaints) for each in outcomes)} broken promises in all"
    )


def complaints(outcomes: Sequence[Outcome]) -> str:
    """The broken promises of every attack: how many of each kind, and the first ones of each."""
    lines = []
    for outcome in outcomes:
        for kind, count in Counter(complaint.kind for complaint in outcome.complaints).items():
            lines.append(f"{outcome.name}: {count} of kind {kind}")
            of_kind = [complaint.text for complaint in outcome.complaints if complaint.kind == kind]
            lines += [f"    {text[:500]}" for text in of_kind[:SHOWN]]
    return "\n".join(lines)
