"""The defaults of the bounds that the configuration sets, and the form of a shared memory key. Cheap to import."""

from __future__ import annotations

import re

MAX_IMAGE_PIXELS = 50_000_000
# Inputs together, or what a body unpacks to: four times `max_request_size` in config.properties.
MAX_UNPACKED_BYTES = 1 << 28
# As much as `max_request_size`; a gzip body could hold more.
MAX_JSON_BYTES = 1 << 26
# A bit less than `max_response_size` in config.properties: TorchServe ends a worker that sends more than that.
MAX_RESPONSE_BYTES = 63 << 20
# The largest difference, absolute or relative, between the response to a sample and the expected one.
TOLERANCE = 1e-5

# A file name rather than a path, of at most 255 bytes.
_SHARED_MEMORY_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")


def is_shared_memory_key(text: str) -> bool:
    """Whether `text` can be the key of a shared memory region, or the beginning of one."""
    return _SHARED_MEMORY_KEY.fullmatch(text) is not None
