"""The models whose requests both decoders are given: those that ship, and others with other signatures and bounds."""

from __future__ import annotations

from typing import Any

from handlers.config import ModelConfig
from handlers.signature import TensorSpec

# Small, so that requests can exceed them.
USUAL = {"max_image_pixels": 10_000, "max_npz_bytes": 1 << 20, "max_json_bytes": 1 << 17, "max_response_bytes": 1 << 17}
TIGHT = {"max_image_pixels": 500, "max_npz_bytes": 700, "max_json_bytes": 1200, "max_response_bytes": 300}
# Of the names of the regions of shared memory that these models accept; the end of it is the process's own.
PREFIX = "opserve-compared-"

DOCUMENTS: dict[str, dict[str, Any]] = {}


def tensor(name: str, dtype: str, *shape: int, **rules: Any) -> dict[str, Any]:
    """An input or output."""
    return {"name": name, "dtype": dtype, "shape": list(shape)} | rules


def add(name: str, *inputs: dict[str, Any], tight: bool = False, **keys: Any) -> None:
    """Adds a model, and if `tight` another one with bounds that most requests exceed."""
    section = {"artifact": "model.pt", "inputs": list(inputs), "outputs": [tensor("z", "float32", -1)]} | keys
    DOCUMENTS[name] = {"opserve": section | USUAL}
    if tight:
        DOCUMENTS[f"{name}, tight"] = {"opserve": section | TIGHT}


add("scaled_add", tensor("x", "float32", -1), tensor("y", "float32", -1), tight=True)
add(
    "karate",
    tensor("rowptr", "int64", -1),
    tensor("col", "int64", -1),
    tensor("value", "float32", -1, optional=True, minimum=0),
    tensor("x", "float32", -1, 34),
    batching="graph",
    tight=True,
)
add("digits", tensor("image", "float32", -1, -1), tensor("corners", "float32", 4, 2), tight=True)
SHAPES = [(-1,), (-1, -1), (2, -1), (-1,), (), (-1, 3), (-1,), (1, 1, -1)]
add(
    "every dtype",
    *(tensor(f"a_{dtype}", dtype, *shape) for dtype, shape in zip(TensorSpec.DTYPES, SHAPES, strict=True)),
    tight=True,
)
for _dtype in TensorSpec.DTYPES:
    add(f"one {_dtype}", tensor("n", _dtype, -1))
add("one number", tensor("n", "int32"))
add("one float64 of four dimensions", tensor("n", "float64", 1, -1, 2, -1, minimum=-1.5))
add("grey", tensor("image", "uint8", -1, -1))
add("a channel first", tensor("image", "int16", 1, -1, -1))
add("a channel last", tensor("image", "float64", -1, -1, 1))
add("colours first", tensor("image", "float32", 3, -1, -1))
add("colours last", tensor("image", "uint8", -1, -1, 3), tight=True)
# Names that mean something elsewhere.
add("body", tensor("body", "float32", -1))
add("body and inputs", tensor("body", "float32", -1), tensor("inputs", "int64", -1))
add("inputs", tensor("inputs", "float64", -1, -1))
add("punctuation", tensor("layer/in.1", "float32", -1), tensor("{a[0]:%}", "int8", -1, minimum=3))

SPECS: dict[str, tuple[TensorSpec, ...]] = {
    name: ModelConfig.parse(document).inputs for name, document in DOCUMENTS.items()
}
ALONE = [name for name, specs in SPECS.items() if len(specs) == 1]
IMAGES = [name for name, specs in SPECS.items() if specs[0].name == "image"]
# Without shared memory.
UNSHARED = ("scaled_add, tight", "one int64")


def configure(prefix: str) -> dict[str, tuple[dict[str, Any], ModelConfig]]:
    """Every model's configuration as a document, and parsed.

    Args:
        prefix: of the regions of shared memory.
    """
    found = {}
    for name, document in DOCUMENTS.items():
        shared = {} if name in UNSHARED else {"shared_memory": prefix}
        changed = {"opserve": document["opserve"] | shared}
        found[name] = changed, ModelConfig.parse(changed)
    return found
