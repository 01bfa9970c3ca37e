"""What is sent to every server, and what it must answer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy
import orjson
from urllib3 import encode_multipart_formdata

from archive.errors import OpserveError
from archive.repository import BUILD
from benchmarks.payloads import JSON_TYPE, Arrays, Payload, in_shared_memory, npz, oip_json, plain_json
from benchmarks.serving import network

SHARED_MEMORY = "shared memory"
# Room for the graph and its answer.
REGION_BYTES = 2**21
LIBRARY = BUILD / "lib" / "libopserve_torch.so"


@dataclass(frozen=True)
class Workload:
    """One request.

    Attributes:
        model: `scaled_add`, `digits`, `graph_plain` or `graph_op`: the last two differ in the operator a server runs.
        format: how the arrays travel: `json`, `oip` (Open Inference Protocol, JSON), `npz`, `form` (parts), or not at
            all: `shared memory`.
        inputs: by name; of a form, a PNG stays the bytes it is.
        outputs: by name.
        tolerance: how far an answer may be from `outputs`, absolute or relative.
        region: the shared memory that the arrays are in, if they are.
    """

    model: str
    format: str
    inputs: Mapping[str, numpy.ndarray | bytes]
    outputs: Arrays
    tolerance: float = 1e-4
    region: SharedMemory | None = None

    @property
    def name(self) -> str:
        """Of the request alone: the same for both operators."""
        return f"{self.model.partition('_plain')[0].partition('_op')[0]} {self.format}"

    @property
    def operator(self) -> str:
        """Whose code the model calls."""
        return "PyTorch" if self.model == "graph_plain" else "opserve"

    def payload(self) -> Payload:
        """The request as most servers take it; what is to be in shared memory is written there."""
        if self.region is not None:
            return in_shared_memory(
                self.inputs, {name: array.nbytes for name, array in self.outputs.items()}, self.region
            )
        return ENCODERS[self.format](self.inputs)


def form(inputs: Mapping[str, numpy.ndarray | bytes]) -> Payload:
    """A part for every input: files as they are, arrays as JSON."""
    parts = {}
    for name, value in inputs.items():
        if isinstance(value, bytes):
            kind = "image/png" if value.startswith(b"\x89PNG") else "application/octet-stream"
            parts[name] = (name, value, kind)
        else:
            parts[name] = (name, orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), JSON_TYPE)
    # The boundary is fixed, so that every run sends the same bytes.
    body, kind = encode_multipart_formdata(parts, boundary="opserve-benchmark-boundary")
    return Payload(body, {"Content-Type": kind, "Accept": JSON_TYPE})


ENCODERS = {"json": plain_json, "oip": oip_json, "npz": npz, "form": form}


def tiny() -> Workload:
    """Three numbers: what serving itself costs."""
    inputs = {"x": numpy.array([1, 2, 3], "float32"), "y": numpy.array([0.5, 0.25, -6], "float32")}
    return Workload("scaled_add", "json", inputs, {"z": numpy.array([2.5, 4.25, 0], "float32")})


def digits(sample: Path = BUILD / "models" / "digits" / "sample") -> Workload:
    """The photograph that the archive `digits` carries."""
    answer = json.loads((sample / "answer.json").read_text())
    (corners,) = sample.glob("request/corners.*")
    inputs = {
        "image": (sample / "request" / "image.png").read_bytes(),
        "corners": numpy.array(json.loads(corners.read_text()), "float32"),
    }
    return Workload("digits", "form", inputs, {name: numpy.array(value) for name, value in answer.items()})


def graphs(folder: Path, region: SharedMemory) -> list[Workload]:
    """The graph in every format, for both operators, and in shared memory; the model's files are written into
    `folder`.
    """
    inputs, outputs = network.write(folder)
    sent = [
        Workload(model, kind, inputs, outputs)
        for model in ("graph_plain", "graph_op")
        for kind in ("json", "oip", "npz")
    ]
    return [*sent, Workload("graph_op", SHARED_MEMORY, inputs, outputs, region=region)]


def prepare(folder: Path, region: SharedMemory) -> list[Workload]:
    """The workloads; the models' files are written into `folder`, for all servers."""
    for source in (BUILD / "models" / "digits" / "digits.pt", LIBRARY):
        if not source.is_file():
            raise OpserveError(f"{source} does not exist; `make archive` builds it")
        (folder / source.name).symlink_to(source.resolve())
    return [tiny(), digits(), *graphs(folder, region)]
