"""Requests that are sent to servers, and the responses that they must get."""

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
from benchmarks.common import graph
from benchmarks.common.payloads import (
    JSON_TYPE,
    Arrays,
    Payload,
    gzipped,
    in_shared_memory,
    npz,
    oip_binary,
    oip_json,
    plain_json,
)

SHARED_MEMORY = "shared memory"
# Space for the graph and its response.
REGION_BYTES = 2**21
LIBRARY = BUILD / "lib" / "libopserve_torch.so"


@dataclass(frozen=True)
class Workload:
    """One request and its response.

    Attributes:
        model: `scaled_add`, `digits`, `graph_plain` or `graph_op`; the last two differ in the operator a server runs.
        format: How the arrays are sent: one of `ENCODERS`, or `shared memory`.
        inputs: The arrays by name; in a form, the bytes of a PNG are sent as they are.
        outputs: The expected arrays by name.
        tolerance: The largest difference from `outputs`, absolute or relative.
        region: The shared memory that the arrays are in, if they are.
    """

    model: str
    format: str
    inputs: Mapping[str, numpy.ndarray | bytes]
    outputs: Arrays
    tolerance: float = 1e-4
    region: SharedMemory | None = None

    @property
    def name(self) -> str:
        """The name of the request, which is the same for both operators."""
        return f"{self.model.partition('_plain')[0].partition('_op')[0]} {self.format}"

    @property
    def operator(self) -> str:
        """Whose operator the model calls."""
        return "PyTorch" if self.model == "graph_plain" else "opserve"

    @property
    def arrays(self) -> dict[str, numpy.ndarray]:
        """The inputs, the bytes of a PNG as an array of uint8."""
        return {
            name: numpy.frombuffer(value, "uint8") if isinstance(value, bytes) else value
            for name, value in self.inputs.items()
        }

    def payload(self) -> Payload:
        """Encodes the request as most servers accept it; what belongs into shared memory is written there."""
        if self.region is not None:
            sizes = {name: array.nbytes for name, array in self.outputs.items()}
            return in_shared_memory(self.arrays, sizes, self.region)
        return form(self.inputs) if self.format == "form" else ENCODERS[self.format](self.arrays)


def form(inputs: Mapping[str, numpy.ndarray | bytes]) -> Payload:
    """A form with a part for every input: files as they are, arrays as JSON."""
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


def _half_precision(inputs: Arrays) -> Payload:
    return npz({name: array.astype("float16") if name == "x" else array for name, array in inputs.items()})


ENCODERS = {
    "json": plain_json,
    "oip": oip_json,
    "oip, binary": lambda inputs: oip_binary(inputs, boundary=64),
    "npz": npz,
    "npz, float16": _half_precision,
    "npz, gzip": lambda inputs: gzipped(npz(inputs)),
}


def tiny() -> Workload:
    """Three numbers for each input: the cost of serving itself."""
    inputs = {"x": numpy.array([1, 2, 3], "float32"), "y": numpy.array([0.5, 0.25, -6], "float32")}
    return Workload("scaled_add", "json", inputs, {"z": numpy.array([2.5, 4.25, 0], "float32")})


def digits(sample: Path = BUILD / "models" / "digits" / "sample") -> Workload:
    """The photograph in the archive `digits`."""
    response = json.loads((sample / "answer.json").read_text())
    (corners,) = sample.glob("request/corners.*")
    inputs: dict[str, numpy.ndarray | bytes] = {
        "image": (sample / "request" / "image.png").read_bytes(),
        "corners": numpy.array(json.loads(corners.read_text()), "float32"),
    }
    return Workload("digits", "form", inputs, {name: numpy.array(value) for name, value in response.items()})


def graphs(folder: Path, region: SharedMemory) -> list[Workload]:
    """The graph in every format for both operators, and in shared memory; writes the model's files into `folder`."""
    inputs, outputs = graph.write_network(folder)
    return [
        *(
            Workload(model, format, inputs, outputs)
            for model in ("graph_plain", "graph_op")
            for format in ("json", "oip", "npz")
        ),
        Workload("graph_op", SHARED_MEMORY, inputs, outputs, region=region),
    ]


def prepare(folder: Path, region: SharedMemory) -> list[Workload]:
    """Returns all workloads, and writes the models' files into `folder` for all servers."""
    for source in (BUILD / "models" / "digits" / "digits.pt", LIBRARY):
        if not source.is_file():
            raise OpserveError(f"{source} does not exist; `make archive` builds it")
        (folder / source.name).symlink_to(source.resolve())
    return [tiny(), digits(), *graphs(folder, region)]
