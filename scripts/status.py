"""Shows the running server: addresses, processes, and each model with its workers."""

import sys

if not __package__:  # run as a file: import from the repository, not from this folder
    sys.path[0] = __file__.rpartition("/scripts/")[0]

import argparse

from scripts import deployment, processes
from scripts.errors import run
from scripts.server import Server, add_arguments, ready_workers

NOT_RUNNING = 3
MIB = 1024 * 1024


def table(rows: list[list[str]]) -> str:
    """Rows of text in columns; the first row is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _device(workers: list[dict]) -> str:
    # TorchServe describes a worker's GPU as "gpuId::0 utilization…", and none as "N/A" or false.
    ids = {str(w.get("gpuUsage", "")).partition("gpuId::")[2].split(" ")[0] for w in workers if w.get("gpu")}
    return ",".join(f"cuda:{i}" for i in sorted(ids)) if ids else "cpu"


def show(server: Server) -> bool:
    """Print the server's state; False when it does not run."""
    frontend = server.frontend()
    if frontend is None:
        print(f"not running: no TorchServe in {server.home}; `make start` starts it")
        return False
    workers = processes.workers(server.home, server.temp, [frontend])
    print(f"TorchServe  pid {frontend.pid}, {processes.memory([frontend]) // MIB} MiB, in {server.home}")
    print(f"workers     {len(workers)}, {processes.memory(workers) // MIB} MiB")
    for kind in ("inference", "management", "metrics"):
        print(f"{kind:<12}{server.address(kind)}")
    rows = [["model", "version", "workers ready", "batch", "device", "worker pids"]]
    for model in server.models():
        versions, default = server.versions(model), server.describe(model)
        for version, described in sorted(versions.items()):
            its = described["workers"]
            only = len(versions) == 1 or default is None
            rows.append(
                [
                    model,
                    version if only or version != default["modelVersion"] else f"{version} (default)",
                    f"{ready_workers(described)}/{len(its)}",
                    str(described["batchSize"]),
                    _device(its),
                    " ".join(str(worker["pid"]) for worker in its) or "-",
                ]
            )
    print(table(rows))
    for left in deployment.unfinished(server):
        print(left.describe())
    return True


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    return 0 if show(Server.of(parser.parse_args(arguments))) else NOT_RUNNING


if __name__ == "__main__":
    run(main)
