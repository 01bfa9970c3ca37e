"""Someone else's files, made once."""

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import foreign


class Foreign(NamedTuple):
    library: Path
    scripted: Path
    traced: Path
    config: Path


@pytest.fixture(scope="session")
def their(tmp_path_factory: pytest.TempPathFactory) -> Foreign:
    """An operator library, a scripted and a traced model that need it, and a configuration."""
    folder = tmp_path_factory.mktemp("foreign")
    library = foreign.build_library(folder)
    scripted, traced = foreign.write_artifacts(folder, library)
    return Foreign(library, scripted, traced, foreign.write_config(folder / "mine.yaml"))
