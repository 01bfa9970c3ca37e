"""The TorchServes: opserve's with each of its workers, started as its users start it, and a stock one."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from archive.errors import OpserveError
from archive.native_worker import NOT_BUILT, find_worker
from archive.repository import ROOT
from benchmarks.common.workloads import Workload
from benchmarks.serving import archives
from benchmarks.serving.processes import Processes
from benchmarks.serving.servers import START_S, Running, Server, ServerFailed, peer_variables
from scripts.torchserve import java
from scripts.torchserve import server as scripts_server
from scripts.torchserve.configuration import write_config
from scripts.torchserve.workers import count_ready_workers

PROFILES = ("latency", "throughput")
# With the worker in Python, and with the native one.
OPSERVE = {profile: f"opserve, {profile}" for profile in PROFILES}
NATIVE = {profile: f"opserve native, {profile}" for profile in PROFILES}
OURS = (*OPSERVE.values(), *NATIVE.values())


def onnx_workers(server: str) -> str:
    """The name of what was measured of a server's workers that only need ONNX Runtime."""
    return f"{server}, ONNX"


STOCK = "TorchServe, stock"


@dataclass(frozen=True, kw_only=True)
class TorchServeServer(Server):
    """A TorchServe.

    Attributes:
        model_store: Folder with its archives.
    """

    model_store: Path


class OpserveServer(TorchServeServer):
    """opserve with the archives of one of its profiles."""

    def launch(self, models: Sequence[str], files: Path, python: Path | None, folder: Path) -> RunningTorchServe:
        """Starts it with scripts.start, on the shipped configuration with free ports."""
        processes, log = Processes(), folder / "server.log"
        config = write_config(folder)
        command = [sys.executable, "-m", "scripts.start", "--home", str(folder), "--config", str(config)]
        command += ["--model-store", str(self.model_store), "--models", *models]
        running = RunningTorchServe(self, processes, folder, config, log)
        starting = processes.spawn(command, ROOT, log, {})
        try:
            if starting.wait(START_S):
                raise ServerFailed(running.last_output())
            running.authorize()
        except BaseException as error:
            output = running.last_output()
            running.stop()
            if isinstance(error, subprocess.TimeoutExpired):
                raise ServerFailed(f"not ready after {START_S:.0f} s: {output}") from None
            raise
        return running


class StockServer(TorchServeServer):
    """TorchServe as it is installed, with one worker."""

    def launch(self, models: Sequence[str], files: Path, python: Path | None, folder: Path) -> RunningTorchServe:
        """Starts it with its own launcher."""
        if python is None:
            raise ServerFailed("its environment was not installed")
        processes, log = Processes(), folder / "server.log"
        config = write_config(folder, "default_workers_per_model=1\ndisable_system_metrics=false\n")
        found, _ = java.find_java()
        command = [str(python.parent / "torchserve"), "--start", "--foreground", "--ncs"]
        command += ["--model-store", str(self.model_store), "--ts-config", str(config)]
        command += ["--models", *(f"{model}.mar" for model in models)]
        variables = peer_variables(models, files, python, folder)
        del variables["PYTHONPATH"]  # a worker finds its modules in its archive
        if found is not None:
            variables["JAVA_HOME"] = str(found.home)
        started = processes.spawn(command, folder, log, variables)
        running = RunningTorchServe(self, processes, folder, config, log, started)
        try:
            running.wait_workers(models)
            running.authorize()
        except BaseException:
            running.stop()
            raise
        return running


