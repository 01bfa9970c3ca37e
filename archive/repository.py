"""Where the repository is, for everything that runs from a checkout."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
MODEL_STORE = ROOT / "model_store"
