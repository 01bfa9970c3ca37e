"""The two TorchServes: opserve's, started as its users start it, and a stock one with a plain BaseHandler."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
import orjson
import yaml

from archive.errors import ArchiveError
from archive.packer.archiver import run_model_archiver
from archive.packer.contents import ArchiveContents
from archive.packer.pack import pack
from archive.repository import ROOT
from benchmarks.payloads import REGION_PREFIX
from benchmarks.serving.network import FEATURES
from benchmarks.serving.processes import Processes
from benchmarks.serving.servers import PEERS, Running, Server, ServerFailed, serving_variables
from benchmarks.serving.workloads import LIBRARY, Workload
from scripts.torchserve import java, workers
from scripts.torchserve import server as scripts_server
from scripts.torchserve.configuration import write_config

# Workers and threads are those of everybody else, whatever a profile says.
EQUAL_WORKERS, EQUAL_THREADS = {"minWorkers": 1, "maxWorkers": 1}, {"threads": 1}
PROFILES = ("latency", "throughput")
OPSERVE = {profile: f"opserve, {profile}" for profile in PROFILES}
STOCK = "TorchServe, stock"
GRAPH_CONFIG = {
    "responseTimeout": 60,
    "startupTimeout": 60,
    "opserve": {
        "device": "cpu",
        "batching": "graph",
        "shared_memory": REGION_PREFIX,
        "inputs": [
            {"name": "rowptr", "dtype": "int32", "shape": [-1]},
            {"name": "col", "dtype": "int32", "shape": [-1]},
            {"name": "value", "dtype": "float32", "shape": [-1]},
            {"name": "x", "dtype": "float32", "shape": [-1, FEATURES]},
        ],
        "outputs": [
            {"name": "label", "dtype": "int64", "shape": [-1]},
            {"name": "probabilities", "dtype": "float32", "shape": [-1, 7]},
        ],
        "profile": "latency",
        # As in the shipped models.
        "profiles": {
            "latency": {"batchSize": 1, "maxBatchDelay": 1},
            "throughput": {"batchSize": 8, "maxBatchDelay": 1},
        },
    },
}
START_S = 120.0


def predictions(workload: Workload) -> str:
    """TorchServe's path."""
    return f"/predictions/{workload.model}"


@dataclass(frozen=True, kw_only=True)
class OpserveServer(Server):
    """opserve with one of its profiles; `model_store` holds the archives."""

    model_store: Path

    def launch(self, models: Sequence[str], files: Path, python: Path | None, folder: Path) -> Running:
        """Start it with scripts.start, on the shipped configuration with ports of its own."""
        processes = Processes()
        config = write_config(folder)
        command = [sys.executable, "-m", "scripts.start", "--home", str(folder), "--config", str(config)]
        command += ["--model-store", str(self.model_store), "--models", *models]
        log = folder / "server.log"
        running = TorchServeRunning(self, processes, folder, config, log)
        starting = processes.spawn(command, ROOT, log, {})
        try:
            status = starting.wait(START_S)
        except BaseException as error:
            running.stop()
            if isinstance(error, subprocess.TimeoutExpired):
                raise ServerFailed(f"not ready after {START_S:.0f} s: {running.last_words()}") from None
            raise
        if status:
            running.stop()
            raise ServerFailed(running.last_words())
        running.connect()
        return running


@dataclass(frozen=True, kw_only=True)
class StockServer(Server):
    """TorchServe as it is installed, one worker; `model_store` holds its archives."""

    model_store: Path

    def launch(self, models: Sequence[str], files: Path, python: Path | None, folder: Path) -> Running:
        """Start it with its own launcher."""
        if python is None:
            raise ServerFailed("its environment was not made")
        processes = Processes()
        config = write_config(folder, "default_workers_per_model=1\ndisable_system_metrics=false\n")
        found, _ = java.find_java()
        command = [str(python.parent / "torchserve"), "--start", "--foreground", "--ncs", "--model-store"]
        command += [
            str(self.model_store),
            "--models",
            *[f"{model}.mar" for model in models],
            "--ts-config",
            str(config),
        ]
        variables = serving_variables(models, files, python, folder)
        del variables["PYTHONPATH"]  # a worker finds its modules in its archive
        if found is not None:
            variables["JAVA_HOME"] = str(found.home)
        log = folder / "server.log"
        started = processes.spawn(command, folder, log, variables)
        running = TorchServeRunning(self, processes, folder, config, log, started)
        try:
            running.await_workers(models)
            running.connect()
        except BaseException:
            running.stop()
            raise
        return running


