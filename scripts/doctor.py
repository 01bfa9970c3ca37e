"""Checks every prerequisite, one line each with its fix; needs nothing but the system's Python.

Runs on Python 3.6 too, as do the modules it imports: a Python that is too old is one of the things it reports.
"""

import sys

if not __package__:  # run as a file: import from the repository, not from this folder
    sys.path[0] = __file__.rpartition("/scripts/")[0]

import argparse
import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from archive.errors import OpserveError
from archive.repository import ROOT
from scripts.torchserve import frontend_limits, java, machine

VENV_PYTHON = ROOT / ".venv" / "bin" / "python"
OK, FAIL, NONE = "OK", "FAIL", "—"
GIB = 2**30
# torch and onnxruntime-gpu with their CUDA libraries take this much, unpacked; a CPU-only torch far less.
ENVIRONMENT_GIB, BUILD_GIB = 10, 1
MEMORY_GIB = 2
PROBE = """
#include <concepts>
#include <cstdio>
#include <span>
template <std::integral T> T sum(std::span<const T> values) { T s = 0; for (T v : values) s += v; return s; }
int main() { const int values[] = {1, 2, 3}; std::printf("%d", sum(std::span<const int>(values))); }
"""


def run(*command, timeout=60):
    """(exit status or None when it does not run, output and errors together) of a command."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return None, str(error)
    return done.returncode, done.stdout.strip()


def last_line(text):
    """The line of an output that says what is wrong."""
    return text.splitlines()[-1] if text else "no output"


def python():
    """The Python that `make env` would use, and its venv."""
    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return FAIL, version, "name a Python 3.11 to 3.13: make serve PYTHON=python3.12"
    if not VENV_PYTHON.exists() and run(sys.executable, "-c", "import venv, ensurepip")[0] != 0:
        return FAIL, f"{version} without venv or ensurepip", "apt install python3-venv, or PYTHON=python3.12"
    return OK, f"{version} ({sys.executable})", ""


def make():
    """GNU make."""
    code, text = run("make", "--version")
    found = re.match(r"GNU Make (\d+)", text)
    if code != 0 or not found or int(found.group(1)) < 4:
        return FAIL, last_line(text), "install GNU make 4 or newer (Debian, Ubuntu: apt install make)"
    return OK, text.splitlines()[0], ""


def compiler():
    """A C++20 compiler that really makes a program that runs."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    found = next((path for path in map(shutil.which, names) if path), None)
    fix = "install one (Debian, Ubuntu: apt install g++), version 10 or newer, or set CXX"
    if found is None:
        return FAIL, f"no C++ compiler: {', '.join(names)} not on PATH", fix
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "probe.cpp", Path(folder) / "probe"
        source.write_text(PROBE)
        code, text = run(found, "-std=c++20", source, "-o", program)
        if code != 0 or run(program) != (0, "6"):
            errors = [line for line in text.splitlines() if "error" in line]
            reason = errors[0] if errors else last_line(text)
            return FAIL, f"{found} does not build a C++20 program: {reason}", fix
    return OK, f"{found}, {run(found, '--version')[1].splitlines()[0]}", ""


def java_runtime():
    """Java for TorchServe's frontend."""
    found, remarks = java.find_java(ROOT)
    note = "".join(f"; {remark}" for remark in remarks)
    if found is None:
        return NONE, f"none; `make env` installs one from PyPI{note}", ""
    return OK, f"Java {found.version} ({found.origin}: {found.home}){note}", ""


def properties():
    """config.properties as a dictionary."""
    text = (ROOT / "config.properties").read_text()
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, value in pairs}


def our_server():
    """The pid of the frontend that runs in this folder, or None."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            if b"org.pytorch.serve.ModelServer" in command and (folder / "cwd").resolve() == ROOT:
                return int(folder.name)
        except OSError:
            continue
    return None


def ports():
    """The server's ports are free, or it is our server that holds them."""
    pid = our_server()
    if pid is not None:
        return OK, f"our server is running (pid {pid})", ""
    wanted = [(k, v.rpartition(":")[2]) for k, v in properties().items() if k.endswith("_address") and "://" in v]
    wanted += [(k, v) for k, v in properties().items() if k.startswith("grpc_") and k.endswith("_port")]
    for name, port in wanted:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", int(port)))
            except OSError as error:
                fix = f"stop what listens there (ss -ltnp shows it), or set another {name} in config.properties"
                return FAIL, f"{name} {port}: {error.strerror}", fix
    return OK, ", ".join(port for _, port in wanted) + " are free", ""


def disk():
    """Room for what is still to be installed or built."""
    needed = BUILD_GIB if VENV_PYTHON.exists() else ENVIRONMENT_GIB
    free = shutil.disk_usage(ROOT).free / GIB
    if free < BUILD_GIB:
        return FAIL, f"{free:.1f} GiB free in {ROOT}", f"make room: {needed} GiB are needed"
    if free < needed:
        return NONE, f"{free:.1f} GiB free; a CUDA build of PyTorch may need {needed}", ""
    return OK, f"{free:.0f} GiB free", ""


