"""The servers that opserve's is compared with, started and sent requests as their guides have it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy

from benchmarks.common.payloads import Payload, oip_binary, oip_json
from benchmarks.common.workloads import Workload, form
from benchmarks.serving import environments
from benchmarks.serving.servers import PEERS, PeerServer


def _program(name: str) -> Callable[[Path, int], list[str]]:
    """A program of peers/ that listens by itself."""
    return lambda python, port: [str(python), str(PEERS / f"{name}.py")]


def _npz_in_form(workload: Workload) -> Payload:
    """For servers that accept files only as parts of a form."""
    return form({"npz": workload.payload().body}) if workload.format == "npz" else workload.payload()


def _form_as_msgpack(workload: Workload) -> Payload:
    """For mosec, which has no forms: the same PNG in MessagePack."""
    if workload.format != "form":
        return workload.payload()
    return Payload(encode_msgpack(workload.inputs), {"Content-Type": "application/msgpack"})


def encode_msgpack(values: Mapping[str, numpy.ndarray | bytes]) -> bytes:
    """Encodes a map of bytes and of float32 matrices, as nested lists, in MessagePack."""

    def encode(value: object) -> bytes:
        if isinstance(value, bytes):
            return b"\xc6" + len(value).to_bytes(4, "big") + value
        if isinstance(value, list):
            return b"\xdc" + len(value).to_bytes(2, "big") + b"".join(map(encode, value))
        return b"\xcb" + numpy.array(value, ">f8").tobytes()

    parts = [bytes([0x80 | len(values)])]
    for name, value in values.items():
        parts += [bytes([0xA0 | len(name)]) + name.encode()]
        parts += [encode(value if isinstance(value, bytes) else value.tolist())]
    return b"".join(parts)


def _open_inference(workload: Workload) -> Payload:
    """For Triton, which implements the Open Inference Protocol: JSON, or binary data instead of an `.npz` or a form."""
    encode = oip_json if workload.format in ("json", "oip") else oip_binary
    return encode(workload.arrays)


def _bentoml_path(workload: Workload) -> str:
    """Each kind of request has its own route."""
    return f"/{workload.model}{'_npz' if workload.format == 'npz' else ''}"


def _bentoml_payload(workload: Workload) -> Payload:
    """A form for files; the response to one is a file as well."""
    payload = _npz_in_form(workload)
    return Payload(payload.body, {**payload.headers, "Accept": "*/*"})


def _uvicorn(python: Path, port: int) -> list[str]:
    """One process, uvloop and httptools, without an access log."""
    words = [str(python), "-m", "uvicorn", "fastapi_app:app", "--host", "127.0.0.1", "--port", str(port)]
    return [*words, "--workers", "1", "--no-access-log", "--log-level", "warning"]


def _gunicorn(python: Path, port: int) -> list[str]:
    """One process whose threads hold the connections."""
    words = [str(python), "-m", "gunicorn", "flask_app:app", "-b", f"127.0.0.1:{port}", "-w", "1"]
    return [*words, "-k", "gthread", "--threads", "8", "--keep-alive", "60"]


def _mosec(python: Path, port: int) -> list[str]:
    """Its program takes the address as arguments."""
    words = [str(python), str(PEERS / "mosec_app.py"), "--address", "127.0.0.1", "--port", str(port)]
    return [*words, "--log-level", "error"]


def _bentoml(python: Path, port: int) -> list[str]:
    """Its own launcher."""
    words = [str(python), "-m", "bentoml", "serve", "bentoml_app:Predict", "--working-dir", str(PEERS)]
    return [*words, "--host", "127.0.0.1", "--port", str(port)]


FASTAPI, FASTAPI_ORJSON = "FastAPI", "FastAPI, orjson"
MOSEC, MOSEC_BATCHES = "mosec", "mosec, batches of 8"
TRITON = "Triton"
PEER_SERVERS = [
    PeerServer(name=FASTAPI, distribution="fastapi", command=_uvicorn),
    PeerServer(name=MOSEC, distribution="mosec", command=_mosec, payload=_form_as_msgpack),
    PeerServer(
        name=MOSEC_BATCHES,
        distribution="mosec",
        command=_mosec,
        payload=_form_as_msgpack,
        variables={"BENCH_BATCH": "8"},
    ),
    PeerServer(name="Flask", distribution="flask", command=_gunicorn),
    PeerServer(name="LitServe", distribution="litserve", command=_program("litserve_app"), payload=_npz_in_form),
    PeerServer(
        name="BentoML",
        distribution="bentoml",
        environment=environments.BENTOML,
        command=_bentoml,
        variables={
            "BENTOML_DO_NOT_TRACK": "True",
            "BENTOML_CONFIG_OPTIONS": "api_server.logging.access.enabled=false",
        },
        payload=_bentoml_payload,
        path=_bentoml_path,
    ),
    PeerServer(
        name="Ray Serve",
        distribution="ray",
        command=_program("ray_app"),
        variables={"RAY_USAGE_STATS_ENABLED": "0"},
    ),
    PeerServer(
        name=TRITON,
        distribution="nvidia-pytriton",
        environment=environments.TRITON,
        command=_program("triton_app"),
        payload=_open_inference,
        path=lambda workload: f"/v2/models/{workload.model}/infer",
    ),
    # Not as its guide has it: what remains of a difference when JSON is read and written as fast as can be.
    PeerServer(name=FASTAPI_ORJSON, distribution="fastapi", command=_uvicorn, variables={"BENCH_JSON": "orjson"}),
]
