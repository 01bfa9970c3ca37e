"""Reports a campaign as a table and a list of violations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.attack.campaign import Attack, Bounds, Outcome

HEADER = (
    "| attack | requests | responses by status | innocent requests | wrong | deaths | memory, MiB | processor, s | "
    "slowest response, s |"
)
SHOWN = 8


def line(attack: Attack, outcome: Outcome) -> str:
    """One line of progress."""
    verdict = f"{len(outcome.violations)} VIOLATIONS" if outcome.violations else "held"
    cut = ", cut short" if outcome.cut_short else ""
    return f"{attack.name} ({attack.about}): {outcome.requests} requests in {outcome.seconds:.1f} s{cut}: {verdict}"


def table(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table with a row for each attack."""
    lines = [HEADER, "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for each in outcomes:
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(each.statuses.items()))
        numbers = (each.asked, each.wrong, each.deaths, each.peak.memory >> 20)
        cells = [each.name, each.requests, statuses, *numbers, f"{each.peak.processor_s:.2f}", f"{each.slowest_s:.1f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def totals(outcomes: Sequence[Outcome], bounds: Bounds) -> str:
    """The totals in one line."""
    requests, asked = sum(each.requests for each in outcomes), sum(each.asked for each in outcomes)
    wrong, dead = sum(each.wrong for each in outcomes), sum(each.deaths for each in outcomes)
    over = sum(each.over for each in outcomes)
    return (
        f"{requests} hostile requests among {asked} innocent ones: {dead} deaths of a worker or the server, {wrong} "
        f"wrong responses to these, {over} over the bounds of {bounds.memory >> 20} MiB and {bounds.processor_s:g} "
        f"processor seconds per request, {sum(len(each.violations) for each in outcomes)} violations in all"
    )


def list_violations(outcomes: Sequence[Outcome]) -> str:
    """Lists the violations of every attack: the number of each kind, and the first ones."""
    lines = []
    for outcome in outcomes:
        for kind, count in Counter(violation.kind for violation in outcome.violations).items():
            lines.append(f"{outcome.name}: {count} of kind {kind}")
            of_kind = [violation.text for violation in outcome.violations if violation.kind == kind]
            lines += [f"    {text[:500]}" for text in of_kind[:SHOWN]]
    return "\n".join(lines)
