"""Describes a server for `make status`: addresses, processes, supervisor, and each model with its workers."""

from typing import Any

import psutil

from archive.packer.mar_manifest import RUNTIMES
from scripts.torchserve import deploy_record, processes, supervision
from scripts.torchserve.server import Server
from scripts.torchserve.worker_log import last_error
from scripts.torchserve.workers import count_ended_workers, count_ready_workers, stand_in_errors

MIB = 1024 * 1024


def format_table(rows: list[list[str]]) -> str:
    """Returns rows of text in aligned columns; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def show_status(server: Server) -> bool:
    """Prints the server's state; returns False when it does not run."""
    frontend = server.frontend()
    if frontend is None:
        if supervision.find_supervisor(server.temp) is None:
            print(f"not running: no TorchServe in {server.home}; `make start` starts it")
        else:
            print(f"not running: TorchServe in {server.home} has ended; its supervisor starts it again")
        # Also the state of a supervisor that gave up, or was killed together with its server.
        if supervision.read_state(server.temp):
            print(_describe_supervisor(server, frontend))
        return False
    workers = processes.workers(server.home, server.temp, [frontend])
    print(f"TorchServe  pid {frontend.pid}, {processes.memory([frontend]) // MIB} MiB, in {server.home}")
    print(f"workers     {len(workers)}, {processes.memory(workers) // MIB} MiB")
    print(_describe_supervisor(server, frontend))
    print(f"inference   {server.address('inference')}")
    print(f"management  {server.address('management')}")
    print(f"metrics     {server.address('metrics')}")
    rows = [["model", "version", "workers ready", "batch", "device", "runtime", "worker pids"]]
    problems: list[str] = []
    for model in server.models():
        versions, default = server.versions(model), (server.describe(model) or {}).get("modelVersion")
        for version, described in sorted(versions.items()):
            errors = stand_in_errors(server, described)
            marked = f"{version} (default)" if len(versions) > 1 and version == default else version
            rows.append([model, marked, *_worker_cells(described, len(errors))])
            problems += _find_problem(server, model, version, described, errors)
    print(
        "\n".join(
            [format_table(rows), *problems, *(record.describe() for record in deploy_record.load_unfinished(server))]
        )
    )
    return True


def _worker_cells(description: dict[str, Any], stand_ins: int) -> list[str]:
    workers = description["workers"]
    # TorchServe describes a worker's GPU as "gpuId::0 utilization…", and none as "N/A" or false.
    gpus = {str(w.get("gpuUsage", "")).partition("gpuId::")[2].split(" ")[0] for w in workers if w.get("gpu")}
    return [
        f"{count_ready_workers(description) - stand_ins}/{len(workers)}",
        str(description["batchSize"]),
        ",".join(f"cuda:{gpu}" for gpu in sorted(gpus)) or "cpu",
        RUNTIMES.get(description.get("runtime", ""), "-"),
        " ".join(str(worker["pid"]) for worker in workers) or "-",
    ]


def _find_problem(
    server: Server, model: str, version: str, description: dict[str, Any], errors: list[str]
) -> list[str]:
    """Returns what is wrong and what to type, for a version that should have workers but none that answers."""
    workers = int(description["minWorkers"])
    if workers == 0 or count_ready_workers(description) > len(errors):
        return []
    if not errors and not count_ended_workers(description):
        return []
    error = errors[0] if errors else last_error(server.logs, model, version)
    return [
        f"{model} {version} does not load: {error or f'see {server.logs}/model_log.log'}",
        f"  it is tried again automatically; once fixed, `make scale MODEL={model} WORKERS={workers}` tries it at once",
    ]


def _describe_supervisor(server: Server, frontend: psutil.Process | None) -> str:
    """Returns whether a supervisor starts the server again when it ends, and how often it had to."""
    pid, state = supervision.find_supervisor(server.temp), supervision.read_state(server.temp)
    if pid is not None:
        line = f"supervisor  pid {pid}"
    elif frontend is None or processes.used_temp_folder(frontend) == server.temp:
        line = "supervisor  none; `make start` starts one"
    else:
        line = "supervisor  none; this server was not started by `make start`"
    if state.get("restarts"):
        line += f", restarts {state['restarts']}, the last at {state.get('restarted')}"
    if state.get("cause"):
        line += f"\n            the server ended at {state.get('ended')}: {state['cause']}"
    if pid is not None and state.get("now") == "waiting":
        line += f"\n            next try at {state.get('next')}"
    if state.get("error"):
        line += f"\n            starting it again failed {state.get('failures')} times, last: {state['error']}"
    return line
