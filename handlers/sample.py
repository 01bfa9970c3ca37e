"""The sample of an archive: a request (`sample/request/`) and the expected response (`sample/answer.json`)."""

from __future__ import annotations

import json
import math
import mimetypes
from pathlib import Path
from typing import Any

from handlers.codecs.limits import TOLERANCE
from handlers.codecs.request import Part, Request
from handlers.errors import ModelError

SAMPLE_FOLDER = "sample"
SAMPLE_REFUSED = "the sample request is refused"


def read_sample_request(folder: Path) -> Request:
    """Reads the request in `folder`: one part per file, named by its stem; `body.json` alone is a whole body.

    Raises:
        ModelError: the folder has no file.
    """
    files = sorted(path for path in folder.glob("*") if path.is_file()) if folder.is_dir() else []
    if not files:
        raise ModelError(f"{folder}: the archive has no sample request")
    # A bytearray, as from a server: arrays made of it are then writable without a copy.
    return Request(
        {path.stem: Part(bytearray(path.read_bytes()), mimetypes.guess_type(path.name)[0] or "") for path in files}
    )


def read_sample_answer(path: Path) -> Any:
    """Reads the expected response.

    Raises:
        ModelError: the file is absent or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: the archive has no readable sample answer: {error}") from error


def difference(got: Any, expected: Any, tolerance: float = TOLERANCE, where: str = "answer") -> str | None:
    """Describes where two JSON values first differ; `None` if they agree.

    Numbers agree within `tolerance`, absolute or relative; two whole numbers only if they are equal.
    """
    if isinstance(expected, dict) and isinstance(got, dict):
        if got.keys() != expected.keys():
            return f"{where} has the keys {sorted(got)}, expected {sorted(expected)}"
        pairs = [(got[key], expected[key], f"{where}.{key}") for key in expected]
    elif isinstance(expected, list) and isinstance(got, list):
        if len(got) != len(expected):
            return f"{where} has {len(got)} elements, expected {len(expected)}"
        pairs = [
            (left, right, f"{where}[{index}]") for index, (left, right) in enumerate(zip(got, expected, strict=True))
        ]
    elif _are_floats(got, expected):
        close = math.isclose(got, expected, rel_tol=tolerance, abs_tol=tolerance)
        return None if close else f"{where} is {got}, expected {expected} within {tolerance}"
    else:
        same = type(got) is type(expected) and got == expected
        return None if same else f"{where} is {got!r}, expected {expected!r}"
    return next(filter(None, (difference(left, right, tolerance, name) for left, right, name in pairs)), None)


def _are_floats(*values: Any) -> bool:
    """Whether all are numbers and not all of them integers; JSON writers drop the `.0` of a float."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return numbers and any(isinstance(value, float) for value in values)
