"""Sends a model's sample to the running server again and again, and reports how the server coped."""

import argparse
from pathlib import Path

from archive.process.command import run
from scripts.load import wrk
from scripts.load.report import describe_load, write_report
from scripts.load.sample import prepare_sample
from scripts.load.settings import CONNECTIONS, SECONDS, LoadSettings
from scripts.torchserve.arguments import add_server_arguments
from scripts.torchserve.server import Server


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns 1 if nothing was answered well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a served model")
    parser.add_argument("--connections", default="", help=f"at a time ({CONNECTIONS})")
    parser.add_argument("--seconds", default="", help=f"how long ({SECONDS})")
    parser.add_argument("--rate", default="", help="requests per second (as many as the connections take)")
    parser.add_argument("--output", type=Path, help="folder for the plot and the numbers (HOME/build/loadtest)")
    add_server_arguments(parser)
    options = parser.parse_args(arguments)
    settings = LoadSettings.parse(options.connections, options.seconds, options.rate)
    if settings.rate is None:
        wrk.require()
    server = Server.from_arguments(options)
    sample = prepare_sample(server, options.model)
    print(f"{sample.model} {sample.version}: {len(sample.body):,} bytes, {settings}", flush=True)
    load, latencies = sample.send(settings)
    print(describe_load(load, settings))
    write_report(sample, load, latencies, settings, options.output or server.home / "build" / "loadtest")
    return 0 if load.rate > 0 else 1


if __name__ == "__main__":
    run(main)
