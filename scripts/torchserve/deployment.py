"""Records a deploy while it runs, so that one that was cut short is seen, and can be finished or taken back."""

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from scripts.torchserve.server import Server

_PREFIX = "deploy-"


@dataclass(frozen=True)
class Deployment:
    """A deploy that was begun and not finished.

    Attributes:
        model: the model.
        old: the version that was the default when it began.
        new: the version that shall take its place.
        server: pid and start time of the TorchServe it was begun on: another one knows nothing of it.
        deployer: pid and start time of the process that deploys, or did.
    """

    model: str
    old: str
    new: str
    server: tuple[int, float]
    deployer: tuple[int, float]

    @property
    def is_under_way(self) -> bool:
        """Whether the process that began it still runs."""
        with contextlib.suppress(psutil.Error):
            return _identity(psutil.Process(self.deployer[0])) == self.deployer
        return False

    def describe(self) -> str:
        """In a line for a person, with what to type."""
        what = f"{self.model}: a deploy of {self.new} in place of {self.old}"
        if self.is_under_way:
            return f"{what} is under way"
        return f"{what} was interrupted; `make deploy MODEL={self.model} VERSION={self.new}` finishes it"


def record(server: Server, model: str, old: str, new: str) -> None:
    """Note that a deploy begins; must be called before the first thing that it changes."""
    begun = Deployment(model, old, new, _identity(server.require_running()), _identity(psutil.Process()))
    server.make_temp()
    path = _path(server, model)
    # Renamed into place: a reader sees all of it or none.
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps(asdict(begun)))
    unfinished.replace(path)


def forget(server: Server, model: str) -> None:
    """Note that the deploy of a model is finished, or taken back."""
    _path(server, model).unlink(missing_ok=True)


def unfinished(server: Server) -> list[Deployment]:
    """The deploys that were begun on the TorchServe that runs now, and not finished."""
    frontend = server.frontend()
    if frontend is None:
        return []
    found = [_read(path) for path in sorted(server.temp.glob(f"{_PREFIX}*.json"))]
    return [each for each in found if each is not None and each.server == _identity(frontend)]


def _path(server: Server, model: str) -> Path:
    return server.temp / f"{_PREFIX}{model}.json"


def _read(path: Path) -> Deployment | None:
    # Gone meanwhile, or of another opserve.
    with contextlib.suppress(OSError, ValueError, TypeError):
        read = json.loads(path.read_text())
        return Deployment(**(read | {name: tuple(read[name]) for name in ("server", "deployer")}))
    return None


def _identity(process: psutil.Process) -> tuple[int, float]:
    return process.pid, process.create_time()
