"""Stock TorchServe: a handler based on its BaseHandler, as its guide has it."""

from common import NPZ_TYPE, encode, jsonable, load_models, parse_body, run
from ts.torch_handler.base_handler import BaseHandler


class Handler(BaseHandler):
    """One model; JSON arrives parsed, files arrive as bytes."""

    def initialize(self, context):
        self.context = context
        self.model = load_models()[context.manifest["model"]["modelName"]]
        self.initialized = True

    def preprocess(self, data):
        """Reads each request: named values, whether an `.npz`, whether in the Open Inference Protocol."""
        requests = []
        for parts in data:
            body = parts.get("body") or parts.get("data")
            if body is None:
                requests.append(({name: to_bytes(value) for name, value in parts.items()}, False, False))
            elif isinstance(body, dict):
                values, is_oip = parse_body(body, "application/json")
                requests.append((values, False, is_oip))
            else:
                requests.append((parse_body(bytes(body), NPZ_TYPE)[0], True, False))
        return requests

    def inference(self, data):
        return [(run(self.model, values), npz, is_oip) for values, npz, is_oip in data]

    def postprocess(self, data):
        return [
            encode(outputs, NPZ_TYPE)[0] if npz else jsonable(outputs, is_oip=is_oip) for outputs, npz, is_oip in data
        ]


def to_bytes(value):
    return bytes(value) if isinstance(value, bytearray) else value
