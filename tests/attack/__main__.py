"""Attacks its own TorchServe: `python -m tests.attack [--only NAME …] [--seconds 45] [--seed 1]`.

Exit status 1, with a list of every broken promise, if a worker or the server ended, a neighbour's answer was wrong or
missing, a request cost more than it may, or was answered in another way than is promised.
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


def main(arguments: list[str] | None = None) -> int:
    """Runs the chosen attacks; returns 1 if a promise was broken."""
    names = [attack.name for attack in ATTACKS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument(
        "--seconds", type=float, default=45, help="that one attack may take before it is cut short (45)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of what is random (1)")
    parser.add_argument("--output", type=Path, help="file to write the table to")
    options = parser.parse_args(arguments)
    attacks = [attack for attack in ATTACKS if attack.name in options.only]
    wanted = {model for attack in attacks for model in (*attack.models, *(attack.neighbours or ()))}
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server is stopped then too
    bounds, begun, outcomes = Bounds(), time.monotonic(), []
    with (
        tempfile.TemporaryDirectory(prefix="opserve-attack-") as folder,
        target(Path(folder), [model for model in MODELS if model in wanted]) as server,
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
    broken = report.complaints(outcomes)
    if broken:
        print(f"\nbroken promises:\n{broken}")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
