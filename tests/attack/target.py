"""The server that is attacked, with shipped models in batches and small models for what those cannot show."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import torch
import yaml
from torch import nn

import opserve_ops  # noqa: F401  registers the operators
from archive.building.export import save_torchscript
from archive.packer.contents import ArchiveContents
from archive.packer.mar_manifest import PYTHON
from archive.packer.pack import pack
from archive.repository import BUILD
from handlers.config import ModelConfig
from handlers.sample import difference
from scripts.torchserve.configuration import read_properties
from tests.attack.wire import JSON, Connection, Request
from tests.serving.test_models import karate_subgraph
from tests.support.torchserve import TorchServe

# Hostile and innocent requests share batches.
BATCH = 8
DELAY_MS = 20
BATCHING = {"scaled_add": "stack", "digits": "stack", "karate": "graph", "karate_onnx": "graph"}
# A value at which the model `in_place` fails after it has written into its inputs.
POISON = 666.0
# The most seconds that a request to `busy` may take.
MAX_BUSY_S = 20


class InPlace(nn.Module):
    """y = 2 x + 1, computed in x itself; fails for POISON after it has changed x."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        poisoned = bool((x == 666.0).any())
        x.mul_(2.0)
        if poisoned:
            raise RuntimeError("this model does not accept 666")
        return x.add_(1.0)


class Whole(nn.Module):
    """Returns whole numbers unchanged."""

    def forward(self, n: torch.Tensor) -> torch.Tensor:
        return n + 0


class Range(nn.Module):
    """Returns 256 x largest + smallest sample of each channel of a picture."""

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        # Allocates nothing as large as the picture, so that only the cost of decoding is measured.
        largest, smallest = picture.amax(dim=[2, 3]), picture.amin(dim=[2, 3])
        return 256 * largest.to(torch.int64) + smallest


class Busy(nn.Module):
    """Returns x; hooks.py waits."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.0


BUSY_HOOKS = f'''"""Waits for the number of seconds that the first number gives."""

import time


def preprocess(inputs):
    time.sleep(min({MAX_BUSY_S}, float(inputs["x"][:1].sum())))
    return inputs
'''


class Own(NamedTuple):
    """A model made for attacks: its module, tensors, and batching."""

    module: type[nn.Module]
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    batching: str = "none"
    hooks: str = ""


def _tensor(name: str, dtype: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": list(shape)}


OWN = {
    "in_place": Own(InPlace, [_tensor("x", "float32", -1)], [_tensor("y", "float32", -1)], "stack"),
    "whole": Own(Whole, [_tensor("n", "int64", -1)], [_tensor("m", "int64", -1)]),
    "picture": Own(Range, [_tensor("picture", "uint8", 3, -1, -1)], [_tensor("range", "int64", 3)], "stack"),
    "busy": Own(Busy, [_tensor("x", "float32", -1)], [_tensor("y", "float32", -1)], hooks=BUSY_HOOKS),
}
MODELS = (*BATCHING, *OWN)
# Models whose order of summation depends on the shape of the batch.
NETWORKS = ("digits", "karate", "karate_onnx")


def pack_model(name: str, folder: Path, runtime: str | None = None) -> Path:
    """Packs one of MODELS, batched if the model allows it; one with hooks in Python is always for that worker."""
    if name in BATCHING:
        return _pack_shipped(name, folder, runtime)
    return _pack_own(name, OWN[name], folder, PYTHON if OWN[name].hooks else runtime)


def _pack_shipped(name: str, folder: Path, runtime: str | None) -> Path:
    contents = ArchiveContents.from_model(name)
    document = contents.document | _server_keys(BATCH)
    document["opserve"] = document["opserve"] | {"batching": BATCHING[name], "threads": 1}
    return pack(replace(contents, document=document, config=ModelConfig.parse(document)), folder, runtime=runtime)[0]


def _pack_own(name: str, own: Own, folder: Path, runtime: str | None) -> Path:
    work = folder / f"{name}.work"
    work.mkdir()
    save_torchscript(own.module(), work / f"{name}.pt")
    section = {"batching": own.batching, "inputs": own.inputs, "outputs": own.outputs}
    if own.hooks:
        (work / "hooks.py").write_text(own.hooks)
        section["hooks"] = "hooks.py"
    document = _server_keys(1 if own.batching == "none" else BATCH) | {"opserve": section}
    (work / "model.yaml").write_text(yaml.safe_dump(document))
    sample = work / "sample.json"
    sample.write_bytes(innocents(name)[0].body)
    contents = ArchiveContents.from_files(name, work / f"{name}.pt", [], work / "model.yaml", sample)
    return pack(contents, folder, runtime=runtime)[0]


def _server_keys(batch: int) -> dict[str, int]:
    times = {"responseTimeout": 60, "startupTimeout": 120}
    return {"minWorkers": 1, "maxWorkers": 1, "batchSize": batch, "maxBatchDelay": DELAY_MS} | times


def pack_models(names: Sequence[str], folder: Path, runtime: str | None = None) -> list[Path]:
    """Packs models for one of the workers; without one each for the one that `make archive` chooses."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda name: pack_model(name, folder, runtime), names))


