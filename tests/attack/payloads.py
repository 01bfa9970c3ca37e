"""Bodies that are small to send and large to read, or that lie about their contents."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy
from isal import igzip

from tests.attack.wire import JSON, Shot

MIB = 1 << 20
# The largest bodies that a worker reads, compressed ones once they are unpacked.
LARGEST = 256 * MIB
# The longest JSON text that it parses.
LARGEST_JSON = 64 * MIB
GZIP = {"Content-Type": JSON, "Content-Encoding": "gzip"}
NPZ_TYPE = "application/x-npz"


def document(value: Any) -> bytes:
    """JSON text; lone surrogates as escapes."""
    return json.dumps(value, separators=(",", ":")).encode()


def gzipped(content: bytes | bytearray) -> bytes:
    """In little time, and for repetitions nearly as small as can be."""
    return igzip.compress(bytes(content), compresslevel=1)


def repeated(before: bytes, item: bytes, count: int, after: bytes) -> bytes:
    """`before`, an item `count` times with commas between, `after`."""
    return b"".join((before, (item + b",") * (count - 1) if count else b"", item if count else b"", after))


def npy(array: numpy.ndarray) -> bytes:
    """An `.npy` file."""
    file = io.BytesIO()
    numpy.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


def npy_header(descr: str, shape: str, fortran: str = "False") -> bytes:
    """An `.npy` header of any kind, without data."""
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", min(len(text), 0xFFFF)) + text


def npz(arrays: Mapping[str, numpy.ndarray], *, compressed: bool = True) -> bytes:
    """An `.npz` file."""
    file = io.BytesIO()
    (numpy.savez_compressed if compressed else numpy.savez)(file, **arrays)
    return file.getvalue()


def zip_file(members: Iterable[tuple[bytes, bytes, int, int]]) -> bytes:
    """A zip archive of stored members (name, content, the size it claims, the checksum it claims)."""
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
    """A tensor of the Open Inference Protocol."""
    return {"name": name, "shape": [len(data)], "datatype": "FP32", "data": list(data)} | changes


def oip_call(x: dict[str, Any] | None = None, y: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """A call of `scaled_add` with a tensor of two numbers for each input that is not given."""
    return {"inputs": [x or oip_tensor("x", [1.0, 2.0]), y or oip_tensor("y", [0.5, 0.25])]} | members


# What `oip_call` is answered.
OIP_OUTPUTS = [{"name": "z", "datatype": "FP32", "shape": [2], "data": [2.5, 4.25]}]


def json_shot(model: str, value: Any, **options: Any) -> Shot:
    """A JSON body."""
    headers = {"Content-Type": JSON} | options.pop("headers", {})
    return Shot(model, document(value), headers, **options)


def packed_shot(model: str, content: bytes, **options: Any) -> Shot:
    """JSON text as gzip."""
    return Shot(model, gzipped(content), GZIP, **options)


def npz_shot(model: str, content: bytes, **options: Any) -> Shot:
    """An `.npz` body."""
    headers = {"Content-Type": NPZ_TYPE} | options.pop("headers", {})
    return Shot(model, content, headers, **options)
