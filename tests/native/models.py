"""The signatures and bounds that both decoders are asked for: those of the shipped models, and others that differ."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy

from handlers.signature import TensorSpec


class Limits(NamedTuple):
    """The bounds of one request; the names are those of the configuration."""

    max_image_pixels: int = 10_000
    max_npz_bytes: int = 1 << 20
    max_json_bytes: int = 1 << 17
    max_response_bytes: int = 1 << 17


class Model(NamedTuple):
    """What a decoder has to know of a model.

    Attributes:
        specs: its inputs.
        limits: its bounds.
        shares: whether its configuration has a prefix for shared memory.
    """

    specs: tuple[TensorSpec, ...]
    limits: Limits = Limits()
    shares: bool = True

    @property
    def tensors(self) -> list[dict[str, Any]]:
        """The inputs as a configuration has them."""
        described = []
        for spec in self.specs:
            tensor = {"name": spec.name, "dtype": str(spec.dtype), "shape": list(spec.shape)}
            rules = {"optional": spec.optional or None, "minimum": spec.minimum}
            described.append(tensor | {name: rule for name, rule in rules.items() if rule is not None})
        return described


def tensor(name: str, dtype: str, *shape: int, optional: bool = False, minimum: float | None = None) -> TensorSpec:
    """An input."""
    return TensorSpec(name, numpy.dtype(dtype), shape, optional, minimum)


TIGHT = Limits(max_image_pixels=500, max_npz_bytes=700, max_json_bytes=1200, max_response_bytes=300)
PAIR = (tensor("x", "float32", -1), tensor("y", "float32", -1))
KARATE = (
    tensor("rowptr", "int64", -1),
    tensor("col", "int64", -1),
    tensor("value", "float32", -1, optional=True, minimum=0),
    tensor("x", "float32", -1, 34),
)
DIGITS = (tensor("image", "float32", -1, -1), tensor("corners", "float32", 4, 2))
EVERY = tuple(
    tensor(f"a_{dtype}", dtype, *shape, optional=True)
    for dtype, shape in zip(
        TensorSpec.DTYPES, [(-1,), (-1, -1), (2, -1), (-1,), (), (-1, 3), (-1,), (1, 1, -1)], strict=True
    )
)

MODELS: dict[str, Model] = {
    "scaled_add": Model(PAIR),
    "scaled_add, tight": Model(PAIR, TIGHT),
    "scaled_add, nothing shared": Model(PAIR, shares=False),
    "karate": Model(KARATE),
    "karate, tight": Model(KARATE, TIGHT),
    "digits": Model(DIGITS),
    "digits, tight": Model(DIGITS, TIGHT),
    "every dtype": Model(EVERY),
    "every dtype, tight": Model(EVERY, TIGHT),
    **{f"one {dtype}": Model((tensor("n", dtype, -1),)) for dtype in TensorSpec.DTYPES},
    "one number": Model((tensor("n", "int32"),)),
    "one float64 of four dimensions": Model((tensor("n", "float64", 1, -1, 2, -1, minimum=-1.5),)),
    "grey": Model((tensor("image", "uint8", -1, -1),)),
    "a channel first": Model((tensor("image", "int16", 1, -1, -1),)),
    "a channel last": Model((tensor("image", "float64", -1, -1, 1),)),
    "colours first": Model((tensor("image", "float32", 3, -1, -1),)),
    "colours last": Model((tensor("image", "uint8", -1, -1, 3),)),
    "colours last, tight": Model((tensor("image", "uint8", -1, -1, 3),), TIGHT),
    # Names that mean something elsewhere.
    "body and inputs": Model((tensor("body", "float32", -1), tensor("inputs", "int64", -1, optional=True))),
    "inputs": Model((tensor("inputs", "float64", -1, -1),)),
    "punctuation": Model(
        (tensor("layer/in.1", "float32", -1), tensor("{a[0]:é}".replace("é", "e"), "int8", -1, minimum=3))
    ),
}
IMAGES = [name for name, model in MODELS.items() if "image" in {spec.name for spec in model.specs}]
ALONE = [name for name, model in MODELS.items() if len(model.specs) == 1]
