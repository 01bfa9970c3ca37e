"""mosec, one worker for each model; at most BENCH_BATCH requests in a batch."""

import os

import numpy
import torch
from common import SERVED, encode, load_models, parse, respond, run, tensors
from mosec import Runtime, Server, Worker
from mosec.mixin import MsgpackMixin

BATCH = int(os.environ.get("BENCH_BATCH", "1"))
DELAY_MS = 1


class Base(Worker):
    """Bytes in, bytes out; mosec passes only the body to a worker, so its first bytes tell the format."""

    name = ""

    def __init__(self):
        super().__init__()
        self.model = load_models()[self.name]

    def deserialize(self, data):
        return data

    def serialize(self, data):
        return data

    def respond_to_one(self, body):
        return respond(self.model, body, "application/x-npz" if body[:2] == b"PK" else "application/json")[0]

    def forward(self, data):
        return self.respond_to_one(data) if BATCH == 1 else self.respond_to_all(data)

    def respond_to_all(self, bodies):
        return [self.respond_to_one(body) for body in bodies]


class ScaledAdd(Base):
    """Stacks requests of equal sizes, as mosec's guide does."""

    name = "scaled_add"

    def respond_to_all(self, bodies):
        requests = [tensors(parse(body)) for body in bodies]
        if len({request["x"].shape for request in requests}) > 1:
            return super().respond_to_all(bodies)
        with torch.inference_mode():
            z = self.model(*(torch.stack([request[name] for request in requests]) for name in ("x", "y")))["z"]
        return [encode({"z": row}, "application/json")[0] for row in z]


class Digits(MsgpackMixin, Base):
    """A PNG and its corners in MessagePack, which mosec has instead of forms."""

    name = "digits"

    def serialize(self, data):
        return data

    def respond_to_one(self, body):
        parts = {"image": body["image"], "corners": numpy.array(body["corners"], numpy.float32)}
        return encode(run(self.model, parts), "application/json")[0]


class GraphPlain(Base):
    name = "graph_plain"


class GraphOp(Base):
    name = "graph_op"


WORKERS = {worker.name: worker for worker in (ScaledAdd, Digits, GraphPlain, GraphOp)}

if __name__ == "__main__":
    batching = {"max_batch_size": BATCH, "max_wait_time": DELAY_MS} if BATCH > 1 else {}
    server = Server()
    server.register_runtime({f"/{model}": [Runtime(WORKERS[model], num=1, **batching)] for model in SERVED})
    server.run()