class RunningTorchServe(Running):
    """A TorchServe that runs in its own home folder.

    Args:
        server: What was started.
        processes: Its processes.
        home: The folder it runs in.
        config: Its configuration.
        log: The file with its output.
        started: The process that was started, if the server ends with it.
    """

    def __init__(
        self,
        server: TorchServeServer,
        processes: Processes,
        home: Path,
        config: Path,
        log: Path,
        started: subprocess.Popen | None = None,
    ) -> None:
        self._torchserve = scripts_server.Server(home, config, server.model_store)
        super().__init__(server, processes, self._torchserve.address("inference"), log, started)

    def authorize(self) -> None:
        """Takes a token, which is valid for longer than any measurement."""
        self.headers = {"Authorization": f"Bearer {self._torchserve.token('inference')}"}

    def wait_workers(self, models: Sequence[str]) -> None:
        """Waits until every model has a worker that is ready."""
        deadline = time.monotonic() + START_S
        waiting = set(models)
        while waiting:
            if self._started is not None and self._started.poll() is not None:
                raise ServerFailed(f"it ended while it started: {self.last_output()}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"not ready after {START_S:.0f} s: {self.last_output()}")
            waiting = {model for model in waiting if not self._ready(model)}
            time.sleep(0.05)

    def _ready(self, model: str) -> int:
        try:
            return count_ready_workers(self._torchserve.describe(model) or {})
        except OpserveError:  # it does not listen yet, or has not written its keys
            return 0

    def workers(self, model: str) -> list[int]:
        """The process ids of a model's workers."""
        return [int(worker["pid"]) for worker in self._torchserve.require_model(model)["workers"]]

    def unused_workers(self, model: str) -> Collection[int]:
        """Ids of the processes of other models' workers."""
        others = set(self._torchserve.models()) - {model}
        return {pid for other in others for pid in self.workers(other)}

    def metrics(self) -> str:
        """The page that Prometheus reads."""
        return self._torchserve.request("metrics", "GET", "/metrics").text

    def scale(self, model: str, workers: int) -> float:
        """Sets a model's number of workers; returns the seconds until they respond."""
        begin = time.monotonic()
        path = f"/models/{model}?min_worker={workers}&max_worker={workers}&synchronous=true"
        response = self._torchserve.request("management", "PUT", path, START_S)
        if response.status_code != 200:
            raise ServerFailed(f"scaling {model}: status {response.status_code}: {response.text[:200]}")
        return time.monotonic() - begin

    def stop(self) -> None:
        """Ends it, and removes what it unpacked."""
        super().stop()
        self._torchserve.remove_temp()


def predictions_path(workload: Workload) -> str:
    """TorchServe's path for predictions."""
    return f"/predictions/{workload.model}"


def make_opserve(profile: str, store: Path, *, native: bool = False) -> OpserveServer:
    """Makes opserve's server on the archives of one profile for one of the workers."""
    return OpserveServer(
        name=(NATIVE if native else OPSERVE)[profile],
        environment="",
        accepts=lambda workload: workload.operator == "opserve",
        path=predictions_path,
        model_store=store,
    )


def make_torchserves(
    models: Sequence[str], files: Path, python: Path | None, stores: Path
) -> tuple[list[Server], dict[str, str]]:
    """Makes opserve's server with each worker and profile, and the stock server, and packs their archives.

    Returns:
        The servers, and for those that cannot be made the reason.
    """
    packed = {profile: archives.pack_models(profile, files, stores / profile) for profile in PROFILES}
    servers: list[Server] = []
    missing: dict[str, str] = {}
    if find_worker(".pt", ".onnx"):
        for profile, store in packed.items():
            target = archives.for_native_worker(store, stores / f"native-{profile}", stores / f"unpacked-{profile}")
            servers.append(make_opserve(profile, target, native=True))
    else:
        missing = dict.fromkeys(NATIVE.values(), NOT_BUILT)
    servers += [make_opserve(profile, store) for profile, store in packed.items()]
    if python is None:
        return servers, missing | {STOCK: "the peers' environment was not installed"}
    try:
        store = archives.pack_for_stock(models, python, stores / "stock")
    except OpserveError as error:
        return servers, missing | {STOCK: str(error)}
    stock = StockServer(name=STOCK, distribution="torchserve", path=predictions_path, model_store=store)
    return [*servers, stock], missing
