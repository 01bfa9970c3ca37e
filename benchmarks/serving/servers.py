"""How a server is started, asked and stopped: one class for all, a few lines for each of them."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy
import requests

from benchmarks.payloads import Payload, oip_binary, oip_json
from benchmarks.serving import answers, environments, workloads
from benchmarks.serving.processes import Processes
from benchmarks.serving.workloads import SHARED_MEMORY, Workload
from scripts.torchserve.ports import free_ports

PEERS = Path(__file__).with_name("peers")
START_S = 120.0
POLL_S = 0.05
REQUEST_S = 60.0
OPERATORS = ("graph_plain", "graph_op")


class ServerFailed(Exception):
    """A server that does not start or dies; the message says what it said last."""


def over_the_network(workload: Workload) -> bool:
    """Whether a server takes a request: one that takes all which hold their arrays themselves."""
    return workload.format != SHARED_MEMORY


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that can be measured; its subclasses say how it is started.

    Attributes:
        name: in the table.
        distribution: the package whose version is shown; "" for none.
        environment: the peers' environment it runs in; "" for opserve's own.
        takes: whether it can take a workload at all.
        payload: the request as this server takes it.
        path: the path for a workload.
    """

    name: str
    distribution: str = ""
    environment: str = environments.COMMON
    takes: Callable[[Workload], bool] = over_the_network
    payload: Callable[[Workload], Payload] = Workload.payload
    path: Callable[[Workload], str] = lambda workload: f"/{workload.model}"

    def launch(self, models: Sequence[str], files: Path, python: Path | None, folder: Path) -> Running:
        """Start it.

        Args:
            models: what it serves.
            files: folder with the models' files.
            python: the peers' Python; `None` if there is none.
            folder: its current folder, and where its temporary files and its log go.

        Raises:
            ServerFailed: it did not start; nothing of it is left running.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class PeerServer(Server):
    """A server that is one command in the peers' environment.

    Attributes:
        command: its words, given that environment's Python and the port.
        variables: of its environment, beside those that say what is served.
    """

    command: Callable[[Path, int], list[str]]
    variables: Mapping[str, str] = field(default_factory=dict)

    def launch(self, models: Sequence[str], files: Path, python: Path | None, folder: Path) -> Running:
        """Start the command; it may not listen yet when this returns."""
        if python is None:
            raise ServerFailed("its environment was not made")
        (port, *_) = free_ports(3)
        variables = serving_variables(models, files, python, folder) | {"BENCH_PORT": str(port)} | dict(self.variables)
        processes, log = Processes(), folder / "server.log"
        started = processes.spawn(self.command(python, port), folder, log, variables)
        return Running(self, processes, f"http://127.0.0.1:{port}", log, started)


def serving_variables(models: Sequence[str], files: Path, python: Path, folder: Path) -> dict[str, str]:
    """What peers/common.py reads, and what keeps a server's files in its own folder."""
    return {
        "BENCH_FOLDER": str(files),
        "BENCH_SERVED": ",".join(models),
        "BENCH_PORT": "0",
        "PYTHONPATH": str(PEERS),
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(folder),
        **dict.fromkeys(("TMPDIR", "TEMP", "RAY_TMPDIR"), str(folder)),
    }


