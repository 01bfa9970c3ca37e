"""Starts TorchServe and waits until every model has answered its archive's sample correctly."""

import sys

if not __package__:  # run as a file: import from the repository, not from this folder
    sys.path[0] = __file__.rpartition("/scripts/")[0]

import argparse
import contextlib
import os
import re
import socket
import subprocess
import time
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

import psutil

from archive.errors import OpserveError
from archive.process.command import run
from archive.process.signals import deferred
from archive.repository import ROOT
from scripts import status, supervise
from scripts.predict import curl, try_sample
from scripts.stop import PID_FILE, alone, stop
from scripts.torchserve import archives as mar
from scripts.torchserve import faults, java, limits, machine, processes, snapshot, worker_environment
from scripts.torchserve.server import Server, add_arguments, ready_workers
from scripts.torchserve.worker_log import LogMark, model_of
from scripts.torchserve.workers import set_workers

POLL_S = 0.1
TIMEOUT_S = 300.0
# The launcher only starts Java, and does not wait for it.
LAUNCH_S = 60.0
SUPERVISOR_S = 20.0
CONSOLE = "console.log"
# Lets whoever has the management token register and delete models.
MODEL_API = "--enable-model-api"
LOG_CONFIG = ROOT / "log4j2.properties"
# What log4j2.properties and the workers look for; both `off` is a quiet server.
QUIET = {"OPSERVE_ACCESS_LOG": "off", "OPSERVE_METRICS": "off"}
POOL = "-Djava.util.concurrent.ForkJoinPool.common.parallelism="
# Settings of the surrounding shell that would make this another server than config.properties describes.
OVERRIDES = ("TS_CONFIG_FILE", "LOG_LOCATION", "METRICS_LOCATION", "PYTHONPATH", "PYTHONHOME")


def chosen_archives(server: Server, models: list[str]) -> list[mar.Archive]:
    """Read and check the archives that shall be served: all of the model store, or the named ones.

    Of several versions of a model the newest comes first: TorchServe makes the first one the default.
    """
    if models:
        paths = [server.model_store / (name if name.endswith(".mar") else f"{name}.mar") for name in models]
    else:
        paths = sorted(server.model_store.glob("*.mar"))
    if not paths:
        raise OpserveError(f"{server.model_store} holds no archives; `make archive` builds them")
    archives = [mar.read(path) for path in paths]
    seen: dict[tuple[str, str], Path] = {}
    for archive in archives:
        other = seen.setdefault((archive.model, archive.version), archive.path)
        if other is not archive.path:
            raise OpserveError(
                f"{other.name} and {archive.path.name} both are {archive.model} {archive.version}; "
                f"take one out of {server.model_store}"
            )
    return sorted(archives, key=lambda archive: version_key(archive.version), reverse=True)


def version_key(version: str) -> list[tuple[bool, int, str]]:
    """By which versions are compared: 10.0 is newer than 9.1, and 2.0 than 2.0-rc."""
    numbers = [(piece, re.fullmatch("[0-9]+", piece)) for piece in re.split("[.-]", version)]
    return [*((bool(number), int(number[0]) if number else 0, piece) for piece, number in numbers), (True, -1, "")]


def check_ports(server: Server) -> None:
    """Refuse to start on an address that is taken: TorchServe would end with a Java stack trace."""
    for name, (host, port) in server.ports().items():
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As Java binds: what lingers of a connection that was closed is no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                holder = f" ({processes.listener(port)})" if "in use" in str(error) else ""
                raise OpserveError(
                    f"{name} {host}:{port}: {error.strerror}{holder}; "
                    f"stop that process, or set another {name} in {server.config.name}"
                ) from None


def check_metrics(server: Server) -> None:
    """Refuse a declaration of metrics that is not there: TorchServe would end with a Java stack trace."""
    named = server.properties.get("metrics_config")
    if named and not (server.home / named).is_file():
        raise OpserveError(
            f"metrics_config {named}: no such file in {server.home}; copy metrics.yaml there, or take the line out of "
            f"{server.config.name}"
        )


