"""Makes opserve_ops importable from the tree where it is not installed."""

import importlib.util
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

if importlib.util.find_spec("opserve_ops") is None:
    sys.path.insert(0, str(REPOSITORY / "extensions"))
