"""A handler that does nothing: it reads a batch as opserve's does, and answers a constant."""

from batch_message import take_over
from read_ahead import read_ahead
from server_lines import thin_out


class ConstantHandler:
    """What no handler can be faster than."""

    def initialize(self, context):
        thin_out(context.metrics, None)
        self.reads_ahead = False

    def handle(self, data, context):
        if not self.reads_ahead:
            self.reads_ahead = True
            take_over(read_ahead(context.cl_socket))
        for index in range(len(data)):
            context.set_response_content_type(index, "application/json")
        return [b'{"z":[2.5,4.25,0.0]}'] * len(data)
