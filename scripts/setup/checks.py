"""The checks of `make doctor`; for Python 3.6 and the standard library alone."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from archive.errors import OpserveError
from archive.repository import ROOT
from scripts.torchserve import java
from scripts.torchserve.configuration import FILE_NAME, parse_addresses, read_properties
from scripts.torchserve.frontend_limits import JAVA_WITHOUT_COUNT, MIB, fit_limits, read_configured, read_queue
from scripts.torchserve.machine import find_machine, find_memory
from scripts.torchserve.ports import bind_error

VENV_PYTHON = ROOT / ".venv" / "bin" / "python"
# Fine; missing or wrong; not there, but opserve works without it.
OK, FAIL, NONE = "OK", "FAIL", "—"
GIB = 2**30
# PyTorch and onnxruntime-gpu with their CUDA libraries take this much, unpacked; a CPU-only PyTorch far less.
ENVIRONMENT_GIB, BUILD_GIB = 10, 1
MEMORY_GIB = 2
PROBE = """
#include <concepts>
#include <cstdio>
#include <span>
template <std::integral T> T sum(std::span<const T> values) { T s = 0; for (T v : values) s += v; return s; }
int main() { const int values[] = {1, 2, 3}; std::printf("%d", sum(std::span<const int>(values))); }
"""


# What the native worker is built with: a header, and the Debian package that contains it.
HEADERS = {"isa-l.h": "libisal-dev", "jpeglib.h": "libjpeg-dev", "openssl/evp.h": "libssl-dev"}


class Result(NamedTuple):
    """The outcome of a check: OK, FAIL or NONE, what was found, and how to fix it."""

    state: str
    text: str
    fix: str = ""


def run(*command: object) -> "tuple[int | None, str]":
    """Runs a command; returns its exit status, or None if it does not run, and its output and errors together."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return None, str(error)
    return done.returncode, done.stdout.strip()


def _last_line(text: str) -> str:
    return text.splitlines()[-1] if text else "no output"


def _check_python() -> Result:
    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Result(FAIL, version, "name a Python 3.11 to 3.13: make serve PYTHON=python3.12")
    if not VENV_PYTHON.exists() and run(sys.executable, "-c", "import venv, ensurepip")[0] != 0:
        return Result(FAIL, f"{version} without venv or ensurepip", "apt install python3-venv, or PYTHON=python3.12")
    return Result(OK, f"{version} ({sys.executable})")


def _check_make() -> Result:
    code, text = run("make", "--version")
    found = re.match(r"GNU Make (\d+)", text)
    if code != 0 or not found or int(found.group(1)) < 4:
        return Result(FAIL, _last_line(text), "install GNU make 4 or newer (Debian, Ubuntu: apt install make)")
    return Result(OK, text.splitlines()[0])


def _compilers() -> "list[str]":
    return [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]


def _find_compiler() -> "str | None":
    return next((path for path in map(shutil.which, _compilers()) if path), None)


def _check_compiler() -> Result:
    found = _find_compiler()
    fix = "install one (Debian, Ubuntu: apt install g++), version 10 or newer, or set CXX"
    if found is None:
        return Result(FAIL, f"no C++ compiler: {', '.join(_compilers())} not on PATH", fix)
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "probe.cpp", Path(folder) / "probe"
        source.write_text(PROBE)
        code, text = run(found, "-std=c++20", source, "-o", program)
        if code != 0 or run(program) != (0, "6"):
            errors = [line for line in text.splitlines() if "error" in line]
            reason = errors[0] if errors else _last_line(text)
            return Result(FAIL, f"{found} does not build a C++20 program: {reason}", fix)
    return Result(OK, f"{found}, {run(found, '--version')[1].splitlines()[0]}")


def missing_headers() -> "dict[str, str]":
    """The headers that the native worker needs and the compiler does not find, with their packages."""
    compiler = _find_compiler()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.cpp"
        found = []
        for header in HEADERS:
            # libjpeg's needs the standard one before it.
            source.write_text(f"#include <cstdio>\n#include <{header}>\n")
            if compiler and run(compiler, "-fsyntax-only", source)[0] == 0:
                found.append(header)
    return {header: package for header, package in HEADERS.items() if header not in found}


def _check_worker() -> Result:
    missing = missing_headers()
    if missing:
        fix = "Debian, Ubuntu: apt install {}; then make ext".format(" ".join(missing.values()))
        return Result(NONE, f"models are served by Python: {', '.join(missing)} not found", fix)
    if not any((ROOT / ".venv").glob("lib/python*/site-packages/ts/cpp/bin/model_worker_socket")):
        return Result(NONE, "not built yet; `make ext` builds it")
    return Result(OK, "models that need no Python are served without it")


def _check_java() -> Result:
    found, remarks = java.find_java(ROOT)
    note = "".join(f"; {remark}" for remark in remarks)
    if found is None:
        return Result(NONE, f"none; `make env` installs one from PyPI{note}")
    return Result(OK, f"Java {found.version} ({found.origin}: {found.home}){note}")


