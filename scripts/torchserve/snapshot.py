"""Records what a server serves, so that one that has ended can be started with the same models and workers."""

import json
from pathlib import Path
from typing import NamedTuple

from archive.errors import OpserveError
from scripts.torchserve.server import Server

# Written once every sample has been tried, so it also marks a start that was not interrupted.
FILE = "served.json"


class ServedVersion(NamedTuple):
    """One version of a model, and the name of its archive in the model store."""

    archive: str
    model: str
    version: str
    default: bool
    min_workers: int
    max_workers: int


def save(server: Server) -> None:
    """Records what a server serves now, unless it was started by other means than `make start`."""
    if not server.temp.is_dir():
        return
    found = []
    for model in server.models():
        default = (server.describe(model) or {}).get("modelVersion")
        for version, described in server.versions(model).items():
            archive = Path(described["modelUrl"]).name
            limits = int(described["minWorkers"]), int(described["maxWorkers"])
            found.append(ServedVersion(archive, model, version, version == default, *limits))
    # The defaults first: TorchServe makes the first of several versions the default.
    found.sort(key=lambda each: not each.default)
    path = server.temp / FILE
    new = path.with_suffix(".new")
    try:
        new.write_text(json.dumps([each._asdict() for each in found]))
        new.replace(path)
    except OSError as error:
        raise OpserveError(f"cannot write {path}: {error.strerror}") from None


def load(server: Server) -> list[ServedVersion]:
    """Returns what was recorded last; empty when nothing was."""
    try:
        return [ServedVersion(**each) for each in json.loads((server.temp / FILE).read_text())]
    except (OSError, ValueError, TypeError):
        return []