def fitted_limits(
    server: Server, here: machine.Machine, archives: Collection[mar.Archive], model_api: bool
) -> limits.Limits:
    """What the frontend may hold on this machine; says so where that is less than the configuration wants."""
    memory, origin = machine.memory()
    request, queue, heap = limits.wanted(server.properties)
    workers = here.share(count_models(archives))
    queues = [limits.read_queue(archive.path, workers=workers) for archive in archives]
    if model_api:  # while a version replaces another, both have a queue
        queues.append(limits.Queue(None, max((each.in_flight for each in queues), default=1)))
    found = limits.fit(memory, queues, request, queue, heap)
    if not found.fits:
        print(
            f"note: {memory // limits.MIB} MiB ({origin}) are too few for {len(queues)} models: full queues of the "
            f"largest requests would take {found.needed // limits.MIB} MiB of a heap of {found.heap // limits.MIB}",
            file=sys.stderr,
        )
    elif (found.request, found.queue) != (request, queue):
        print(
            f"note: fitted to {memory // limits.MIB} MiB ({origin}) and {len(queues)} models: requests of up to "
            f"{found.request / limits.MIB:.4g} MiB, {found.queue} waiting for each model",
            file=sys.stderr,
        )
    return found


def fitted_config(
    server: Server,
    here: machine.Machine,
    quiet: bool,
    archives: Collection[mar.Archive] = (),
    model_api: bool = False,
) -> Path:
    """Write the server's configuration with what follows from this machine; a larger pool of the user's own stays."""
    lines = server.config.read_text().splitlines()
    held = fitted_limits(server, here, archives, model_api)
    flags = limits.java_flags(held, server.properties.get("vmargs", "").split())
    asked = [int(flag.removeprefix(POOL)) for flag in flags if re.fullmatch(f"{re.escape(POOL)}[0-9]+", flag)]
    flags = [flag for flag in flags if not flag.startswith(POOL)] + [f"{POOL}{max([here.pool_threads, *asked])}"]
    changes = {"vmargs": " ".join(flags)} | ({"disable_system_metrics": "true"} if quiet else {})
    changes |= {"max_request_size": str(held.request), "job_queue_size": str(held.queue)}
    # What is shipped is for a torchserve typed by hand; another pattern is the user's own.
    if server.properties.get("blacklist_env_vars") == worker_environment.withheld():
        changes["blacklist_env_vars"] = worker_environment.withheld(worker_environment.further(os.environ))
    kept = [line for line in lines if line.partition("=")[0].strip() not in changes]
    path = server.make_temp() / "config.properties"
    path.write_text("\n".join([*kept, *(f"{key}={value}" for key, value in changes.items())]) + "\n")
    return path


