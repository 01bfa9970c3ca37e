"""Shows the running server: addresses, processes, and each model with its workers."""

import sys

if not __package__:  # run as a file: import from the repository, not from this folder
    sys.path[0] = __file__.rpartition("/scripts/")[0]

import argparse

import psutil

from archive.process.command import run
from scripts import supervise
from scripts.torchserve import deployment, processes
from scripts.torchserve.recovery import ended_workers, stand_ins
from scripts.torchserve.server import Server, add_arguments, ready_workers
from scripts.torchserve.worker_log import last_error

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
        pid = supervise.supervisor_pid(server.temp)
        if pid is None:
            print(f"not running: no TorchServe in {server.home}; `make start` starts it")
        else:
            print(f"not running: TorchServe in {server.home} has ended; its supervisor starts it again")
        # Also of one that has given up, or was killed with its server.
        if supervise.state(server.temp):
            print(supervisor_line(server, frontend))
        return False
    workers = processes.workers(server.home, server.temp, [frontend])
    print(f"TorchServe  pid {frontend.pid}, {processes.memory([frontend]) // MIB} MiB, in {server.home}")
    print(f"workers     {len(workers)}, {processes.memory(workers) // MIB} MiB")
    print(supervisor_line(server, frontend))
    for kind in ("inference", "management", "metrics"):
        print(f"{kind:<12}{server.address(kind)}")
    troubles = []
    rows = [["model", "version", "workers ready", "batch", "device", "worker pids"]]
    for model in server.models():
        versions, default = server.versions(model), server.describe(model)
        for version, described in sorted(versions.items()):
            its, errors = described["workers"], stand_ins(server, described)
            ready = ready_workers(described) - len(errors)
            only = len(versions) == 1 or default is None
            rows.append(
                [
                    model,
                    version if only or version != default["modelVersion"] else f"{version} (default)",
                    f"{ready}/{len(its)}",
                    str(described["batchSize"]),
                    _device(its),
                    " ".join(str(worker["pid"]) for worker in its) or "-",
                ]
            )
            if int(described["minWorkers"]) > 0 and not ready and (errors or ended_workers(described)):
                error = errors[0] if errors else last_error(server.logs, model, version)
                troubles.append(trouble(server, model, version, int(described["minWorkers"]), error))
    print(table(rows))
    for line in troubles:
        print(line)
    for left in deployment.unfinished(server):
        print(left.describe())
    return True


def trouble(server: Server, model: str, version: str, workers: int, error: str | None) -> str:
    """What is wrong with a model of which no worker answers, and what to type."""
    return (
        f"{model} {version} does not load: {error or f'{server.logs}/model_log.log says why'}\n"
        f"  it is tried again by itself; once mended, `make scale MODEL={model} WORKERS={workers}` tries it at once"
    )


def supervisor_line(server: Server, frontend: psutil.Process | None) -> str:
    """Whether somebody starts the server again when it ends, and how often that was needed."""
    pid, told = supervise.supervisor_pid(server.temp), supervise.state(server.temp)
    restarts = int(told.get("restarts") or 0)
    if pid is None:
        ours = frontend is None or processes.used_temp_folder(frontend) == server.temp
        fix = "`make start` starts one" if ours else "it was not `make start` that started this server"
        line = f"supervisor  none; {fix}"
    else:
        line = f"supervisor  pid {pid}"
    if restarts:
        line += f", restarts {restarts}, the last at {told.get('restarted')}"
    if told.get("cause"):
        line += f"\n            the server ended at {told.get('ended')}: {told['cause']}"
    if pid is not None and told.get("now") == "waiting":
        line += f"\n            next try at {told.get('next')}"
    if told.get("error"):
        line += f"\n            starting it again failed {told.get('failures')} times, last: {told['error']}"
    return line


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    return 0 if show(Server.of(parser.parse_args(arguments))) else NOT_RUNNING


if __name__ == "__main__":
    run(main)