class TorchServeRunning(Running):
    """A TorchServe in a home folder of its own."""

    def __init__(
        self,
        server: Server,
        processes: Processes,
        home: Path,
        config: Path,
        log: Path,
        started: subprocess.Popen | None = None,
    ) -> None:
        self._torchserve = scripts_server.Server(home, config, Path(server.model_store))
        super().__init__(server, processes, self._torchserve.address("inference"), log, started)

    def connect(self) -> None:
        """Take a token, which lasts longer than any measurement."""
        self.headers = {"Authorization": f"Bearer {self._torchserve.token('inference')}"}

    def await_workers(self, models: Sequence[str]) -> None:
        """Wait until every model has a worker that is ready."""
        deadline = time.monotonic() + START_S
        waiting = set(models)
        while waiting:
            if self._started is not None and self._started.poll() is not None:
                raise ServerFailed(f"it ended while it started: {self.last_words()}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"not ready after {START_S:.0f} s: {self.last_words()}")
            waiting = {model for model in waiting if not self._ready(model)}
            time.sleep(0.05)

    def _ready(self, model: str) -> int:
        try:
            return workers.count_ready_workers(self._torchserve.describe(model) or {})
        except scripts_server.OpserveError:  # not listening yet, or no key file yet
            return 0

    def workers(self, model: str) -> list[int]:
        """The process ids of a model's workers."""
        return [int(worker["pid"]) for worker in self._torchserve.require_model(model)["workers"]]

    def idle(self, model: str) -> Collection[int]:
        """The workers of the other models."""
        others = set(self._torchserve.models()) - {model}
        return {pid for other in others for pid in self.workers(other)}

    def metrics(self) -> str:
        """What Prometheus reads."""
        return self._torchserve.request("metrics", "GET", "/metrics").text

    def scale(self, model: str, workers: int) -> float:
        """Seconds until a model has so many workers that answer."""
        begun = time.monotonic()
        path = f"/models/{model}?min_worker={workers}&max_worker={workers}&synchronous=true"
        answer = self._torchserve.request("management", "PUT", path, START_S)
        if answer.status_code != 200:
            raise ServerFailed(f"scaling {model} was answered {answer.status_code}: {answer.text[:200]}")
        return time.monotonic() - begun

    def stop(self) -> None:
        """End it, and what it unpacked."""
        super().stop()
        self._torchserve.remove_temp()


def opserve_archives(profile: str, files: Path, store: Path) -> Path:
    """Pack the models of the benchmark with one profile; the model store."""
    shipped = [ArchiveContents.from_model(name, profile=profile) for name in ("scaled_add", "digits")]
    for contents in (*shipped, graph_contents(files, profile)):
        section = contents.document["opserve"] | EQUAL_THREADS
        document = contents.document | EQUAL_WORKERS | {"opserve": section}
        pack(replace(contents, document=document), store)
    return store


def graph_contents(files: Path, profile: str) -> ArchiveContents:
    """The graph model, as a user packs an artifact of their own."""
    config, sample = files / "graph.yaml", files / "graph.json"
    config.write_text(yaml.safe_dump(GRAPH_CONFIG, sort_keys=False))
    features = numpy.linspace(0, 1, 2 * FEATURES, dtype="float32").reshape(2, FEATURES)
    small = {"rowptr": [0, 2, 3], "col": [0, 1, 1], "value": [0.5, 0.5, 1], "x": features}
    sample.write_bytes(orjson.dumps(small, option=orjson.OPT_SERIALIZE_NUMPY))
    return ArchiveContents.from_files("graph_op", files / "graph.pt", [LIBRARY], config, sample, profile=profile)


def opserve_server(profile: str, store: Path) -> OpserveServer:
    """Opserve on the archives of one profile."""
    return OpserveServer(name=OPSERVE[profile], environment="", takes=_own, path=predictions, model_store=store)


def stock_archives(models: Sequence[str], python: Path, store: Path) -> Path:
    """Pack the models for the stock server; the model store."""
    for model in models:
        run_model_archiver(
            model, PEERS / "torchserve_handler.py", store, extra_files=[PEERS / "common.py"], python=python
        )
    return store


def torchserves(
    models: Sequence[str], files: Path, python: Path | None, stores: Path
) -> tuple[list[Server], dict[str, str]]:
    """Both of opserve's profiles and the stock server with their archives; and why any is missing."""
    found: list[Server] = []
    missing = {}
    for profile in PROFILES:
        store = opserve_archives(profile, files, stores / profile)
        found.append(opserve_server(profile, store))
    try:
        if python is None:
            raise ServerFailed("the peers' environment was not made")
        store = stock_archives(models, python, stores / "stock")
        found.append(StockServer(name=STOCK, distribution="torchserve", path=predictions, model_store=store))
    except (ServerFailed, ArchiveError) as error:
        missing[STOCK] = str(error)
    return found, missing


def _own(workload: Workload) -> bool:
    return workload.model != "graph_plain"
