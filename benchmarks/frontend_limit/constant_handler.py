"""A handler that returns a constant, and reads batches and throttles logs as opserve's does."""

from collections.abc import Sequence
from typing import Any

from handlers.torchserve.batch_reader import install_batch_reader
from handlers.torchserve.log_throttle import throttle


class ConstantHandler:
    """The handler that no other can be faster than."""

    def __init__(self) -> None:
        self._reads_ahead = False

    def initialize(self, context: Any) -> None:
        """Throttles TorchServe's metrics and logs."""
        throttle(context.metrics, None)

    def handle(self, data: Sequence[object], context: Any) -> list[bytes]:
        """Returns the response to `benchmarks.common.workloads.tiny` for each request."""
        if not self._reads_ahead:
            self._reads_ahead = True
            install_batch_reader(context.cl_socket)
        for index in range(len(data)):
            context.set_response_content_type(index, "application/json")
        return [b'{"z":[2.5,4.25,0.0]}'] * len(data)
