"""The same work without a server: decoding, the model and encoding in one process, as a worker of opserve does them."""

import json
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from archive.errors import OpserveError
from archive.packer.pack import unpack
from archive.repository import BUILD
from benchmarks.common.responses import check_response
from benchmarks.common.workloads import Workload
from handlers.codecs.oip import JSON_LENGTH_HEADER
from handlers.codecs.request import BODY, Part, Request
from handlers.model import ServableModel


def load_models(store: Path, names: Iterable[str], folder: Path) -> dict[str, ServableModel]:
    """Unpacks archives of a model store into a new folder, and loads the models by name."""
    folder.mkdir()
    return {
        name: ServableModel(unpack(store / f"{name}.mar", folder / name), name=name, version="1.0")
        for name in dict.fromkeys(names)
    }


def make_request(workload: Workload) -> Request:
    """Makes the request that TorchServe hands to a worker."""
    payload = workload.payload()
    if workload.format != "form":
        return Request({BODY: Part(bytearray(payload.body), payload.headers["Content-Type"])}, payload.headers)
    parts = {}
    for name, value in workload.inputs.items():
        if isinstance(value, bytes):
            parts[name] = Part(bytearray(value), "image/png")
        else:
            parts[name] = Part(bytearray(str(value.tolist()).encode()), "application/json")
    return Request(parts, payload.headers)


def measure_rates(
    store: Path, workloads: Sequence[Workload], folder: Path, seconds: float
) -> Iterator[tuple[Workload, float]]:
    """Measures requests per second of each workload.

    Args:
        store: Model store with the archives.
        workloads: What to measure.
        folder: New folder for what is unpacked.
        seconds: How long each workload is measured.

    Raises:
        WrongResponse: A model does not compute what it should.
    """
    models = load_models(store, (workload.model for workload in workloads), folder)
    for workload in workloads:
        model, request = models[workload.model], make_request(workload)
        (response,) = model.answer([request])
        check_response(workload, response.status, bytes(response.body), response.headers)
        count, begin = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - begin) < seconds:
            model.answer([request])
            count += 1
        yield workload, count / elapsed


# The native worker's loop; built with it.
PROGRAM = BUILD / "bin" / "opserve_answer"


def measure_native_rates(
    store: Path, workloads: Sequence[Workload], folder: Path, seconds: float
) -> Iterator[tuple[Workload, float]]:
    """Measures requests per second of each workload in the C++ of the native worker.

    Args:
        store: Model store with archives that the native worker can run.
        workloads: What to measure.
        folder: New folder for what is unpacked.
        seconds: How long each workload is measured.

    Raises:
        OpserveError: The program failed.
        WrongResponse: A model does not compute what it should.
    """
    folder.mkdir()
    unpacked = {name: unpack(store / f"{name}.mar", folder / name) for name in {each.model for each in workloads}}
    for number, workload in enumerate(workloads):
        request = folder / f"request-{number}"
        write_request(make_request(workload), request)
        command = [str(PROGRAM), str(unpacked[workload.model]), str(request), str(seconds)]
        ran = subprocess.run(command, cwd=unpacked[workload.model], capture_output=True, text=True, check=False)
        if ran.returncode:
            raise OpserveError(f"{PROGRAM.name}, {workload.name}: {ran.stderr.strip()[-300:]}")
        found = json.loads(ran.stdout)
        length = found["json_length"]
        headers = {"Content-Type": found["content_type"]} | (
            {} if length is None else {JSON_LENGTH_HEADER: str(length)}
        )
        check_response(workload, found["status"], (request / "answer").read_bytes(), headers)
        yield workload, found["requests"] / found["seconds"]


def write_request(request: Request, folder: Path) -> None:
    """Writes a request as the program reads it."""
    (folder / "parts").mkdir(parents=True)
    for name, part in request.items():
        (folder / "parts" / name).write_bytes(part.content)
    (folder / "headers").write_text("".join(f"{name}: {value}\n" for name, value in request.headers.items()))
