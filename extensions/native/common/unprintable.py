"""Writes unprintable.h: the ranges of code points that are not printable, as `str.isprintable` of this Python has it.

Run it with the Python that the workers use, so that both escape the same characters:

    .venv/bin/python extensions/native/common/unprintable.py
"""

from __future__ import annotations

import sys
import unicodedata
from itertools import groupby
from pathlib import Path

HEADER = Path(__file__).with_suffix(".h")

_BEGIN = """\
// Written by unprintable.py from Unicode {version}: the code points that Python's str.isprintable refuses.
#pragma once

#include <cstdint>

namespace opserve::native {{

// The first and the last of each range, in ascending order.
// clang-format off
inline constexpr uint32_t kUnprintable[][2] = {{
"""
_END = """\
};
// clang-format on

}  // namespace opserve::native
"""


def ranges() -> list[tuple[int, int]]:
    """The first and the last code point of each range of unprintable ones."""
    found = []
    for printable, run in groupby(range(sys.maxunicode + 1), key=lambda point: chr(point).isprintable()):
        if not printable:
            points = list(run)
            found.append((points[0], points[-1]))
    return found


def header() -> str:
    """The text of unprintable.h."""
    items = [f"{{{first:#x}, {last:#x}}}," for first, last in ranges()]
    lines = ["    " + " ".join(items[start : start + 5]) + "\n" for start in range(0, len(items), 5)]
    return _BEGIN.format(version=unicodedata.unidata_version) + "".join(lines) + _END


if __name__ == "__main__":
    HEADER.write_text(header(), encoding="utf-8")
