"""Checks a server's response against the expected one, before anything is timed."""

import io
import json
from collections.abc import Mapping

import numpy

from benchmarks.common.payloads import DATATYPES
from benchmarks.common.workloads import Workload
from handlers.codecs.oip import JSON_LENGTH_HEADER
from handlers.codecs.shared_memory import OFFSET, REGION, SIZE, Region
from handlers.codecs.shared_memory import read as read_region
from handlers.errors import RequestError

_DTYPES = {datatype: name for name, datatype in DATATYPES.items()}


class WrongResponse(Exception):
    """A server's response is not the expected one; the message describes the response."""


def parse_response(body: bytes, headers: Mapping[str, str]) -> dict[str, numpy.ndarray]:
    """Reads the arrays of a response by name.

    The body is an `.npz`, a JSON object of lists, or the Open Inference Protocol in JSON, binary or in shared memory.

    Raises:
        ValueError, KeyError, TypeError: It is none of these.
        RequestError: The shared memory does not exist.
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


def check_response(workload: Workload, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """Raises `WrongResponse` unless the response is the workload's."""
    excerpt = body[:200].decode(errors="replace")
    if status != 200:
        raise WrongResponse(f"{workload.name}: status {status}: {excerpt}")
    try:
        found = parse_response(body, headers)
    except (ValueError, KeyError, TypeError, AttributeError, RequestError) as error:
        raise WrongResponse(f"{workload.name}: unreadable response ({error!r}): {excerpt}") from None
    if found.keys() != workload.outputs.keys():
        raise WrongResponse(f"{workload.name}: outputs {sorted(found)}, expected {sorted(workload.outputs)}")
    for name, expected in workload.outputs.items():
        if found[name].shape != expected.shape:
            raise WrongResponse(f"{workload.name}: {name} has the shape {found[name].shape}, expected {expected.shape}")
        if not numpy.allclose(found[name], expected, rtol=workload.tolerance, atol=workload.tolerance):
            raise WrongResponse(f"{workload.name}: {name} has other values than expected")
