"""One module an operator: what is measured against what. Run with `python -m benchmarks.ops`."""

import importlib.util
import sys
from pathlib import Path

# From the tree, where the package is not installed.
if importlib.util.find_spec("opserve_ops") is None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "extensions"))
