"""The limit in one process: decoding, the model and encoding, as a worker of opserve does them, without any server."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from archive.packer.pack import unpack
from benchmarks.serving import answers
from benchmarks.serving.workloads import Workload
from handlers.codecs.oip import JSON_LENGTH_HEADER
from handlers.codecs.request import BODY, Part, Request
from handlers.model import ServableModel


def request_of(workload: Workload) -> Request:
    """A workload as TorchServe hands it to a worker."""
    payload = workload.payload()
    headers = {name: value for name, value in payload.headers.items() if name != JSON_LENGTH_HEADER}
    if workload.format != "form":
        return Request({BODY: Part(bytearray(payload.body), payload.headers["Content-Type"])}, headers)
    parts = {}
    for name, value in workload.inputs.items():
        is_bytes = isinstance(value, bytes)
        parts[name] = Part(
            bytearray(value if is_bytes else str(value.tolist()).encode()),
            "image/png" if is_bytes else "application/json",
        )
    return Request(parts, headers)


def rates(store: Path, workloads: Sequence[Workload], folder: Path, seconds: float) -> Iterator[tuple[Workload, float]]:
    """Answers a second of each workload, on the archives of a model store unpacked into a new `folder`."""
    folder.mkdir()
    models: dict[str, ServableModel] = {}
    for workload in workloads:
        name = workload.model
        if name not in models:
            models[name] = ServableModel(unpack(store / f"{name}.mar", folder / name), name=name, version="1.0")
        request = request_of(workload)
        (answer,) = models[name].answer([request])
        answers.check(workload, answer.status, bytes(answer.body), {})
        count, begun = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - begun) < seconds:
            models[name].answer([request])
            count += 1
        yield workload, count / elapsed