class Running:
    """A started server; `with` stops it whatever happens."""

    def __init__(
        self,
        server: Server,
        processes: Processes,
        address: str,
        log: Path | None = None,
        started: subprocess.Popen | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.server, self.processes, self.address, self.log = server, processes, address, log
        self.headers = dict(headers or {})
        self._started = started
        self._session = requests.Session()
        self._session.trust_env = False

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process of it."""
        self._session.close()
        self.processes.end()
        if self._started is not None:
            self._started.wait()

    def url(self, workload: Workload) -> str:
        """Where a workload is sent."""
        return self.address + self.server.path(workload)

    def idle(self, model: str) -> Collection[int]:
        """Process ids that serve only other models."""
        return ()

    def ask(self, workload: Workload) -> None:
        """Send a workload once.

        Raises:
            answers.WrongAnswer: it is not answered as it must be.
            ServerFailed: it is not answered.
        """
        payload = self.server.payload(workload)
        try:
            response = self._session.post(
                self.url(workload), data=payload.body, headers=dict(payload.headers) | self.headers, timeout=REQUEST_S
            )
        except requests.RequestException as error:
            raise ServerFailed(f"{workload.name}: no answer ({type(error).__name__})") from None
        answers.check(workload, response.status_code, response.content, response.headers)

    def wait(self, workload: Workload, limit: float = START_S) -> float:
        """Wait for the first right answer; the seconds it took.

        Raises:
            answers.WrongAnswer: its answer stays another one.
            ServerFailed: it ended, or did not answer in time.
        """
        begun = time.monotonic()
        while True:
            try:
                self.ask(workload)
                return time.monotonic() - begun
            except (answers.WrongAnswer, ServerFailed) as error:
                # 404 and 503 are what servers say that are still loading; the rest is their last word.
                loading = isinstance(error, ServerFailed) or any(
                    f"answered {code}" in str(error) for code in (404, 503)
                )
                if self._started is not None and self._started.poll() is not None:
                    raise ServerFailed(f"it ended while it started: {self.last_words()}") from None
                if not loading:
                    raise
                if time.monotonic() - begun > limit:
                    raise ServerFailed(f"not ready after {limit:.0f} s ({error}): {self.last_words()}") from None
            time.sleep(POLL_S)

    def last_words(self) -> str:
        """The end of what it wrote, in a line: its last error, if it wrote of any."""
        if self.log is None or not self.log.is_file():
            return "(it wrote nothing)"
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"(error:|ERROR|\w*(Error|Exception):)", line)]
        return " / ".join(errors[-1:] or lines[-3:])[-400:] or "(it wrote nothing)"


@contextlib.contextmanager
def work_folder():
    """A current folder and TMPDIR for one server: a short path, since sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="opserve-bs-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def script(name: str) -> Callable[[Path, int], list[str]]:
    """A program of peers/ that listens by itself."""
    return lambda python, port: [str(python), str(PEERS / f"{name}.py")]


def npz_as_part(workload: Workload) -> Payload:
    """For servers that take files as parts of a form only."""
    if workload.format != "npz":
        return workload.payload()
    return workloads.form({"npz": workload.payload().body})


def packed(workload: Workload) -> Payload:
    """For mosec, which has no forms: the same PNG in MessagePack."""
    if workload.format != "form":
        return workload.payload()
    return Payload(msgpack_map(workload.inputs), {"Content-Type": "application/msgpack"})


def msgpack_map(values: Mapping[str, numpy.ndarray | bytes]) -> bytes:
    """MessagePack of a map of bytes and of float32 matrices as nested lists."""

    def packed(value: object) -> bytes:
        if isinstance(value, bytes):
            return b"\xc6" + len(value).to_bytes(4, "big") + value
        if isinstance(value, list):
            return b"\xdc" + len(value).to_bytes(2, "big") + b"".join(map(packed, value))
        return b"\xcb" + numpy.array(value, ">f8").tobytes()

    out = io.BytesIO()
    out.write(bytes([0x80 | len(values)]))
    for name, value in values.items():
        out.write(bytes([0xA0 | len(name)]) + name.encode())
        out.write(packed(value if isinstance(value, bytes) else value.tolist()))
    return out.getvalue()


def protocol(workload: Workload) -> Payload:
    """For Triton, which speaks the Open Inference Protocol: JSON, or binary data in place of an `.npz` or a form."""
    if workload.format in ("json", "oip"):
        return oip_json(workload.inputs)
    inputs = {
        name: numpy.frombuffer(value, "uint8") if isinstance(value, bytes) else value
        for name, value in workload.inputs.items()
    }
    return oip_binary(inputs)


def bento_path(workload: Workload) -> str:
    """Each kind of request has its own route."""
    return f"/{workload.model}{'_npz' if workload.format == 'npz' else ''}"


def bento_payload(workload: Workload) -> Payload:
    """A form for files; its answer to them is a file as well."""
    payload = npz_as_part(workload)
    return Payload(payload.body, dict(payload.headers) | {"Accept": "*/*"})


def uvicorn(python: Path, port: int) -> list[str]:
    """One process, uvloop and httptools, no access log."""
    words = [str(python), "-m", "uvicorn", "fastapi_app:app", "--host", "127.0.0.1", "--port", str(port)]
    return [*words, "--workers", "1", "--no-access-log", "--log-level", "warning"]


def gunicorn(python: Path, port: int) -> list[str]:
    """One process whose threads hold the connections."""
    words = [str(python), "-m", "gunicorn", "flask_app:app", "-b", f"127.0.0.1:{port}", "-w", "1"]
    return [*words, "-k", "gthread", "--threads", "8", "--keep-alive", "60"]


def mosec(python: Path, port: int) -> list[str]:
    """Its program takes the address as arguments."""
    words = [str(python), str(PEERS / "mosec_app.py"), "--address", "127.0.0.1", "--port", str(port)]
    return [*words, "--log-level", "error"]


def bentoml(python: Path, port: int) -> list[str]:
    """Its own launcher."""
    words = [str(python), "-m", "bentoml", "serve", "bentoml_app:Predict", "--working-dir", str(PEERS)]
    return [*words, "--host", "127.0.0.1", "--port", str(port)]


def triton_path(workload: Workload) -> str:
    """The Open Inference Protocol's."""
    return f"/v2/models/{workload.model}/infer"


FASTAPI, FASTAPI_ORJSON = "FastAPI", "FastAPI, orjson"
MOSEC, MOSEC_BATCHES = "mosec", "mosec, batches of 8"
TRITON = "Triton"
PEER_SERVERS = [
    PeerServer(name=FASTAPI, distribution="fastapi", command=uvicorn),
    PeerServer(name=MOSEC, distribution="mosec", command=mosec, payload=packed),
    PeerServer(name=MOSEC_BATCHES, distribution="mosec", command=mosec, payload=packed, variables={"BENCH_BATCH": "8"}),
    PeerServer(name="Flask", distribution="flask", command=gunicorn),
    PeerServer(name="LitServe", distribution="litserve", command=script("litserve_app"), payload=npz_as_part),
    PeerServer(
        name="BentoML",
        distribution="bentoml",
        environment=environments.BENTOML,
        command=bentoml,
        variables={
            "BENTOML_DO_NOT_TRACK": "True",
            "BENTOML_CONFIG_OPTIONS": "api_server.logging.access.enabled=false",
        },
        payload=bento_payload,
        path=bento_path,
    ),
    PeerServer(
        name="Ray Serve",
        distribution="ray",
        command=script("ray_app"),
        variables={"RAY_USAGE_STATS_ENABLED": "0"},
    ),
    PeerServer(
        name=TRITON,
        distribution="nvidia-pytriton",
        environment=environments.TRITON,
        command=script("triton_app"),
        payload=protocol,
        path=triton_path,
    ),
    # Not what its guide shows: what is left of the difference when JSON is read and written as fast as a person can.
    PeerServer(name=FASTAPI_ORJSON, distribution="fastapi", command=uvicorn, variables={"BENCH_JSON": "orjson"}),
]
