"""What is in a `.pt2` file: code compiled by AOTInductor, or a program."""

import zipfile
from pathlib import Path

# The folder of compiled code in torch's package format.
_COMPILED = "/data/aotinductor/"


def is_compiled(path: Path) -> bool:
    """Whether a `.pt2` file is an AOTInductor package.

    Raises:
        OSError, zipfile.BadZipFile: it cannot be read.
    """
    with zipfile.ZipFile(path) as file:
        return any(_COMPILED in name for name in file.namelist())
