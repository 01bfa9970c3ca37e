"""Variables of the environment that turn something off."""

from __future__ import annotations

import os

from handlers.errors import ModelError


def is_on(variable: str) -> bool:
    """Whether a variable leaves on what it is named after; absent it does.

    Raises:
        ModelError: it is neither `on` nor `off`.
    """
    value = os.environ.get(variable, "on")
    if value not in ("on", "off"):
        raise ModelError(f"{variable}: expected on or off, got {value!r}")
    return value == "on"
