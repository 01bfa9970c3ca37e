"""Where things are in a checkout. Commands that report an outdated Python import this too, so it runs on Python 3.6."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
MODEL_STORE = ROOT / "model_store"


def find_models(root: Path = ROOT) -> "dict[str, Path]":
    """The configuration of each model under `archive/`, by the model's name, sorted.

    `archive/digits/model-config.yaml` is that of the model `digits`, `archive/digits/model-config.onnx.yaml` that of
    its variant `digits_onnx`.
    """
    found = {}
    for path in (root / "archive").glob("*/model-config*.yaml"):
        variant = path.stem.partition(".")[2]
        found[f"{path.parent.name}_{variant}" if variant else path.parent.name] = path
    return dict(sorted(found.items()))