def environment(server: Server, threads: int, quiet: bool) -> dict[str, str]:
    """The environment TorchServe is started with: the right Java, our own folders, no stray settings."""
    found, remarks = java.find()
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
    if found is None:
        raise OpserveError(
            f"no Java {java.MINIMUM} or newer; `make env` installs one from PyPI into .venv, or set JAVA_HOME"
        )
    temp = str(server.make_temp())
    inherited = worker_environment.passed(os.environ)
    inherited = {name: value for name, value in inherited.items() if name not in OVERRIDES}
    # Also for what hooks call: NumPy's linear algebra would take every core in every worker.
    fitted = {"OPSERVE_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    executables = Path(sys.executable).parent
    return (
        fitted
        | inherited
        | (QUIET if quiet else {})
        | {
            "JAVA_HOME": str(found.home),
            "TMPDIR": temp,
            "TEMP": temp,
            "PWD": str(server.home),
            "PATH": f"{executables}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }
    )


def launch(
    server: Server, archives: Collection[mar.Archive], model_api: bool = False, quiet: bool = False
) -> psutil.Process:
    """Run the real `torchserve` in the home folder and return its Java process."""
    here = machine.find()
    executable = Path(sys.executable).parent / "torchserve"
    if not executable.is_file():
        raise OpserveError(f"{executable} does not exist; `make env` installs TorchServe")
    # By name: `all` would also try every folder in the model store as an unpacked archive.
    models = [archive.path.name for archive in archives]
    command = [
        str(executable),
        "--start",
        "--ncs",
        "--ts-config",
        str(fitted_config(server, here, quiet, archives, model_api)),
    ]
    command += [
        "--model-store",
        str(server.model_store),
        "--log-config",
        str(LOG_CONFIG),
        "--models",
        *models,
    ]
    if model_api:
        command.append(MODEL_API)
    env = environment(server, here.share(count_models(archives)), quiet)
    # Whole or not at all: a launcher that is cut short may have a frontend that nobody knows of yet.
    with (server.logs / CONSOLE).open("wb") as console, deferred():
        # A session of its own: Ctrl-C in this terminal is not for it. The umask keeps the tokens private.
        done = subprocess.run(
            command,
            cwd=server.home,
            env=env,
            stdin=subprocess.DEVNULL,
            check=False,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
            preexec_fn=limits.restrict_process,
            timeout=LAUNCH_S,
        )
    pid_file = server.temp / PID_FILE
    if done.returncode or not pid_file.is_file():
        raise OpserveError(f"torchserve did not start: {console_text(server)}")
    try:
        return psutil.Process(int(pid_file.read_text()))
    except psutil.NoSuchProcess:
        raise OpserveError(f"torchserve ended at once: {console_text(server)}") from None


def count_models(archives: Collection[mar.Archive]) -> int:
    """How many models share the machine; of several versions one is asked."""
    return len({archive.model for archive in archives})


def add_workers(server: Server, archives: list[mar.Archive]) -> None:
    """Give each model that may have more workers than it starts with its share of the cores."""
    share = machine.find().share(count_models(archives))
    for model in dict.fromkeys(archive.model for archive in archives):
        described = server.require_model(model)
        fewest, most = int(described["minWorkers"]), int(described["maxWorkers"])
        workers = min(most, share)
        # On a GPU it is memory that decides, which is the user's to divide.
        if workers <= fewest or fewest == 0 or any(worker.get("gpu") for worker in described["workers"]):
            continue
        set_workers(server, model, workers, most)


def console_text(server: Server) -> str:
    """What the Java process itself wrote last."""
    with contextlib.suppress(OSError):
        said = (server.logs / CONSOLE).read_text(errors="replace").splitlines()
        text = "\n".join(line for line in said if not line.startswith("Warning: TorchServe is using"))[-4000:]
        if text:
            return text
    try:
        faults.check_room(server.logs)
    except OpserveError as error:
        return str(error)
    return "(it wrote nothing)"


def wait_ready(
    server: Server, frontend: psutil.Process, archives: list[mar.Archive], mark: LogMark, timeout: float
) -> None:
    """Wait until every model has a READY worker; a worker or frontend that dies is an error at once."""
    deadline = time.monotonic() + timeout
    waiting = {(archive.model, archive.version) for archive in archives}
    while waiting:
        for archive, reason in mark.refused_archives():
            raise OpserveError(f"TorchServe cannot open {archive}: {reason.strip()}; build it again (`make archive`)")
        for worker in mark.dead_workers():
            raise OpserveError(f"a worker of {model_of(worker)} died while it loaded:\n{mark.last_words(worker)}")
        if not processes.alive(frontend):
            raise OpserveError(f"TorchServe ended while it started:\n{_reason(server, mark)}")
        waiting -= {each for each in waiting if _is_ready(server, *each)}
        if waiting and time.monotonic() > deadline:
            raise OpserveError(
                f"not ready after {timeout:.0f} s: {', '.join(sorted(map(' '.join, waiting)))}; "
                f"{server.logs}/model_log.log says what the workers do; --timeout waits longer"
            )
        time.sleep(POLL_S)


def _reason(server: Server, mark: LogMark) -> str:
    errors = [line for line in mark.text(mark.ts_log).splitlines() if "[ERROR]" in line or "Exception" in line]
    return "\n".join([*errors[:5], console_text(server)])


def _is_ready(server: Server, model: str, version: str) -> bool:
    try:
        described = server.describe(model, version)
    except OpserveError:  # not listening yet, or a key file that is not written yet
        return False
    if described is None:
        return False
    return ready_workers(described) > 0 or int(described["minWorkers"]) == 0


def try_samples(server: Server, archives: list[mar.Archive]) -> None:
    """Predict every archive's sample; a wrong answer is an error."""
    tried: set[str] = set()
    for archive in archives:
        # The first version of a model is the default one.
        name = archive.model if archive.model not in tried else f"{archive.model}/{archive.version}"
        tried.add(archive.model)
        if archive.sample is None:
            print(f"{name}\n  ready; {archive.path.name} carries no sample to try")
            continue
        try_sample(server, name, archive, name)
        print(f"  {curl(server, name, archive.sample)}")


def join(
    server: Server,
    frontend: psutil.Process,
    models: list[str],
    timeout: float,
    predict: bool,
    model_api: bool,
    quiet: bool,
) -> None:
    """Say that a server runs already, and wait for one that has only just been started."""
    if quiet and not QUIET.items() <= frontend.environ().items():
        raise OpserveError(f"it runs with its access log and metrics (pid {frontend.pid}); `make stop start QUIET=1`")
    if model_api and MODEL_API not in frontend.cmdline():
        raise OpserveError(f"it runs without the model API (pid {frontend.pid}); `make stop start MODEL_API=1`")
    print(f"already running (pid {frontend.pid}); `make stop` stops it")
    mark = LogMark(server.logs)
    deadline = time.monotonic() + timeout
    while not _answers(server):
        if not processes.alive(frontend) or time.monotonic() > deadline:
            raise OpserveError(f"it does not answer at {server.address('management')}; `make logs` shows more")
        time.sleep(POLL_S)
    running = {name: server.versions(name) for name in server.models()}
    archives = [each for each in chosen_archives(server, models) if each.version in running.get(each.model, {})]
    wait_ready(server, frontend, archives, mark, timeout)
    status.show(server)
    for archive in archives:
        started = [worker["startTime"] for worker in running[archive.model][archive.version]["workers"]]
        if started and archive.path.stat().st_mtime > datetime.fromisoformat(min(started)).timestamp():
            print(f"note: {archive.path.name} is newer than what is served; `make stop start` serves it")
    if predict:
        try_samples(server, archives)


def _answers(server: Server) -> bool:
    try:
        server.models()
    except OpserveError:  # not listening yet, or a key file that is not written yet
        return False
    return True


def start(
    server: Server,
    models: list[str],
    timeout: float,
    predict: bool = False,
    model_api: bool = False,
    quiet: bool = False,
    supervised: list[str] | None = None,
) -> int:
    """Start the server, or say that it runs; whatever goes wrong on the way, nothing is left running.

    Args:
        supervised: the arguments with which a supervisor starts it again; without, there is none.
    """
    frontend = server.frontend()
    if frontend is not None and was_tried(server, frontend):
        join(server, frontend, models, timeout, predict, model_api, quiet)
        if supervised is not None:
            start_supervisor(server, supervised)
        return 0
    faults.check_store(server.model_store)
    archives = chosen_archives(server, models)
    faults.check(server)
    if frontend is not None:
        print(f"pid {frontend.pid} is of a start that was interrupted before it was tried: starting again")
    stop(server)  # what a killed server, or an interrupted start, left behind
    faults.check(server)
    check_ports(server)
    check_metrics(server)
    mark = LogMark(server.logs)
    begun = time.monotonic()
    try:
        frontend = launch(server, archives, model_api, quiet)
        wait_ready(server, frontend, archives, mark, timeout)
        add_workers(server, archives)
        try_samples(server, archives)
        snapshot.save(server)
        if supervised is not None:
            start_supervisor(server, supervised)
        print(f"ready in {time.monotonic() - begun:.1f} s")
        status.show(server)
    except BaseException:
        with deferred():
            stop(server)
        raise
    return 0


def was_tried(server: Server, frontend: psutil.Process) -> bool:
    """Whether a server that runs is one whose start came to its end; one that was started by hand is."""
    return processes.used_temp_folder(frontend) != server.temp or (server.temp / snapshot.FILE).is_file()


def start_supervisor(server: Server, arguments: list[str]) -> None:
    """Leave a supervisor behind a server that `make start` has started, unless one is there."""
    frontend = server.frontend()
    if frontend is None or processes.used_temp_folder(frontend) != server.temp:
        return
    if supervise.supervisor_pid(server.temp) is not None:
        return
    command = [sys.executable, str(ROOT / "scripts" / "supervise.py"), *arguments]
    # As the start itself: the settings of the shell are those it starts the server with again.
    subprocess.Popen(
        command,
        cwd=server.home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + SUPERVISOR_S
    while supervise.supervisor_pid(server.temp) is None:
        if time.monotonic() > deadline:
            raise OpserveError(f"the supervisor did not start; {server.logs}/{supervise.LOG} may say why")
        time.sleep(POLL_S)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """What may be asked of a start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=[], help="archives to serve (all of the model store)")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="seconds to wait for the models (300)")
    parser.add_argument("--predict", action="store_true", help="try the samples also when it already runs")
    parser.add_argument("--model-api", action="store_true", help="let models be registered and deleted (deploy)")
    parser.add_argument("--quiet", action="store_true", help="no access log, and no metrics but TorchServe's counters")
    parser.add_argument("--no-supervisor", action="store_true", help="leave nothing that starts it again when it ends")
    add_arguments(parser)
    return parser.parse_args(arguments)


def again(options: argparse.Namespace, server: Server) -> list[str]:
    """The arguments with which the same server is started again, from any folder."""
    found = ["--home", str(server.home), "--config", str(server.config), "--model-store", str(server.model_store)]
    found += ["--timeout", str(options.timeout)]
    found += ["--model-api"] * options.model_api + ["--quiet"] * options.quiet
    return found + (["--models", *options.models] if options.models else [])


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    options = parse(arguments)
    server = Server.of(options)
    with alone(server):
        supervised = None if options.no_supervisor else again(options, server)
        return start(
            server, options.models, options.timeout, options.predict, options.model_api, options.quiet, supervised
        )


if __name__ == "__main__":
    run(main)
