"""The native worker escapes the characters that the Python worker escapes."""

import runpy
import unicodedata

import pytest

from archive.repository import ROOT

SCRIPT = ROOT / "extensions" / "native" / "common" / "unprintable.py"


def test_the_table_is_what_python_says():
    written = SCRIPT.with_suffix(".h").read_text(encoding="utf-8")
    if f"Unicode {unicodedata.unidata_version}:" not in written:
        pytest.skip("the table is of another version of Unicode than this Python's")
    assert runpy.run_path(str(SCRIPT))["header"]() == written
