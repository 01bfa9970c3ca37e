"""Attacks by `.npy`, `.npz` and binary tensors: sizes that the data does not have, and small files of large arrays."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Iterator
from functools import lru_cache

import numpy

from tests.attack.campaign import Attack
from tests.attack.payloads import (
    GZIP,
    MIB,
    NPZ_TYPE,
    document,
    gzip_request,
    gzipped,
    json_request,
    npy,
    npy_header,
    npz,
    npz_request,
    oip_tensor,
    zip_file,
)
from tests.attack.target import form
from tests.attack.wire import Request, Response, exactly, refused
from tests.support.hostile_archives import npz_of_overlapping_members, npz_of_slow_blocks, packed_zeros, zip_of

SIZES = (2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, 2**70)


def declared(_: random.Random) -> Iterator[Request]:
    """Declared sizes at powers of two that the file does not contain."""
    eight = bytes(8)
    for size in SIZES:
        for shape in (f"({size},)", f"({size}, 0)", f"(0, {size})", f"({size}, {size})", f"({size}, 1, {2**40})"):
            for descr in ("'<f4'", "'|u1'", "'|b1'", f"'<f{size}'", f"'V{size}'", f"'S{size}'", f"'({size},)f4'"):
                content = npy_header(descr, shape) + eight
                yield form("scaled_add", {"x": (content, "application/x-npy"), "y": (b"[1]", "application/json")})
        member = npy(numpy.ones(2, numpy.float32))
        for claimed in (size & 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF):
            yield npz_request(
                "scaled_add", zip_file([(b"x.npy", member, claimed, 0), (b"y.npy", member, 136, 0)]), expect=refused
            )
        for tensor in (
            {"name": "x", "shape": [size], "datatype": "FP32", "data": [1.0]},
            {"name": "x", "shape": [size, 0], "datatype": "FP32", "data": []},
            {"name": "x", "shape": [2] * 64, "datatype": "FP32", "data": [1.0]},
            {"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": size}},
            {"name": "x", "shape": [-size], "datatype": "FP32", "data": [1.0]},
            {"name": "x", "shape": [size / 3], "datatype": "FP32", "data": [1.0]},
        ):
            head = document({"inputs": [tensor, oip_tensor("y", [1.0])]})
            headers = {"Inference-Header-Content-Length": str(len(head))}
            yield json_request("scaled_add", {"inputs": [tensor, oip_tensor("y", [1.0])]}, expect=refused)
            yield Request("scaled_add", head + eight, headers, refused)
            yield Request("scaled_add", head + eight, {"Inference-Header-Content-Length": str(size)}, refused)
    for length in (0, 1, 117, 118, 1024, 1025, 65535):
        header = b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + b"{" * min(length, 2000)
        yield form(
            "scaled_add", {"x": (header, "application/x-npy"), "y": (b"[1]", "application/json")}, expect=refused
        )
        header = b"\x93NUMPY\x02\x00" + (length << 16).to_bytes(4, "little") + b"(" * min(length, 2000)
        yield form(
            "scaled_add", {"x": (header, "application/x-npy"), "y": (b"[1]", "application/json")}, expect=refused
        )


@lru_cache(maxsize=8)
def _packed(dtype: str, shape: tuple[int, ...]) -> tuple[bytes, int, int]:
    return packed_zeros(dtype, shape)


def npz_of_zeros(**members: tuple[str, tuple[int, ...]]) -> bytes:
    """Makes an `.npz` of zeros of these dtypes and shapes, about a thousandth of their size."""
    return zip_of({f"{name}.npy": _packed(*member) for name, member in members.items()})


def wide(_: random.Random) -> Iterator[Request]:
    """Arrays of few bytes that become many in the dtype of the input, and their responses."""
    accept = {"Accept": NPZ_TYPE}
    for nodes in (1_800_000, 7_000_000, 300_000):
        graph = npz_of_zeros(rowptr=("|u1", (nodes + 1,)), col=("<i8", (0,)), x=("|u1", (nodes, 34)))
        yield npz_request("karate", graph, note=f"a graph of {nodes} nodes")
        yield npz_request("karate", graph, headers=accept, note=f"a graph of {nodes} nodes, as .npz")
    for millions in (127, 60, 20):
        size = millions * MIB
        both = npz_of_zeros(x=("|u1", (size,)), y=("|u1", (size,)))
        yield npz_request("scaled_add", both, headers=accept, note=f"2 x {millions} MiB of uint8")
        yield npz_request("scaled_add", both, note=f"2 x {millions} MiB of uint8, as JSON")
        content = npz_of_zeros(x=("|u1", (size,)), y=("|u1", (1,)))
        yield npz_request("scaled_add", content, expect=refused, note="and one number")
        content = npz_of_zeros(x=("|b1", (size,)), y=("|b1", (size,)))
        yield npz_request("scaled_add", content, expect=refused, note="of bool")
        content = npz_of_zeros(x=("<f2", (size // 2,)), y=("<f2", (size // 2,)))
        yield npz_request("scaled_add", content, headers=accept, note=f"2 x {millions} MiB of float16")
        yield npz_request("whole", npz_of_zeros(n=("|u1", (size,))), note=f"{millions} MiB of uint8 as int64")
        tensor = {"name": "n", "shape": [size], "datatype": "UINT8", "parameters": {"binary_data_size": size}}
        head = document({"inputs": [tensor], "parameters": {"binary_data_output": True}})
        headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Encoding": "gzip"}
        yield Request("whole", gzipped(head + bytes(size)), headers, note=f"{millions} MiB of UINT8 as INT64")
    edges = npz_of_zeros(rowptr=("<i4", (2,)), col=("|u1", (30 * MIB,)), x=("|u1", (1, 34)))
    yield npz_request("karate", edges, expect=refused, note="30 million columns that belong to no node")
    slow = npz_of_slow_blocks(600_000)
    yield npz_request("scaled_add", slow, expect=refused, note="a member of deflate blocks of a few bytes")
    names = [f"n{number}" for number in range(1000)]
    content = npz_of_overlapping_members(names, "|u1", (MIB,))
    yield npz_request("scaled_add", content, expect=refused, note="1,000 members in one place")


def refused_requests(_: random.Random) -> Iterator[Request]:
    """Refused `.npz` files in a row; the memory of one must be free when the next arrives."""
    by_operator = npz_of_zeros(x=("|u1", (60 * MIB,)), y=("<f4", (3,)))
    by_shape = npz_of_zeros(x=("|u1", (60 * MIB,)), y=("<f4", (3, 1)))
    for _ in range(10):
        yield npz_request("scaled_add", by_operator, expect=refused, note="refused by the operator")
        yield npz_request("scaled_add", by_shape, expect=refused, note="refused for a shape")


def large_responses(_: random.Random) -> Iterator[Request]:
    """Responses that are larger than TorchServe carries, from sound requests and from echoed text."""
    some = numpy.random.default_rng(1).normal(size=(2, 1024)).astype(numpy.float32)
    for count in (7 * MIB + MIB // 4, 2 * MIB):
        values = numpy.tile(some, count // 1024)  # which compresses well
        body = npz({"x": values[0], "y": values[1]})
        for accept in ("application/json", NPZ_TYPE, "application/vnd.oip+json"):
            yield npz_request("scaled_add", body, headers={"Accept": accept}, note=f"{count} floats as {accept}")
    zeros = numpy.zeros(20 * MIB, numpy.uint8)
    for accept in (NPZ_TYPE, "application/json", "application/vnd.oip+json"):
        yield npz_request("scaled_add", npz({"x": zeros, "y": zeros}), headers={"Accept": accept}, note="20 Mi zeros")
    tensors = [
        {"name": name, "shape": [zeros.size], "datatype": "UINT8", "parameters": {"binary_data_size": zeros.size}}
        for name in "xy"
    ]
    head = document({"inputs": tensors, "parameters": {"binary_data_output": True}})
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Encoding": "gzip"}
    yield Request("scaled_add", gzipped(head + bytes(2 * zeros.size)), headers, note="20 Mi zeros, binary")
    key = b"k" * (40 * MIB)
    for text in (
        b'{"x":[1],"y":[2],"%s":1}',
        b'{"inputs":[{"name":"%s"}]}',
        b'{"inputs":[],"id":"%s"}',
        b'{"x":[1],"y":"%s"}',
    ):
        yield gzip_request("scaled_add", text % key, expect=refused, note="40 MiB of text by echo")
    members = zip_file([(b"k" * 60_000 + b"%d.npy" % number, b"", 0, 0) for number in range(800)])
    yield Request("scaled_add", gzipped(members), {"Content-Type": NPZ_TYPE, "Content-Encoding": "gzip"}, refused)
    outputs = b",".join([b'{"name":"z%d"}' % number for number in range(200_000)])
    yield gzip_request(
        "scaled_add",
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}],"outputs":[%s]}' % outputs,
        expect=refused,
    )


def archives(_: random.Random) -> Iterator[Request]:
    """Zip archives that are not what `numpy.savez` writes."""
    right = {"x": numpy.array([1, 2], numpy.float32), "y": numpy.array([0.5, 0.25], numpy.float32)}
    answer = exactly({"z": [2.5, 4.25]}, or_refused=False)
    yield npz_request("scaled_add", npz(right), expect=answer)
    yield npz_request("scaled_add", npz(right, compressed=False), expect=answer)
    yield npz_request("scaled_add", npz(right)[:-1], expect=refused)
    objects = io.BytesIO()
    numpy.savez(objects, allow_pickle=True, x=numpy.array([print], object), y=right["y"])
    yield npz_request("scaled_add", objects.getvalue(), expect=refused, note="pickled objects")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for name, array in right.items():
                archive.writestr(f"{name}.npy", npy(array))
        yield npz_request("scaled_add", file.getvalue(), expect=refused)
    for name in ("../x", "/x", "x\x00", "x" * 65_000, "", ".", "x/y"):
        yield npz_request("scaled_add", zip_file([(name.encode() + b".npy", npy(right["x"]), 136, 0)]), expect=refused)
    content = npz(right)
    for at in range(0, len(content), 3):
        for value in (0, 255, content[at] ^ 1, content[at] ^ 128):
            yield npz_request("scaled_add", content[:at] + bytes([value]) + content[at + 1 :], expect=right_or_refused)
    for end in range(0, len(content), 7):
        yield npz_request("scaled_add", content[:end], expect=refused)
        yield Request("scaled_add", gzipped(content)[:end], GZIP)


def right_or_refused(response: Response) -> str | None:
    """Accepts a refusal, or the right response if the changed byte does not matter; a checksum guards the numbers."""
    return exactly({"z": [2.5, 4.25]})(response)


ATTACKS = [
    Attack(
        "declared-sizes", "sizes at 2^16, 2^31, 2^32, 2^63 that the body does not contain", ("scaled_add",), declared
    ),
    Attack(
        "wide-arrays", "small files of arrays that are widened", ("scaled_add", "whole", "karate"), wide, together=1
    ),
    Attack(
        "refused-memory",
        "memory of refused requests",
        ("scaled_add",),
        refused_requests,
        together=1,
        measured=10,
        # Innocent requests would make Python collect the garbage.
        neighbours=(),
    ),
    Attack("large-answers", "responses larger than TorchServe carries", ("scaled_add",), large_responses, together=1),
    Attack("zip-archives", "zip archives that are not what numpy.savez writes", ("scaled_add",), archives),
]
