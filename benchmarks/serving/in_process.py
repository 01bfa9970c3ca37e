"""The same work without a server: decoding, the model and encoding in one process, as a worker of opserve does them."""

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from archive.packer.pack import unpack
from benchmarks.common.responses import check_response
from benchmarks.common.workloads import Workload
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
