"""Bodies that are small to send and large to read, or that do not contain what they declare."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy
from isal import igzip

from tests.attack.wire import JSON, Request

MIB = 1 << 20
# The largest body that a worker reads, after decompression.
LARGEST = 256 * MIB
# The longest JSON text that a worker parses.
LARGEST_JSON = 64 * MIB
GZIP = {"Content-Type": JSON, "Content-Encoding": "gzip"}
NPZ_TYPE = "application/x-npz"


def document(value: Any) -> bytes:
    """Encodes JSON, with lone surrogates as escapes."""
    return json.dumps(value, separators=(",", ":")).encode()


def gzipped(content: bytes | bytearray) -> bytes:
    """Compresses quickly, and repetitions nearly as far as possible."""
    return igzip.compress(bytes(content), compresslevel=1)


def repeated(before: bytes, item: bytes, count: int, after: bytes) -> bytes:
    """Joins `before`, an item `count` times with commas between, and `after`."""
    return b"".join((before, (item + b",") * (count - 1) if count else b"", item if count else b"", after))


def npy(array: numpy.ndarray) -> bytes:
    """Makes an `.npy` file."""
    file = io.BytesIO()
    numpy.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


def npy_header(descr: str, shape: str, fortran: str = "False") -> bytes:
    """Makes an `.npy` file without data that declares anything."""
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", min(len(text), 0xFFFF)) + text


def npz(arrays: Mapping[str, numpy.ndarray], *, compressed: bool = True) -> bytes:
    """Makes an `.npz` file."""
    file = io.BytesIO()
    (numpy.savez_compressed if compressed else numpy.savez)(file, **arrays)
    return file.getvalue()


def zip_file(members: Iterable[tuple[bytes, bytes, int, int]]) -> bytes:
    """Makes a zip archive of stored members: name, content, declared size, declared checksum."""
    body, directory, count = bytearray(), bytearray(), 0
    for name, content, size, crc in members:
        shared = struct.pack("<HHHHHLLLH", 20, 0, 0, 0, 33, crc, len(content), size, len(name))
        directory += (
            b"PK\1\2" + struct.pack("<H", 20) + shared + struct.pack("<HHHHLL", 0, 0, 0, 0, 0, len(body)) + name
        )
        body += b"PK\3\4" + shared + b"\0\0" + name + content
        count += 1
    here = min(count, 0xFFFF)
    return bytes(body + directory + b"PK\5\6" + struct.pack("<4H2LH", 0, 0, here, here, len(directory), len(body), 0))


def oip_tensor(name: Any, data: Sequence[float], **changes: Any) -> dict[str, Any]:
    """Makes a tensor of the Open Inference Protocol."""
    return {"name": name, "shape": [len(data)], "datatype": "FP32", "data": list(data)} | changes


def oip_call(x: dict[str, Any] | None = None, y: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """Makes a request to `scaled_add` with a tensor of two numbers for each input that is not given."""
    return {"inputs": [x or oip_tensor("x", [1.0, 2.0]), y or oip_tensor("y", [0.5, 0.25])]} | members


# The outputs for `oip_call`.
OIP_OUTPUTS = [{"name": "z", "datatype": "FP32", "shape": [2], "data": [2.5, 4.25]}]


def json_request(model: str, value: Any, **options: Any) -> Request:
    """Makes a request with a JSON body."""
    headers = {"Content-Type": JSON} | options.pop("headers", {})
    return Request(model, document(value), headers, **options)


def gzip_request(model: str, content: bytes, **options: Any) -> Request:
    """Makes a request with JSON text as gzip."""
    return Request(model, gzipped(content), GZIP, **options)


def npz_request(model: str, content: bytes, **options: Any) -> Request:
    """Makes a request with an `.npz` body."""
    headers = {"Content-Type": NPZ_TYPE} | options.pop("headers", {})
    return Request(model, content, headers, **options)
