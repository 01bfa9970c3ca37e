"""Attacks a TorchServe that it starts: `python -m tests.attack [--only NAME …] [--runtime native] [--seconds 45]`.

Ends with status 1 and a list of violations if a worker or the server ended, an innocent request got a wrong response or
none, or a hostile request exceeded its bounds or got a response that is not promised.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
import time
from pathlib import Path

from tests.attack import report
from tests.attack.attacks import ATTACKS
from tests.attack.campaign import Bounds, run
from tests.attack.target import MODELS, target
from tests.support.runtimes import RUNTIMES


def main(arguments: list[str] | None = None) -> int:
    """Runs the selected attacks; returns 1 if there was a violation."""
    names = [attack.name for attack in ATTACKS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--runtime", choices=RUNTIMES, help="the worker (native where that can run a model)")
    parser.add_argument("--seconds", type=float, default=45, help="after which an attack is cut short (45)")
    parser.add_argument("--seed", type=int, default=1, help="of random requests (1)")
    parser.add_argument("--output", type=Path, help="file for the table")
    options = parser.parse_args(arguments)
    attacks = [attack for attack in ATTACKS if attack.name in options.only]
    wanted = {model for attack in attacks for model in (*attack.models, *(attack.neighbours or ()))}
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # which stops the server too
    bounds, begun, outcomes = Bounds(), time.monotonic(), []
    with (
        tempfile.TemporaryDirectory(prefix="opserve-attack-") as folder,
        target(Path(folder), [model for model in MODELS if model in wanted], options.runtime) as server,
    ):
        print(f"a server of {', '.join(server.models)} after {time.monotonic() - begun:.0f} s", flush=True)
        for attack in attacks:
            outcome = run(attack, server, bounds, options.seed, options.seconds)
            outcomes.append(outcome)
            print(report.line(attack, outcome), flush=True)
    text = "\n\n".join([report.table(outcomes), report.totals(outcomes, bounds)])
    print(f"\n{text}")
    if options.output:
        options.output.write_text(text + "\n")
    violations = report.list_violations(outcomes)
    if violations:
        print(f"\nviolations:\n{violations}")
    return 1 if violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
