"""Measures what a wire format costs the server: `python -m benchmarks.wire [--seconds 4] [--connections 1 8]`.

The graph model of `benchmarks.handler` on a TorchServe of its own gets the same graph in every format from `wrk`
(Debian's), and is asked for its answer in the same one. One format after the other, in turns, the order reversed
between them; the best turn counts, since on a shared machine the rest is somebody else's. Beside requests a second
stands the processor time that all processes of the server took for a request: that is what a format is to save.
Every format's answer is compared with the first one's before anything is timed.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import tempfile
import warnings
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import NamedTuple

import numpy
import torch
import yaml

from archive.errors import OpserveError
from archive.packer.contents import ArchiveContents
from archive.packer.pack import pack
from archive.process.command import run
from benchmarks.handler import workload
from benchmarks.payloads import REGION_PREFIX, in_shared_memory, npz, shared_region
from handlers.codecs.oip import JSON_LENGTH_HEADER
from scripts.load import wrk as loadtest_wrk
from tests.support.torchserve import TorchServe, serving  # a server on free ports

MODEL = "graph"


class Format(NamedTuple):
    """A body with its headers, and how the scores are got from an answer."""

    body: bytes
    headers: dict[str, str]
    region: SharedMemory | None = None


def formats(region: SharedMemory) -> dict[str, Format]:
    """The same graph in every format; the features are sixteenths, so that all of them hold the same numbers."""
    arrays = workload.graph()
    arrays["x"] = (arrays["x"] * 16).round() / 16
    small = {name: array.astype("float16" if name == "x" else "int32") for name, array in arrays.items()}
    plain = npz(arrays)
    return {
        ".npz": Format(*plain),
        ".npz, float16 and int32": Format(*npz(small)),
        ".npz, gzip": Format(gzip.compress(plain.body, 1), plain.headers | {"Content-Encoding": "gzip"}),
        "Open Inference Protocol, binary": Format(*workload.as_oip_binary(arrays)),
        "Open Inference Protocol, shared memory": Format(
            *in_shared_memory(arrays, {"scores": workload.NODES * workload.CLASSES * 4}, region), region
        ),
        "JSON": Format(*workload.as_json(arrays)),
    }


def scores(format: Format, content: bytes, headers: dict) -> numpy.ndarray:
    """The scores of an answer: float32 [nodes * classes]."""
    if format.region is not None:
        place = json.loads(content)["outputs"][0]["parameters"]
        start = place["shared_memory_offset"]
        return numpy.frombuffer(format.region.buf[start : start + place["shared_memory_byte_size"]], "f4").copy()
    if JSON_LENGTH_HEADER in headers:
        return numpy.frombuffer(content[int(headers[JSON_LENGTH_HEADER]) :], "f4")
    if content.startswith(b"PK"):
        return numpy.load(io.BytesIO(content))["scores"].ravel()
    return numpy.array(json.loads(content)["scores"], "f4").ravel()


def pack_model(folder: Path, batch: int) -> Path:
    """The graph model as an archive."""
    torch.ops.load_library(str(workload.LIBRARY))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(workload.GraphNetwork()).save(str(folder / "graph.pt"))
    document = {"minWorkers": 1, "maxWorkers": 1, "batchSize": batch, "maxBatchDelay": 1}
    document |= {"responseTimeout": 60, "startupTimeout": 60}
    document["opserve"] = workload.GRAPH | {"shared_memory": REGION_PREFIX}
    (folder / "graph.yaml").write_text(yaml.safe_dump(document))
    body = json.dumps({"rowptr": [0, 1, 2], "col": [1, 0], "x": [[0.5] * workload.FEATURES] * 2})
    (folder / "sample.json").write_text(body)
    files = (folder / "graph.pt", [workload.LIBRARY], folder / "graph.yaml", folder / "sample.json")
    return pack(ArchiveContents.from_files(MODEL, *files), folder)[0]


def measure(server: TorchServe, format: Format, connections: int, seconds: float) -> tuple[float, float]:
    """Requests a second, and milliseconds of processor time that the server takes for one."""
    headers = format.headers | {"Authorization": f"Bearer {server.server.token('inference')}"}
    url = f"{server.server.address('inference')}/predictions/{MODEL}"
    before = _processor_seconds(server)
    load = loadtest_wrk.load(url, format.body, headers, connections, seconds)
    used = _processor_seconds(server) - before
    if load.failed:
        raise OpserveError(f"not every request was answered: {dict(load.errors)}")
    return load.rate, used / load.requests * 1e3


def _processor_seconds(server: TorchServe) -> float:
    root = server.server.require_running()
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4, help="of one turn (4)")
    parser.add_argument("--turns", type=int, default=3, help="of each format (3)")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8], help="at a time (1 8)")
    parser.add_argument("--batch", type=int, default=1, help="largest batch (1)")
    options = parser.parse_args(arguments)
    loadtest_wrk.require()
    with tempfile.TemporaryDirectory() as name, shared_region(2 << 20) as region:
        folder = Path(name)
        chosen = formats(region)
        with serving(folder / "home", [pack_model(folder, options.batch)]) as server:
            expected = None
            for title, format in chosen.items():
                response = server.predict(MODEL, data=format.body, headers=format.headers)
                if response.status_code != 200:
                    raise OpserveError(f"{title}: {response.text}")
                got = scores(format, response.content, response.headers)
                expected = got if expected is None else expected
                numpy.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5, err_msg=title)
            results: dict[tuple[str, int], list[tuple[float, float]]] = {}
            for turn in range(options.turns):
                for connections in options.connections:
                    for title, format in list(chosen.items())[:: -1 if turn % 2 else 1]:
                        found = measure(server, format, connections, options.seconds)
                        results.setdefault((title, connections), []).append(found)
            print("| format | bytes |" + "".join(f" {count} connections |" for count in options.connections))
            print("| --- | ---: |" + " ---: |" * len(options.connections))
            for title, format in chosen.items():
                cells = []
                for connections in options.connections:
                    turns = results[title, connections]
                    best, least = max(rate for rate, _ in turns), min(used for _, used in turns)
                    cells.append(f"{best:.0f}/s, {least:.2f} ms")
                print(f"| {title} | {len(format.body):,} | " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    run(main)
