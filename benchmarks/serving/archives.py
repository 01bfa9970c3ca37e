"""Packs the models that opserve and a stock TorchServe serve in the benchmarks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy
import yaml

from archive.packer.archiver import run_model_archiver
from archive.packer.contents import ArchiveContents
from archive.packer.manifest import write_archive_with_manifest
from archive.packer.mar_manifest import NATIVE, PYTHON
from archive.packer.pack import pack, unpack
from benchmarks.common.graph import FEATURES
from benchmarks.common.payloads import REGION_PREFIX, plain_json
from benchmarks.common.workloads import LIBRARY
from benchmarks.serving.servers import PEERS
from handlers.integrity.manifest import MANIFEST_FILE

# The last one is the small model of ONNX Runtime alone, of which only workers are measured.
SHIPPED, GRAPH, ONNX = ("scaled_add", "digits", "karate_onnx"), "graph_op", "karate_onnx"
# Those of all other servers, whatever a profile has.
EQUAL_WORKERS, EQUAL_THREADS = {"minWorkers": 1, "maxWorkers": 1}, {"threads": 1}
GRAPH_CONFIG = {
    "responseTimeout": 60,
    "startupTimeout": 60,
    "opserve": {
        "device": "cpu",
        "batching": "graph",
        "shared_memory": REGION_PREFIX,
        "inputs": [
            {"name": "rowptr", "dtype": "int32", "shape": [-1]},
            {"name": "col", "dtype": "int32", "shape": [-1]},
            {"name": "value", "dtype": "float32", "shape": [-1]},
            {"name": "x", "dtype": "float32", "shape": [-1, FEATURES]},
        ],
        "outputs": [
            {"name": "label", "dtype": "int64", "shape": [-1]},
            {"name": "probabilities", "dtype": "float32", "shape": [-1, 7]},
        ],
        "profile": "latency",
        # As in the shipped models.
        "profiles": {
            "latency": {"batchSize": 1, "maxBatchDelay": 1},
            "throughput": {"batchSize": 8, "maxBatchDelay": 1},
        },
    },
}


def pack_models(profile: str, files: Path, store: Path, models: Collection[str] = (*SHIPPED, GRAPH)) -> Path:
    """Packs models of the benchmarks with one of opserve's profiles; returns the model store.

    Args:
        profile: `latency` or `throughput`.
        files: Folder with the graph model's files.
        store: The model store.
        models: `scaled_add`, `digits`, `karate_onnx` or `graph_op`.
    """
    for name in models:
        shipped = name in SHIPPED
        contents = ArchiveContents.from_model(name, profile=profile) if shipped else graph_contents(files, profile)
        section = contents.document["opserve"] | EQUAL_THREADS
        pack(
            replace(contents, document=contents.document | EQUAL_WORKERS | {"opserve": section}), store, runtime=PYTHON
        )
    return store


def for_native_worker(store: Path, target: Path, work: Path) -> Path:
    """Writes the archives of a model store for the native worker, with the same files; returns that store.

    Args:
        store: The model store.
        target: The new one.
        work: New folder for what is unpacked.
    """
    target.mkdir(parents=True)
    work.mkdir()
    for archive in store.glob("*.mar"):
        files = unpack(archive, work / archive.stem)
        (files / MANIFEST_FILE).unlink()
        write_archive_with_manifest(files, target / archive.name, None, NATIVE)
    return target


def graph_contents(files: Path, profile: str) -> ArchiveContents:
    """Describes the graph model as users describe an artifact of their own."""
    config, sample = files / "graph.yaml", files / "graph.json"
    config.write_text(yaml.safe_dump(GRAPH_CONFIG, sort_keys=False))
    small = {
        "rowptr": numpy.array([0, 2, 3]),
        "col": numpy.array([0, 1, 1]),
        "value": numpy.array([0.5, 0.5, 1]),
        "x": numpy.linspace(0, 1, 2 * FEATURES, dtype="float32").reshape(2, FEATURES),
    }
    sample.write_bytes(plain_json(small).body)
    return ArchiveContents.from_files(GRAPH, files / "graph.pt", [LIBRARY], config, sample, profile=profile)


def pack_for_stock(models: Sequence[str], python: Path, store: Path) -> Path:
    """Packs models with a handler on TorchServe's own base class; returns the model store."""
    for model in models:
        handler, modules = PEERS / "torchserve_handler.py", [PEERS / "common.py"]
        run_model_archiver(model, handler, store, extra_files=modules, python=python)
    return store
