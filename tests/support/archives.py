"""Tiny archives for the tests of the scripts: a handler of a few lines, packed by torch-model-archiver."""

import json
import tempfile
from pathlib import Path
from typing import Any

from archive.building.output import write_sample_parts
from archive.packer.archiver import run_model_archiver

CONFIG = """\
minWorkers: 1
maxWorkers: 1
batchSize: 1
maxBatchDelay: 1
responseTimeout: 30
startupTimeout: 30
"""

# Doubles the numbers of a JSON body; a named part is answered with its length.
ECHO = """
import json


def handle(data, context):
    if data is None:
        return None
    answers = []
    for row in data:
        if "body" in row:
            answers.append(json.dumps({"doubled": [2 * v for v in json.loads(bytes(row["body"]))["values"]]}))
        else:
            answers.append(json.dumps({name: len(part) for name, part in sorted(row.items())}))
    return answers
"""

# Loads only once, so that a second worker dies.
LOADS_ONCE = """
from pathlib import Path


class Handler:
    def initialize(self, context):
        with (Path(__file__).parent / "loaded").open("x"):
            pass

    def handle(self, data, context):
        return ["{}" for _ in data]
"""

# Fails to load as long as a file exists; TorchServe gives such a worker up after a second.
LOADS_UNLESS = """
import os
from pathlib import Path


class Handler:
    def initialize(self, context):
        if Path({switch!r}).exists():
            raise RuntimeError("the disk is full")

    def handle(self, data, context):
        return [str(os.getpid()) for _ in data]
"""

# The first worker loads at once, every other one in four seconds.
LOADS_SLOWLY = """
import time
from pathlib import Path


class Handler:
    def initialize(self, context):
        try:
            (Path(__file__).parent / "loaded").touch(exist_ok=False)
        except FileExistsError:
            time.sleep(4)

    def handle(self, data, context):
        return ["{}" for _ in data]
"""

RAISES = """
class Handler:
    def initialize(self, context):
        raise {error}("libmissing.so cannot be opened")

    def handle(self, data, context):
        return ["{{}}" for _ in data]
"""


def make(
    folder: Path,
    name: str,
    handler: str,
    request: dict[str, bytes] | None = None,
    answer: Any = None,
    version: str = "1.0",
    config: str = CONFIG,
) -> Path:
    """Packs a handler, with a sample if there is a request, into folder/NAME.mar."""
    with tempfile.TemporaryDirectory() as work_folder:
        work = Path(work_folder)
        (work / f"{name}_handler.py").write_text(handler)
        (work / "model-config.yaml").write_text(config)
        if request is not None:
            (work / "extra").mkdir()
            write_sample_parts(work / "extra" / "sample", request, answer)
        return run_model_archiver(
            name,
            work / f"{name}_handler.py",
            folder,
            version=version,
            config=work / "model-config.yaml",
            extra_files=[work / "extra"] if request is not None else [],
        )


def echo(folder: Path) -> Path:
    """An archive whose sample is a JSON body."""
    body = json.dumps({"values": [1.5, 2]}).encode()
    return make(folder, "echo", ECHO, {"body.json": body}, {"doubled": [3.0, 4]})


def parts(folder: Path) -> Path:
    """An archive whose sample is a request of two named parts."""
    return make(folder, "parts", ECHO, {"image.png": b"12345", "corners.json": b"[]"}, {"corners": 2, "image": 5})
