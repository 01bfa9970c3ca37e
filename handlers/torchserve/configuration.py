"""The keys and environment variables by which TorchServe and a worker under it are configured."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from handlers.errors import ModelError

# Keys of model-config.yaml that TorchServe 0.12 reads (org.pytorch.serve.archive.model.ModelConfig). It ignores unknown
# keys, so a misspelt one would silently change nothing.
MODEL_CONFIG_KEYS = frozenset(
    """minWorkers maxWorkers batchSize maxBatchDelay responseTimeout startupTimeout deviceType deviceIds
    parallelLevel parallelType torchrun maxRetryTimeoutInSec clientTimeoutInMills jobQueueSize useJobTicket
    sequenceMaxIdleMSec sequenceTimeoutMSec maxSequenceJobQueueSize maxNumSequence continuousBatching
    asyncCommunication useVenv sequenceBatching handler""".split()
)

METRICS_SWITCH = "OPSERVE_METRICS"
READ_AHEAD_SWITCH = "OPSERVE_READ_AHEAD"
# Set by TorchServe: "false" if config.properties has decode_input_request=false. Otherwise it parses JSON itself.
_DECODES_REQUESTS = "TS_DECODE_INPUT_REQUEST"


def check_model_config(document: Mapping[str, Any], source: str) -> None:
    """Checks TorchServe's own keys of a model-config.yaml; `source` names it in messages.

    Raises:
        ModelError: a value would be ignored.
    """
    if ("minWorkers" in document) != ("maxWorkers" in document):
        raise ModelError(f"{source}: minWorkers and maxWorkers go together: TorchServe ignores one without the other")


def is_enabled(switch: str) -> bool:
    """Whether an environment variable leaves a feature on; without the variable it is.

    Raises:
        ModelError: the value is neither `on` nor `off`.
    """
    value = os.environ.get(switch, "on")
    if value not in ("on", "off"):
        raise ModelError(f"{switch}: expected on or off, got {value!r}")
    return value == "on"


def decodes_requests() -> bool:
    """Whether TorchServe's worker parses the parts of requests, instead of passing on their bytes."""
    return os.environ.get(_DECODES_REQUESTS) != "false"
