"""Starts the server of a home folder, with a supervisor, and stops both."""

import subprocess
import sys
import time
from datetime import datetime

import psutil

from archive.errors import OpserveError
from archive.process.signals import deferred
from archive.repository import ROOT
from scripts.torchserve import preflight, processes, snapshot, supervision, supervisor
from scripts.torchserve.archives import Archive
from scripts.torchserve.arguments import StartOptions
from scripts.torchserve.cleanup import clean_up
from scripts.torchserve.client import check_sample
from scripts.torchserve.curl import predict_command
from scripts.torchserve.launch import MODEL_API, QUIET, launch
from scripts.torchserve.model_store import select_archives
from scripts.torchserve.readiness import wait_until_answering, wait_until_ready
from scripts.torchserve.scaling import scale_to_cores
from scripts.torchserve.server import Server, server_lock
from scripts.torchserve.status import show_status
from scripts.torchserve.worker_log import LogMark

POLL_S = 0.1
SUPERVISOR_STARTS_WITHIN_S = 20.0
RESTART_ENDS_WITHIN_S = 60.0


def start(server: Server, options: StartOptions, *, predict: bool = False, supervised: bool = True) -> None:
    """Starts the server and tries its models, or reports that it is running; after an error, nothing is left running.

    Args:
        server: the server.
        options: how to start it, and how its supervisor starts it again.
        predict: whether to try the models also when it is already running.
        supervised: whether to leave a supervisor that starts it again when it ends.
    """
    with server_lock(server):
        frontend = server.frontend()
        if frontend is not None and _is_started(server, frontend):
            _join(server, frontend, options, predict=predict)
            if supervised:
                _start_supervisor(server, options)
            return
        preflight.check_model_store(server.model_store)
        archives = select_archives(server, options.models)
        preflight.check_workers(archives)
        preflight.check_folders(server)
        if frontend is not None:
            print(f"pid {frontend.pid} was left by a start that was interrupted: starting again")
        end_processes(server)
        preflight.check(server)
        mark, begun = LogMark(server.logs), time.monotonic()
        try:
            frontend = launch(server, archives, model_api=options.model_api, quiet=options.quiet)
            wait_until_ready(server, frontend, archives, mark, options.timeout)
            scale_to_cores(server, archives)
            _try_samples(server, archives)
            snapshot.save(server)
            if supervised:
                _start_supervisor(server, options)
            print(f"ready in {time.monotonic() - begun:.1f} s")
            show_status(server)
        except BaseException:
            with deferred():
                end_processes(server)
            raise


def _is_started(server: Server, frontend: psutil.Process) -> bool:
    """Whether the start of a running server was completed; one started by other means counts as started."""
    return processes.used_temp_folder(frontend) != server.temp or (server.temp / snapshot.FILE).is_file()


def _join(server: Server, frontend: psutil.Process, options: StartOptions, *, predict: bool) -> None:
    """Reports that a server is already running, and waits for one that has only just been started."""
    if options.quiet and not QUIET.items() <= frontend.environ().items():
        raise OpserveError(f"it runs with its access log and metrics (pid {frontend.pid}); `make stop start QUIET=1`")
    if options.model_api and MODEL_API not in frontend.cmdline():
        raise OpserveError(f"it runs without the model API (pid {frontend.pid}); `make stop start MODEL_API=1`")
    print(f"already running (pid {frontend.pid}); `make stop` stops it")
    mark = LogMark(server.logs)
    wait_until_answering(server, frontend, mark, options.timeout)
    running = {name: server.versions(name) for name in server.models()}
    archives = [each for each in select_archives(server, options.models) if each.version in running.get(each.model, {})]
    wait_until_ready(server, frontend, archives, mark, options.timeout)
    show_status(server)
    for archive in archives:
        started = [worker["startTime"] for worker in running[archive.model][archive.version]["workers"]]
        if started and archive.path.stat().st_mtime > datetime.fromisoformat(min(started)).timestamp():
            print(f"note: {archive.path.name} is newer than the one being served; `make stop start` serves it")
    if predict:
        _try_samples(server, archives)


def _try_samples(server: Server, archives: list[Archive]) -> None:
    """Predicts every archive's sample; a wrong answer is an error."""
    tried: set[str] = set()
    for archive in archives:
        # The first version of a model is the default one.
        name = archive.model if archive.model not in tried else f"{archive.model}/{archive.version}"
        tried.add(archive.model)
        if archive.sample is None:
            print(f"{name}\n  ready; {archive.path.name} has no sample to try")
            continue
        check_sample(server, name, archive, name)
        print(f"  {predict_command(server, name, archive.sample)}")


def _start_supervisor(server: Server, options: StartOptions) -> None:
    """Leaves a supervisor running for a server that `make start` started, unless there is one."""
    frontend = server.frontend()
    if frontend is None or processes.used_temp_folder(frontend) != server.temp:
        return
    if supervision.find_supervisor(server.temp) is not None:
        return
    # With this shell's environment: the server is started again with the same settings.
    subprocess.Popen(
        [sys.executable, "-m", "scripts.supervise", *options.start_arguments()],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + SUPERVISOR_STARTS_WITHIN_S
    while supervision.find_supervisor(server.temp) is None:
        if time.monotonic() > deadline:
            raise OpserveError(f"the supervisor did not start; {server.logs}/{supervisor.LOG} may say why")
        time.sleep(POLL_S)


def stop(server: Server) -> bool:
    """Stops the server of a home and its supervisor, and cleans up.

    A supervisor that is starting the server again is stopped too; another start or a deploy is not interrupted. Returns
    whether anything was running.
    """
    supervised = supervision.find_supervisor(server.temp) is not None
    restarting = supervised and supervision.read_state(server.temp).get("now") == "restarting"
    ended = restarting and _end_supervisor(server)
    with server_lock(server, RESTART_ENDS_WITHIN_S if restarting else 0):
        return end_processes(server) or ended


def end_processes(server: Server) -> bool:
    """Ends the processes of a home, whose lock the caller holds, and cleans up; returns whether any was running."""
    supervised = _end_supervisor(server)
    return clean_up(server) or supervised


def _end_supervisor(server: Server) -> bool:
    """Ends the supervisor, if there is one and it did not itself start this process; returns whether it did."""
    pid = supervision.find_supervisor(server.temp)
    if pid is None:
        return False
    try:
        process = psutil.Process(pid)
        if pid in {parent.pid for parent in psutil.Process().parents()}:
            return False
        # It first ends what it has started, which may be a start.
        processes.terminate([process], supervisor.CHILD_GRACE_S)
    except psutil.NoSuchProcess:
        pass
    return True