def memory():
    """Room for the frontend and a worker."""
    found = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    available = int(found.group(1)) / 2**20 if found else 0
    if available < MEMORY_GIB:
        return FAIL, f"{available:.1f} GiB available", f"end other programs: {MEMORY_GIB} GiB are needed"
    return OK, f"{available:.0f} GiB available", ""


def cores():
    """What workers and threads follow from."""
    try:
        here = machine.find_machine()
    except OpserveError as error:
        return FAIL, str(error), f"unset {machine.CORES_VARIABLE}, or set it to a number"
    models = len(list((ROOT / "model_store").glob("*.mar")))
    workers = (
        f"the workers of {models} models {here.threads_per_model(models)} each"
        if models > 1
        else f"workers {here.threads_per_model(1)}"
    )
    text = f"{here.cores} ({here.origin}); threads: {workers}, Java's common pool {here.pool_threads}"
    return OK, text, ""


def limits():
    """What TorchServe's frontend may hold: heap, direct memory, requests and connections that agree."""
    try:
        here, (available, origin) = machine.find_machine(), machine.find_memory()
    except OpserveError as error:
        return FAIL, str(error), "unset that variable, or set it to a number"
    request, queue, heap = frontend_limits.read_configured(properties())
    stored = sorted((ROOT / "model_store").glob("*.mar"))
    queues = [frontend_limits.read_queue(path, workers=here.threads_per_model(len(stored))) for path in stored]
    found = frontend_limits.fit_limits(available, queues, request, queue, heap)
    text = f"{found} (of {available // frontend_limits.MIB} MiB, {origin}, for {max(1, len(stored))} models)"
    if not found.fits:
        fix = "serve fewer models, lower max_request_size or a model's jobQueueSize, or give the server more memory"
        return NONE, f"{text}: full queues would take {found.required // frontend_limits.MIB} MiB of heap", fix
    if (found.request, found.queue) != (request, queue):
        asked = f"{request / frontend_limits.MIB:.4g} MiB and {queue}"
        fix = "make start lowers them; for a torchserve started by hand write the lower ones into config.properties"
        return NONE, f"{text}: config.properties asks for {asked}", fix
    runtime, _ = java.find_java(ROOT)
    if runtime is not None and runtime.version >= frontend_limits.JAVA_WITHOUT_COUNT:
        fix = "set JAVA_HOME to a Java 17, where the connection that asks for too much is closed at once"
        return NONE, f"{text}; under Java {runtime.version} unfinished bodies that fill it hold up others", fix
    return OK, text, ""


def cuda():
    """A GPU and its compiler; without them everything runs on the CPU."""
    code, text = run("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    if code != 0:
        return NONE, "no NVIDIA driver: everything runs on the CPU", ""
    nvcc = run("nvcc", "--version")
    compiler_text = last_line(nvcc[1]) if nvcc[0] == 0 else "no nvcc: operators are built for the CPU"
    return OK, f"{text.splitlines()[0]}; {compiler_text}", ""


def environment():
    """.venv, with TorchServe in it."""
    if not (ROOT / ".venv" / "opserve.json").is_file():
        return NONE, "not made yet; `make env` makes it", ""
    code, text = run(VENV_PYTHON, "-c", "import ts, torch, yaml, requests, psutil; print(torch.__version__)")
    if code != 0:
        return FAIL, f".venv: {last_line(text)}", "make distclean env"
    return OK, f"torchserve and torch {text} import", ""


def library():
    """The operator library is built and loads."""
    if not (ROOT / "build" / "lib" / "libopserve_torch.so").is_file():
        return NONE, "not built yet; `make ext` builds it", ""
    code, text = run(VENV_PYTHON, "-c", "import opserve_ops")
    if code != 0:
        return FAIL, last_line(text), "make clean ext"
    return OK, "opserve_ops imports", ""


def archives():
    """What the model store holds."""
    found = sorted(path.stem for path in (ROOT / "model_store").glob("*.mar"))
    return (OK, ", ".join(found), "") if found else (NONE, "none yet; `make archive` packs them", "")


CHECKS = {
    "python": python,
    "make": make,
    "compiler": compiler,
    "java": java_runtime,
    "ports": ports,
    "disk": disk,
    "memory": memory,
    "cores": cores,
    "limits": limits,
    "cuda": cuda,
    "environment": environment,
    "library": library,
    "archives": archives,
}


def show(line):
    """Print a line, also where the terminal's encoding lacks some of its characters."""
    encoding = sys.stdout.encoding or "ascii"
    print(line.encode(encoding, "replace").decode(encoding))


def main(arguments=None):
    """Entry point: 1 when something that blocks is amiss."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=list(CHECKS), help="one check, silent unless it fails")
    options = parser.parse_args(arguments)
    failed = False
    for name, check in CHECKS.items():
        if options.only not in (None, name):
            continue
        state, found, fix = check()
        failed = failed or state == FAIL
        if options.only and state == FAIL:
            print(f"error: {found}; {fix}", file=sys.stderr)
        elif not options.only:
            show(f"{state:<5} {name:<12} {found}")
            if fix:
                show(f"{'':<18} fix: {fix}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
