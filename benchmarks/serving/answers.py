"""Is an answer the right one? What a server answers is held against it before anything is timed."""

import io
import json
from collections.abc import Mapping

import numpy

from benchmarks.payloads import DATATYPES, Arrays
from benchmarks.serving.workloads import Workload
from handlers.codecs.oip import JSON_LENGTH_HEADER
from handlers.codecs.shared_memory import OFFSET, REGION, SIZE, Region
from handlers.codecs.shared_memory import read as read_region
from handlers.errors import RequestError

_DTYPES = {datatype: name for name, datatype in DATATYPES.items()}


class WrongAnswer(Exception):
    """A server that answers otherwise than it must is not timed; the message says what it answered."""


def read(body: bytes, headers: Mapping[str, str]) -> dict[str, numpy.ndarray]:
    """The arrays of an answer: an `.npz`, a JSON object of lists, or the Open Inference Protocol: in JSON, binary or in
    shared memory.

    Raises:
        ValueError, KeyError, TypeError: it is none of these; RequestError: there is no such shared memory.
    """
    if body.startswith(b"PK"):
        with numpy.load(io.BytesIO(body)) as file:
            return {name: file[name] for name in file.files}
    length = int(headers.get(JSON_LENGTH_HEADER, len(body)))
    document, binary = json.loads(body[:length]), memoryview(body)[length:]
    if "outputs" not in document:
        return {name: numpy.array(value) for name, value in document.items()}
    found = {}
    for tensor in document["outputs"]:
        dtype, parameters = _DTYPES[tensor["datatype"]], tensor.get("parameters", {})
        size = parameters.get("binary_data_size")
        if REGION in parameters:
            place = Region(parameters[REGION], parameters[OFFSET], parameters[SIZE])
            values = numpy.frombuffer(read_region(place, tensor["name"]), dtype)
        elif size is None:
            values = numpy.array(tensor["data"], dtype)
        else:
            values, binary = numpy.frombuffer(binary[:size], dtype), binary[size:]
        found[tensor["name"]] = values.reshape(tensor["shape"])
    return found


def check(workload: Workload, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """Raises `WrongAnswer` unless this is the answer that the workload must get."""
    shown = body[:200].decode(errors="replace")
    if status != 200:
        raise WrongAnswer(f"{workload.name}: answered {status}: {shown}")
    try:
        got = read(body, headers)
    except (ValueError, KeyError, TypeError, AttributeError, RequestError) as error:
        raise WrongAnswer(f"{workload.name}: not an answer ({error!r}): {shown}") from None
    _compare(workload, got)


def _compare(workload: Workload, got: Arrays) -> None:
    if got.keys() != workload.outputs.keys():
        raise WrongAnswer(f"{workload.name}: answered {sorted(got)}, expected {sorted(workload.outputs)}")
    for name, expected in workload.outputs.items():
        if got[name].shape != expected.shape:
            raise WrongAnswer(f"{workload.name}: {name} has the shape {got[name].shape}, expected {expected.shape}")
        if not numpy.allclose(got[name], expected, rtol=workload.tolerance, atol=workload.tolerance):
            raise WrongAnswer(f"{workload.name}: {name} is not the expected one")
