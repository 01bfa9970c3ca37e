"""Which archives of a model store a start serves."""

import re
from collections.abc import Iterable
from pathlib import Path

from archive.errors import OpserveError
from scripts.torchserve.archives import Archive, read_archive
from scripts.torchserve.server import Server


def select_archives(server: Server, names: list[str]) -> list[Archive]:
    """Reads and checks the named archives, or all in the model store.

    Of several versions of a model the newest comes first: TorchServe makes the first one the default.
    """
    if names:
        paths = [server.model_store / (name if name.endswith(".mar") else f"{name}.mar") for name in names]
    else:
        paths = sorted(server.model_store.glob("*.mar"))
    if not paths:
        raise OpserveError(f"there are no archives in {server.model_store}; `make archive` builds them")
    archives = [read_archive(path) for path in paths]
    seen: dict[tuple[str, str], Path] = {}
    for archive in archives:
        other = seen.setdefault((archive.model, archive.version), archive.path)
        if other is not archive.path:
            raise OpserveError(
                f"{other.name} and {archive.path.name} are both {archive.model} {archive.version}; "
                f"move one of them out of {server.model_store}"
            )
    return sorted(archives, key=lambda archive: version_key(archive.version), reverse=True)


def version_key(version: str) -> list[tuple[bool, int, str]]:
    """Returns a key that orders versions: 10.0 is newer than 9.1, and 2.0 is newer than 2.0-rc."""
    numbers = [(piece, re.fullmatch("[0-9]+", piece)) for piece in re.split("[.-]", version)]
    return [*((bool(number), int(number[0]) if number else 0, piece) for piece, number in numbers), (True, -1, "")]


def count_models(archives: Iterable[Archive]) -> int:
    """Returns how many models share the machine; only one version of each gets requests."""
    return len({archive.model for archive in archives})
