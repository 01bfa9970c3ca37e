"""What a server served last, so that one that has ended serves the same again."""

import json
from pathlib import Path
from typing import NamedTuple

from archive.errors import OpserveError
from scripts.torchserve.server import Server

# Also the mark of a server whose start was not interrupted: it is written when every sample has been tried.
FILE = "served.json"


class ServedVersion(NamedTuple):
    """One version of a model: its archive's name in the model store, and its workers."""

    archive: str
    model: str
    version: str
    default: bool
    fewest: int
    most: int


def save(server: Server) -> None:
    """Write down what a server serves now; nothing where it was not `make start` that started it."""
    if not server.temp.is_dir():
        return
    found = []
    for model in server.models():
        default = (server.describe(model) or {}).get("modelVersion")
        found += [
            ServedVersion(
                Path(described["modelUrl"]).name,
                model,
                version,
                version == default,
                int(described["minWorkers"]),
                int(described["maxWorkers"]),
            )
            for version, described in server.versions(model).items()
        ]
    # The defaults first: of several versions TorchServe makes the first one it is given the default.
    found.sort(key=lambda each: not each.default)
    path = server.temp / FILE
    new = path.with_suffix(".new")
    try:
        new.write_text(json.dumps([each._asdict() for each in found]))
        new.replace(path)
    except OSError as error:
        raise OpserveError(f"cannot write {path}: {error.strerror}") from None


def load(server: Server) -> list[ServedVersion]:
    """What was written down last; empty when nothing was."""
    try:
        return [ServedVersion(**each) for each in json.loads((server.temp / FILE).read_text())]
    except (OSError, ValueError, TypeError):
        return []