def _find_server() -> "int | None":
    """The pid of the frontend that runs in this folder, or None."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            if b"org.pytorch.serve.ModelServer" in command and (folder / "cwd").resolve() == ROOT:
                return int(folder.name)
        except OSError:
            continue
    return None


def _check_ports() -> Result:
    pid = _find_server()
    if pid is not None:
        return Result(OK, f"this folder's server is running (pid {pid})")
    addresses = parse_addresses(read_properties(ROOT / FILE_NAME))
    for name, (host, port) in addresses.items():
        error = bind_error(port, host)
        if error is not None:
            fix = f"stop the process that listens there (ss -ltnp shows it), or set another {name} in {FILE_NAME}"
            return Result(FAIL, f"{name} {port}: {error.strerror}", fix)
    return Result(OK, ", ".join(str(port) for _, port in addresses.values()) + " are free")


def _check_disk() -> Result:
    needed = BUILD_GIB if VENV_PYTHON.exists() else ENVIRONMENT_GIB
    free = shutil.disk_usage(str(ROOT)).free / GIB
    if free < BUILD_GIB:
        return Result(FAIL, f"{free:.1f} GiB free in {ROOT}", f"make room: {needed} GiB are needed")
    if free < needed:
        return Result(NONE, f"{free:.1f} GiB free; a CUDA build of PyTorch may need {needed}")
    return Result(OK, f"{free:.0f} GiB free")


def _check_memory() -> Result:
    found = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    available = int(found.group(1)) / 2**20 if found else 0
    if available < MEMORY_GIB:
        return Result(FAIL, f"{available:.1f} GiB available", f"end other programs: {MEMORY_GIB} GiB are needed")
    return Result(OK, f"{available:.0f} GiB available")


def _check_cores() -> Result:
    try:
        machine = find_machine()
    except OpserveError as error:
        return Result(FAIL, str(error), "unset it, or set it to a number")
    models = len(_list_archives())
    each = machine.threads_per_model(models)
    workers = f"the workers of {models} models {each} each" if models > 1 else f"workers {each}"
    threads = f"threads: {workers}, Java's common pool {machine.pool_threads}"
    return Result(OK, f"{machine.cores} ({machine.origin}); {threads}")


def _check_limits() -> Result:
    try:
        machine, (memory, origin) = find_machine(), find_memory()
    except OpserveError as error:
        return Result(FAIL, str(error), "unset it, or set it to a number")
    request, queue, heap = read_configured(read_properties(ROOT / FILE_NAME))
    stored = _list_archives()
    queues = [read_queue(path, workers=machine.threads_per_model(len(stored))) for path in stored]
    found = fit_limits(memory, queues, request, queue, heap)
    text = f"{found} (of {memory // MIB} MiB, {origin}, for {max(1, len(stored))} models)"
    if not found.fits:
        fix = "serve fewer models, lower max_request_size or a model's jobQueueSize, or give the server more memory"
        return Result(NONE, f"{text}: full queues would take {found.required // MIB} MiB of heap", fix)
    if (found.request, found.queue) != (request, queue):
        asked = f"{request / MIB:.4g} MiB and {queue}"
        fix = f"`make start` lowers them; for a torchserve typed by hand write the lower ones into {FILE_NAME}"
        return Result(NONE, f"{text}: {FILE_NAME} asks for {asked}", fix)
    runtime, _ = java.find_java(ROOT)
    if runtime is not None and runtime.version >= JAVA_WITHOUT_COUNT:
        fix = "set JAVA_HOME to a Java 17, where a connection that asks for too much is closed at once"
        return Result(NONE, f"{text}; under Java {runtime.version} unfinished bodies that fill it delay others", fix)
    return Result(OK, text)


def _check_cuda() -> Result:
    code, text = run("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    if code != 0:
        return Result(NONE, "no NVIDIA driver: everything runs on the CPU")
    nvcc = run("nvcc", "--version")
    compiler = _last_line(nvcc[1]) if nvcc[0] == 0 else "no nvcc: operators are built for the CPU"
    return Result(OK, f"{text.splitlines()[0]}; {compiler}")


def _check_environment() -> Result:
    if not (ROOT / ".venv" / "opserve.json").is_file():
        return Result(NONE, "not made yet; `make env` makes it")
    code, text = run(VENV_PYTHON, "-c", "import ts, torch, yaml, requests, psutil; print(torch.__version__)")
    if code != 0:
        return Result(FAIL, f".venv: {_last_line(text)}", "make distclean env")
    return Result(OK, f"torchserve and torch {text} import")


def _check_library() -> Result:
    if not (ROOT / "build" / "lib" / "libopserve_torch.so").is_file():
        return Result(NONE, "not built yet; `make ext` builds it")
    code, text = run(VENV_PYTHON, "-c", "import opserve_ops")
    if code != 0:
        return Result(FAIL, _last_line(text), "make clean ext")
    return Result(OK, "opserve_ops imports")


def _check_archives() -> Result:
    names = ", ".join(path.stem for path in _list_archives())
    return Result(OK, names) if names else Result(NONE, "none yet; `make archive` packs them")


def _list_archives() -> "list[Path]":
    return sorted((ROOT / "model_store").glob("*.mar"))


CHECKS = {
    "python": _check_python,
    "make": _check_make,
    "compiler": _check_compiler,
    "java": _check_java,
    "ports": _check_ports,
    "disk": _check_disk,
    "memory": _check_memory,
    "cores": _check_cores,
    "limits": _check_limits,
    "cuda": _check_cuda,
    "environment": _check_environment,
    "library": _check_library,
    "worker": _check_worker,
    "archives": _check_archives,
}
