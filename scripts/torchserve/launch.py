"""Runs the real `torchserve` command with a fitted configuration and a clean environment."""

import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import psutil

from archive.errors import OpserveError
from archive.process.signals import deferred
from archive.repository import ROOT
from scripts.torchserve import frontend_limits, java, worker_environment
from scripts.torchserve.archives import Archive
from scripts.torchserve.fitting import write_fitted_config
from scripts.torchserve.machine import find_machine
from scripts.torchserve.model_store import count_models
from scripts.torchserve.readiness import CONSOLE, console_text
from scripts.torchserve.server import Server
from scripts.torchserve.supervision import SERVER_PID_FILE

# The launcher starts Java and does not wait for it.
LAUNCH_S = 60.0
# Allows anyone who has the management token to register and delete models.
MODEL_API = "--enable-model-api"
LOG_CONFIG = ROOT / "log4j2.properties"
# Read by log4j2.properties and by the workers.
QUIET = {"OPSERVE_ACCESS_LOG": "off", "OPSERVE_METRICS": "off"}
# Settings of the surrounding shell that would make this another server than config.properties describes.
OVERRIDES = ("TS_CONFIG_FILE", "LOG_LOCATION", "METRICS_LOCATION", "PYTHONPATH", "PYTHONHOME")


def make_environment(server: Server, threads: int, *, quiet: bool) -> dict[str, str]:
    """Returns the environment that TorchServe is started with: the right Java, our own folders, no stray settings."""
    found, remarks = java.find_java()
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
    if found is None:
        raise OpserveError(
            f"no Java {java.MINIMUM_VERSION} or newer; `make env` installs one from PyPI into .venv, or set JAVA_HOME"
        )
    temp = str(server.make_temp())
    inherited = worker_environment.filter_environment(os.environ)
    inherited = {name: value for name, value in inherited.items() if name not in OVERRIDES}
    # Also for what hooks call: NumPy's linear algebra would take every core in every worker.
    threads_of_workers = {"OPSERVE_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    return {
        **threads_of_workers,
        **inherited,
        **(QUIET if quiet else {}),
        "JAVA_HOME": str(found.home),
        "TMPDIR": temp,
        "TEMP": temp,
        "PWD": str(server.home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }


def launch(
    server: Server, archives: Collection[Archive], *, model_api: bool = False, quiet: bool = False
) -> psutil.Process:
    """Runs `torchserve` in the home folder and returns its Java process."""
    here = find_machine()
    executable = Path(sys.executable).parent / "torchserve"
    if not executable.is_file():
        raise OpserveError(f"{executable} does not exist; `make env` installs TorchServe")
    config = write_fitted_config(server, here, archives, quiet=quiet, model_api=model_api)
    command = [str(executable), "--start", "--ncs", "--ts-config", str(config)]
    command += ["--model-store", str(server.model_store), "--log-config", str(LOG_CONFIG)]
    # By name: `all` would also try every folder in the model store as an unpacked archive.
    command += ["--models", *(archive.path.name for archive in archives), *([MODEL_API] if model_api else [])]
    environment = make_environment(server, here.threads_per_model(count_models(archives)), quiet=quiet)
    # A launcher that is interrupted may have started a frontend without having written its pid.
    with (server.logs / CONSOLE).open("wb") as console, deferred():
        # In a session of its own, Ctrl-C in this terminal does not reach it. The umask keeps the tokens private.
        done = subprocess.run(
            command,
            cwd=server.home,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
            preexec_fn=frontend_limits.restrict_process,
            timeout=LAUNCH_S,
        )
    pid_file = server.temp / SERVER_PID_FILE
    if done.returncode or not pid_file.is_file():
        raise OpserveError(f"torchserve did not start: {console_text(server)}")
    try:
        return psutil.Process(int(pid_file.read_text()))
    except psutil.NoSuchProcess:
        raise OpserveError(f"torchserve ended at once: {console_text(server)}") from None