def innocents(model: str) -> list[Request]:
    """Makes requests of several kinds with different right responses."""
    generator = random.Random(model)
    if model == "digits":
        return _innocent_digits()
    if model.startswith("karate"):
        bodies = [karate_subgraph(list(range(size))) for size in (34, 5, 20, 12)]
    elif model == "scaled_add":
        sizes = (3, 1, 3, 7, 3, 500)
        bodies = [{name: [generator.randrange(999) / 8 for _ in range(size)] for name in "xy"} for size in sizes]
        bodies.append(_as_oip({name: [float(generator.randrange(999)) for _ in range(3)] for name in "xy"}))
    elif model == "in_place":
        bodies = [{"x": [float(generator.randrange(600)) for _ in range(4)]} for _ in range(6)]
    elif model == "whole":
        bodies = [{"n": [generator.randrange(-(2**62), 2**62) for _ in range(size)]} for size in (1, 5, 300)]
    elif model == "picture":
        bodies = [
            {"picture": [[[generator.randrange(256) for _ in range(4)] for _ in range(3)] for _ in range(3)]}
            for _ in range(4)
        ]
    else:
        bodies = [{"x": [0.0, float(number)]} for number in range(1, 4)]
    return [Request(model, json.dumps(body).encode()) for body in bodies]


def _innocent_digits() -> list[Request]:
    folder = BUILD / "models" / "digits" / "sample" / "request"
    image, corners = (folder / "image.png").read_bytes(), json.loads((folder / "corners.json").read_text())
    requests = []
    for shift in range(5):
        moved = json.dumps([[x + shift, y - shift] for x, y in corners]).encode()
        requests.append(form("digits", {"image": (image, "image/png"), "corners": (moved, JSON)}))
    return requests


def _as_oip(inputs: dict[str, list[float]]) -> dict[str, Any]:
    tensors = [{"name": name, "shape": [len(data)], "datatype": "FP32", "data": data} for name, data in inputs.items()]
    return {"id": "innocent", "inputs": tensors}


def form(model: str, parts: dict[str, tuple[bytes, str]], **options: Any) -> Request:
    """Makes a multipart form of parts, each a content and a media type; names are sent as they are."""
    boundary = b"7d4a6d158c91opserve"
    pieces = []
    for name, (content, media_type) in parts.items():
        head = f'Content-Disposition: form-data; name="{name}"; filename="{name}"\r\nContent-Type: {media_type}\r\n\r\n'
        pieces += [b"--", boundary, b"\r\n", head.encode("utf-8", "surrogatepass"), content, b"\r\n"]
    body = b"".join([*pieces, b"--", boundary, b"--\r\n"])
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"} | options.pop("headers", {})
    return Request(model, body, headers, **options)


@dataclass(frozen=True)
class Innocent:
    """A request and its response before any attack."""

    request: Request
    expected: bytes

    def wrong(self, status: int, body: bytes) -> str | None:
        """Describes what is wrong with another response to it.

        Elementwise models respond with the same bytes in every batch. Networks sum in an order that depends on the
        shape of the batch: their floats may differ by rounding, their whole numbers not at all.
        """
        if status != 200:
            return f"status {status}: {body[:200]!r}"
        if body == self.expected:
            return None
        if self.request.model not in NETWORKS:
            return f"answered {body[:200]!r}, not {self.expected[:200]!r}"
        try:
            return difference(json.loads(body), json.loads(self.expected), 1e-5)
        except ValueError:
            return f"answered {body[:200]!r}"


class Target:
    """A running server of some models, and innocent requests to them."""

    def __init__(self, torchserve: TorchServe, models: Sequence[str]):
        self.torchserve = torchserve
        self.models = tuple(models)
        self._token: tuple[float, str | None] = (0.0, None)
        self.innocents = {model: self._answered(model) for model in models}

    def _answered(self, model: str) -> list[Innocent]:
        connection = self.connect()
        found = []
        for request in innocents(model):
            response = connection.send(request)
            assert response.status == 200, (
                f"{model} refuses an innocent request: {response.status} {response.body[:300]!r}"
            )
            found.append(Innocent(request, response.body))
        connection.close()
        return found

    def token(self) -> str | None:
        """Returns an inference token, which is looked up once a minute."""
        asked, token = self._token
        if time.monotonic() - asked > 60:
            token = self.torchserve.server.token("inference")
            self._token = time.monotonic(), token
        return token

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the inference API."""
        url = urlsplit(self.torchserve.server.address("inference"))
        return url.hostname or "127.0.0.1", url.port or 80

    @property
    def properties(self) -> dict[str, str]:
        """The configuration of the running server, fitted to the machine."""
        return read_properties(self.torchserve.server.temp / "config.properties")

    def connect(self, token: Callable[[], str | None] | None = None) -> Connection:
        """Makes a connection with a valid token."""
        return Connection(*self.address, token or self.token)

    def is_sound(self, model: str) -> bool:
        """Whether a model responds rightly to an innocent request."""
        connection = self.connect()
        try:
            innocent = self.innocents[model][0]
            response = connection.send(innocent.request, 10)
            return innocent.wrong(response.status, response.body) is None
        finally:
            connection.close()


@contextlib.contextmanager
def target(folder: Path, models: Sequence[str], runtime: str | None = None, **changes: str) -> Iterator[Target]:
    """Runs a server of some models in a folder; `runtime` is the worker, the keywords change its configuration."""
    store = folder / "packed"
    store.mkdir(parents=True)
    torchserve = TorchServe(folder / "home", pack_models(models, store, runtime), **changes)
    try:
        started = torchserve.start()
        assert started.returncode == 0, f"{started.stdout}\n{started.stderr}"
        yield Target(torchserve, models)
    finally:
        torchserve.stop()
