"""Writes the folder of a new model, which can be packed as it is and then be changed."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from string import Template

from archive.errors import OpserveError
from archive.process.temporary import temporary_folder
from archive.repository import ROOT, find_models

TEMPLATES = Path(__file__).with_name("templates")
# The folder is a Python package too.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


def write_new_model(name: str, root: Path = ROOT) -> Path:
    """Writes `archive/NAME/`, whole or not at all, and returns it.

    Raises:
        OpserveError: the name is not allowed or taken.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise OpserveError(
            f"NAME '{name}' is not allowed: lower-case letters, digits and '_', a letter first, at most 64, and not a "
            "keyword of Python"
        )
    folder = root / "archive" / name
    for path in (folder, folder.with_suffix(".py"), find_models(root).get(name, folder)):
        if path.exists():
            raise OpserveError(f"NAME '{name}' is taken: {path.relative_to(root)} exists")
    with temporary_folder(f".{name}-", folder.parent) as temporary:
        (temporary / name).mkdir()
        for template in TEMPLATES.glob("*.template"):
            text = Template(template.read_text(encoding="utf-8")).substitute(name=name)
            (temporary / name / template.stem).write_text(text, encoding="utf-8")
        (temporary / name).rename(folder)
    return folder
