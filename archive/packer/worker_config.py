"""The configuration of an archive for workers that do not parse YAML: `model-config.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from handlers.config import ModelConfig
from handlers.signature import TensorSpec

WORKER_CONFIG_FILE = "model-config.json"


def encode_worker_config(document: Mapping[str, Any], config: ModelConfig) -> bytes:
    """The only form of the file: every key of the section `opserve:`, checked, with its default where it was left out.

    Args:
        document: `model-config.yaml`, parsed; `threads: auto` is decided by the machine that serves, so it stays.
        config: its section `opserve:`.
    """
    section = {each.name: _plain(getattr(config, each.name)) for each in fields(config)}
    section["threads"] = document["opserve"].get("threads", config.threads)
    return json.dumps(section, indent=2).encode() + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, TensorSpec):
        return {
            "name": value.name,
            "dtype": str(value.dtype),
            "shape": list(value.shape),
            "optional": value.optional,
            "minimum": value.minimum,
        }
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return dict(value) if isinstance(value, Mapping) else value
