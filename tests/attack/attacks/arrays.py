"""Attacks by `.npy`, `.npz` and binary tensors: sizes that no bytes bear out, and small files of large arrays."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Iterator

import numpy

from tests.attack.campaign import Attack
from tests.attack.payloads import (
    GZIP,
    MIB,
    NPZ_TYPE,
    document,
    gzipped,
    json_shot,
    npy,
    npy_header,
    npz,
    npz_shot,
    oip_tensor,
    packed_shot,
    zip_file,
)
from tests.attack.target import form
from tests.attack.wire import Reply, Shot, exactly, refused

SIZES = (2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, 2**70)


def declared(_: random.Random) -> Iterator[Shot]:
    """Sizes at every border that nothing in the file bears out."""
    eight = bytes(8)
    for size in SIZES:
        for shape in (f"({size},)", f"({size}, 0)", f"(0, {size})", f"({size}, {size})", f"({size}, 1, {2**40})"):
            for descr in ("'<f4'", "'|u1'", "'|b1'", f"'<f{size}'", f"'V{size}'", f"'S{size}'", f"'({size},)f4'"):
                content = npy_header(descr, shape) + eight
                yield form("scaled_add", {"x": (content, "application/x-npy"), "y": (b"[1]", "application/json")})
        member = npy(numpy.ones(2, numpy.float32))
        for claimed in (size & 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF):
            yield npz_shot(
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
            yield json_shot("scaled_add", {"inputs": [tensor, oip_tensor("y", [1.0])]}, expect=refused)
            yield Shot("scaled_add", head + eight, headers, refused)
            yield Shot("scaled_add", head + eight, {"Inference-Header-Content-Length": str(size)}, refused)
    for length in (0, 1, 117, 118, 1024, 1025, 65535):
        header = b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + b"{" * min(length, 2000)
        yield form(
            "scaled_add", {"x": (header, "application/x-npy"), "y": (b"[1]", "application/json")}, expect=refused
        )
        header = b"\x93NUMPY\x02\x00" + (length << 16).to_bytes(4, "little") + b"(" * min(length, 2000)
        yield form(
            "scaled_add", {"x": (header, "application/x-npy"), "y": (b"[1]", "application/json")}, expect=refused
        )


def wide(_: random.Random) -> Iterator[Shot]:
    """Arrays of few bytes that become many in the dtype of the input, and their answers."""
    accept = {"Accept": NPZ_TYPE}
    for millions in (20, 60, 127):
        zeros = numpy.zeros(millions * MIB, numpy.uint8)
        body = npz({"x": zeros, "y": zeros})
        yield npz_shot("scaled_add", body, headers=accept, note=f"2 x {millions} MiB of uint8")
        yield npz_shot("scaled_add", body, note=f"2 x {millions} MiB of uint8, as JSON")
        yield npz_shot("scaled_add", npz({"x": zeros.view(bool), "y": zeros}), expect=refused, note="bool")
        halves = zeros.view(numpy.float16)
        yield npz_shot("scaled_add", npz({"x": halves, "y": halves}), headers=accept, note="float16")
        yield npz_shot("scaled_add", npz({"x": zeros, "y": zeros[:1]}), expect=refused, note="and one number")
        yield npz_shot("whole", npz({"n": zeros}), note=f"{millions} MiB of uint8 as int64")
        tensor = {
            "name": "n",
            "shape": [zeros.size],
            "datatype": "UINT8",
            "parameters": {"binary_data_size": zeros.size},
        }
        head = document({"inputs": [tensor], "parameters": {"binary_data_output": True}})
        headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Encoding": "gzip"}
        yield Shot("whole", gzipped(head + bytes(zeros.size)), headers, note=f"{millions} MiB of UINT8 as INT64")
    for nodes in (300_000, 1_800_000, 6_000_000):
        graph = {
            "rowptr": numpy.zeros(nodes + 1, numpy.uint8),
            "col": numpy.zeros(0, numpy.int64),
            "x": numpy.zeros((nodes, 34), numpy.uint8),
        }
        yield npz_shot("karate", npz(graph), note=f"a graph of {nodes} nodes")
        yield npz_shot("karate", npz(graph), headers=accept, note=f"a graph of {nodes} nodes, as .npz")
    edges = {
        "rowptr": numpy.array([0, 30 * MIB], numpy.int32),
        "col": numpy.zeros(30 * MIB, numpy.uint8),
        "x": numpy.zeros((1, 34), numpy.uint8),
    }
    yield npz_shot("karate", npz(edges), note="a node of 30 million edges")


def refused_memory(_: random.Random) -> Iterator[Shot]:
    """One refused `.npz` after the other: what one of them held is gone when the next comes."""
    body = npz({"x": numpy.zeros(57 * MIB, numpy.uint8), "nothing": numpy.zeros(8, numpy.uint8)})
    other = npz({"x": numpy.zeros(14 * MIB, numpy.float32), "y": numpy.ones(3, numpy.float32)})
    for _ in range(30):
        yield npz_shot("scaled_add", body, expect=refused)
        yield npz_shot("scaled_add", other, expect=refused, note="refused by the operator")


def honest(_: random.Random) -> Iterator[Shot]:
    """Answers that are larger than TorchServe carries, honestly asked for and by echo."""
    values = numpy.random.default_rng(1).normal(size=(2, 7 * MIB + MIB // 4)).astype(numpy.float32)
    for count in (values.shape[1], 2 * MIB):
        body = npz({"x": values[0, :count], "y": values[1, :count]}, compressed=False)
        for accept in ("application/json", NPZ_TYPE, "application/vnd.oip+json"):
            yield npz_shot("scaled_add", body, headers={"Accept": accept}, note=f"{count} floats as {accept}")
    zeros = numpy.zeros(20 * MIB, numpy.uint8)
    for accept in (NPZ_TYPE, "application/json", "application/vnd.oip+json"):
        yield npz_shot("scaled_add", npz({"x": zeros, "y": zeros}), headers={"Accept": accept}, note="20 Mi zeros")
    tensors = [
        {"name": name, "shape": [zeros.size], "datatype": "UINT8", "parameters": {"binary_data_size": zeros.size}}
        for name in "xy"
    ]
    head = document({"inputs": tensors, "parameters": {"binary_data_output": True}})
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Encoding": "gzip"}
    yield Shot("scaled_add", gzipped(head + bytes(2 * zeros.size)), headers, note="20 Mi zeros, binary")
    key = b"k" * (40 * MIB)
    for text in (
        b'{"x":[1],"y":[2],"%s":1}',
        b'{"inputs":[{"name":"%s"}]}',
        b'{"inputs":[],"id":"%s"}',
        b'{"x":[1],"y":"%s"}',
    ):
        yield packed_shot("scaled_add", text % key, expect=refused, note="40 MiB of text by echo")
    members = zip_file([(b"k" * 60_000 + b"%d.npy" % number, b"", 0, 0) for number in range(800)])
    yield Shot("scaled_add", gzipped(members), {"Content-Type": NPZ_TYPE, "Content-Encoding": "gzip"}, refused)
    outputs = b",".join([b'{"name":"z%d"}' % number for number in range(200_000)])
    yield packed_shot(
        "scaled_add",
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}],"outputs":[%s]}' % outputs,
        expect=refused,
    )


def archives(_: random.Random) -> Iterator[Shot]:
    """Zip archives that are not what `numpy.savez` writes."""
    right = {"x": numpy.array([1, 2], numpy.float32), "y": numpy.array([0.5, 0.25], numpy.float32)}
    answer = exactly({"z": [2.5, 4.25]}, or_refused=False)
    yield npz_shot("scaled_add", npz(right), expect=answer)
    yield npz_shot("scaled_add", npz(right, compressed=False), expect=answer)
    yield npz_shot("scaled_add", npz(right)[:-1], expect=refused)
    objects = io.BytesIO()
    numpy.savez(objects, allow_pickle=True, x=numpy.array([print], object), y=right["y"])
    yield npz_shot("scaled_add", objects.getvalue(), expect=refused, note="pickled objects")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for name, array in right.items():
                archive.writestr(f"{name}.npy", npy(array))
        yield npz_shot("scaled_add", file.getvalue(), expect=refused)
    for name in ("../x", "/x", "x\x00", "x" * 65_000, "", ".", "x/y"):
        yield npz_shot("scaled_add", zip_file([(name.encode() + b".npy", npy(right["x"]), 136, 0)]), expect=refused)
    content = npz(right)
    for at in range(0, len(content), 3):
        for value in (0, 255, content[at] ^ 1, content[at] ^ 128):
            yield npz_shot("scaled_add", content[:at] + bytes([value]) + content[at + 1 :], expect=right_or_refused)
    for end in range(0, len(content), 7):
        yield npz_shot("scaled_add", content[:end], expect=refused)
        yield Shot("scaled_add", gzipped(content)[:end], GZIP)


def right_or_refused(reply: Reply) -> str | None:
    """A changed byte is refused, or was of no consequence: a checksum guards the numbers."""
    return exactly({"z": [2.5, 4.25]})(reply)


ATTACKS = [
    Attack("declared-sizes", "sizes at 2^16, 2^31, 2^32, 2^63 that no bytes bear out", ("scaled_add",), declared),
    Attack(
        "wide-arrays", "small files of arrays that are widened", ("scaled_add", "whole", "karate"), wide, together=1
    ),
    Attack("refused-memory", "refused requests that live on", ("scaled_add",), refused_memory, together=2),
    Attack("large-answers", "answers over what TorchServe carries", ("scaled_add",), honest, together=1),
    Attack("zip-archives", "zip archives that are not what numpy.savez writes", ("scaled_add",), archives),
]
