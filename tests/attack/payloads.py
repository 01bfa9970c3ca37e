"""Bodies that are small to send and large to read, or that say other things of themselves than they hold."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy
from isal import igzip
from PIL import Image

from tests.attack.wire import JSON, Shot

MIB = 1 << 20
# The largest bodies that a worker reads, compressed ones once they are unpacked.
LARGEST = 256 * MIB
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
    """An `.npy` file without data, of whatever it is told to be."""
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


def chunk(kind: bytes, content: bytes, length: int | None = None) -> bytes:
    """A PNG chunk, of the length that it claims to have."""
    crc = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content) if length is None else length) + kind + content + crc


def png(
    width: int,
    height: int,
    depth: int = 8,
    colour: int = 0,
    *,
    data: bytes | None = None,
    before: bytes = b"",
    after: bytes = b"",
    interlaced: int = 0,
) -> bytes:
    """A PNG of zeros, or of `data` as its deflated pixels; chunks may stand before and behind them."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 4)
    if data is None:
        data = deflated_zeros(height * (1 + (width * samples * depth + 7) // 8))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    palette = chunk(b"PLTE", bytes(range(256)) * 3) if colour == 3 else b""
    pieces = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), palette, before, chunk(b"IDAT", data), after]
    return b"".join([*pieces, chunk(b"IEND", b"")])


def deflated_zeros(size: int) -> bytes:
    """A zlib stream of zeros, made a piece at a time."""
    packer = zlib.compressobj(6)
    pieces = [packer.compress(bytes(min(MIB, size - start))) for start in range(0, size, MIB)]
    return b"".join([*pieces, packer.flush()])


def noise_png(generator: numpy.random.Generator, mode: str = "RGB", size: tuple[int, int] = (48, 40)) -> bytes:
    """A PNG of noise."""
    bands = {"L": (), "RGB": (3,), "RGBA": (4,), "LA": (2,), "I;16": ()}[mode]
    dtype = numpy.uint16 if mode == "I;16" else numpy.uint8
    pixels = generator.integers(0, 65536 if mode == "I;16" else 256, (size[1], size[0], *bands)).astype(dtype)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def jpeg(size: tuple[int, int] = (64, 48), exif: bytes = b"", **options: Any) -> bytes:
    """A JPEG of a gradient."""
    ramp = numpy.add.outer(numpy.arange(size[1]), numpy.arange(size[0])).astype(numpy.uint8)
    file = io.BytesIO()
    Image.fromarray(numpy.stack([ramp, ramp.T.reshape(ramp.shape), ramp], 2)).save(file, "JPEG", exif=exif, **options)
    return file.getvalue()


def many_scans(size: tuple[int, int], scans: int) -> bytes:
    """A progressive JPEG of one grey whose last scan, of a few bytes, is there so many times more."""
    file = io.BytesIO()
    Image.new("L", size, 99).save(file, "JPEG", progressive=True, quality=30)
    content = file.getvalue()
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * scans + content[-2:]


def tiff(entries: Sequence[tuple[int, int, int, bytes]], order: bytes = b"MM") -> bytes:
    """EXIF data: entries (tag, type, count, four bytes of value or offset)."""
    mark = ">" if order == b"MM" else "<"
    head = b"Exif\0\0" + order + struct.pack(f"{mark}HIH", 42, 8, len(entries))
    body = b"".join(struct.pack(f"{mark}HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return head + body + bytes(4)


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
