"""Stock TorchServe: a handler on its own BaseHandler, as its guide has it."""

from common import NPZ_TYPE, encode, jsonable, load_models, run, values_of
from ts.torch_handler.base_handler import BaseHandler


class Handler(BaseHandler):
    """One model; JSON comes parsed, files as bytes."""

    def initialize(self, context):
        self.context = context
        self.model = load_models()[context.manifest["model"]["modelName"]]
        self.initialized = True

    def preprocess(self, data):
        """(named values, whether an `.npz`, whether in the Open Inference Protocol) of each request."""
        requests = []
        for parts in data:
            body = parts.get("body") or parts.get("data")
            if body is None:
                requests.append(({name: bytes_of(value) for name, value in parts.items()}, False, False))
            elif isinstance(body, dict):
                values, is_call = values_of(body, "application/json")
                requests.append((values, False, is_call))
            else:
                requests.append((values_of(bytes(body), NPZ_TYPE)[0], True, False))
        return requests

    def inference(self, data):
        return [(run(self.model, values), npz, is_call) for values, npz, is_call in data]

    def postprocess(self, data):
        return [encode(outputs, NPZ_TYPE)[0] if npz else jsonable(outputs, is_call) for outputs, npz, is_call in data]


def bytes_of(value):
    return bytes(value) if isinstance(value, bytearray) else value
