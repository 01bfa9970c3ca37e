"""Keeps a record of a deploy while it runs: one that was interrupted is noticed, and finished or rolled back."""

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from scripts.torchserve.server import Server

_PREFIX = "deploy-"


@dataclass(frozen=True)
class DeployRecord:
    """A deploy that has begun and is not finished.

    Attributes:
        model: the model.
        old: the version that was the default when the deploy began.
        new: the version that is to replace it.
        server: pid and start time of the TorchServe on which it began; the record means nothing to another one.
        deployer: pid and start time of the process that deploys, or did.
    """

    model: str
    old: str
    new: str
    server: tuple[int, float]
    deployer: tuple[int, float]

    @property
    def is_running(self) -> bool:
        """Whether the process that deploys still runs."""
        with contextlib.suppress(psutil.Error):
            return _identify(psutil.Process(self.deployer[0])) == self.deployer
        return False

    def describe(self) -> str:
        """Returns a line for a person, with the command to type."""
        what = f"{self.model}: a deploy of {self.new} in place of {self.old}"
        if self.is_running:
            return f"{what} is running"
        return f"{what} was interrupted; `make deploy MODEL={self.model} VERSION={self.new}` finishes it"


def save(server: Server, model: str, old: str, new: str) -> None:
    """Records that a deploy begins; called before it changes anything."""
    record = DeployRecord(model, old, new, _identify(server.require_running()), _identify(psutil.Process()))
    server.make_temp()
    path = _path(server, model)
    # Renamed into place: a reader sees all of it or none.
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps(asdict(record)))
    unfinished.replace(path)


def remove(server: Server, model: str) -> None:
    """Records that the deploy of a model is finished or rolled back."""
    _path(server, model).unlink(missing_ok=True)


def load_unfinished(server: Server) -> list[DeployRecord]:
    """Returns the unfinished deploys that began on the TorchServe that runs now."""
    frontend = server.frontend()
    if frontend is None:
        return []
    found = [_read(path) for path in sorted(server.temp.glob(f"{_PREFIX}*.json"))]
    return [each for each in found if each is not None and each.server == _identify(frontend)]


def _path(server: Server, model: str) -> Path:
    return server.temp / f"{_PREFIX}{model}.json"


def _read(path: Path) -> DeployRecord | None:
    # Removed meanwhile, or written by another version of opserve.
    with contextlib.suppress(OSError, ValueError, TypeError):
        read = json.loads(path.read_text())
        return DeployRecord(**(read | {name: tuple(read[name]) for name in ("server", "deployer")}))
    return None


def _identify(process: psutil.Process) -> tuple[int, float]:
    return process.pid, process.create_time()
