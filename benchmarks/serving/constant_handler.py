"""A handler that does nothing: it reads a batch as opserve's does, and answers a constant."""

import logging

from batch_message import read_batch
from read_ahead import read_ahead
from ts.protocol import otf_message_handler


class ConstantHandler:
    """What no handler can be faster than."""

    def initialize(self, context):
        logging.getLogger().addFilter(lambda record: record.msg != "Backend received inference at: %d")
        context.metrics.add_time = lambda *arguments, **options: None
        self.reads_ahead = False

    def handle(self, data, context):
        if not self.reads_ahead:
            self.reads_ahead = True
            stream = read_ahead(context.cl_socket)
            otf_message_handler._retrieve_inference_msg = lambda _: read_batch(stream)
        for index in range(len(data)):
            context.set_response_content_type(index, "application/json")
        return [b'{"z":[2.5,4.25,0.0]}'] * len(data)
