"""Measures where the time of a request goes inside a worker: `python -m benchmarks.handler [PATTERN]`.

The first table takes one request of the graph model in each wire format through the steps one by one: decode (bytes
to arrays of the signature), validate (that the graph holds together), collate, op (the model), split (with the check
of the outputs) and encode. The second sends batches of a small JSON request through the handler class under
TorchServe's own context, and counts what is not the model's call. All of it is the best of many turns of one thread:
on a shared machine the rest is somebody else's.
"""

from __future__ import annotations

import argparse
import itertools
import math
import re
import time
from collections.abc import Callable, Iterator

import torch
from ts.context import Context, RequestProcessor

from benchmarks.handler import workload
from benchmarks.payloads import Payload, npz
from handlers.batching import check_outputs
from handlers.codecs.decode import decode_request
from handlers.codecs.encode import encode_outputs
from handlers.codecs.request import Part, Request
from handlers.model import ServableModel
from handlers.opserve_handler import OpserveHandler

TURNS = 200
STEPS = ("decode", "validate", "collate", "op", "split", "encode")
BATCHES = (1, 8, 32)


def wires() -> Iterator[tuple[str, Payload]]:
    """The graph in every wire format."""
    arrays = workload.graph()
    yield ".npz", npz(arrays)
    yield "Open Inference Protocol, binary", workload.as_oip_binary(arrays)
    small = workload.graph("int32", "float16")
    yield ".npz, float16 and int32", npz(small)
    yield "Open Inference Protocol, binary, FP16 and INT32", workload.as_oip_binary(small)
    yield "JSON", workload.as_json(arrays)
    yield "Open Inference Protocol, JSON", workload.as_oip_json(arrays)


def _request(wire: Payload) -> Request:
    return Request({"body": Part(bytearray(wire.body), wire.headers["Content-Type"])}, wire.headers)


def steps(model: ServableModel, wire: Payload) -> Iterator[float]:
    """Seconds of each of STEPS, for one request by itself."""
    config, batching = model.config, model.batching
    request = _request(wire)
    marks = [time.perf_counter()]

    def mark() -> None:
        marks.append(time.perf_counter())

    inputs, response_format = decode_request(request, config.inputs, config.max_image_pixels)
    mark()
    batching.check(inputs)
    mark()
    joined = batching.join([inputs])
    mark()
    returned = model.engine.run(joined)
    mark()
    (outputs,) = batching.split(returned, [inputs])
    check_outputs(outputs, config.outputs)
    mark()
    encode_outputs(outputs, response_format, model_name="bench", model_version="1.0")
    mark()
    return (after - before for before, after in itertools.pairwise(marks))


def graph_table(pattern: re.Pattern) -> None:
    """Prints the steps of a request of the graph model, in microseconds."""
    model = workload.load_graph_network()
    print("| graph | bytes | " + " | ".join(STEPS) + " | sum | not the op |")
    print("| --- | ---: |" + " ---: |" * (len(STEPS) + 2))
    for name, wire in wires():
        if not pattern.search(name):
            continue
        answer = model.answer([_request(wire)])[0]
        if answer.status != 200:
            raise SystemExit(f"error: {name}: {answer.body.decode()}")
        turns = [list(steps(model, wire)) for _ in range(TURNS if len(wire[0]) < 1 << 20 else TURNS // 10)]
        # A step apart from the others: a turn that is undisturbed in all of them is rare.
        best = [min(turn[step] for turn in turns) * 1e6 for step in range(len(STEPS))]
        total = sum(best)
        share = 1 - best[STEPS.index("op")] / total
        times = " | ".join(f"{step:.1f}" for step in best)
        print(f"| {name} | {len(wire[0]):,} | {times} | {total:.0f} µs | {share:.1%} |", flush=True)


class _Clocked:
    """An engine that adds up the seconds of its calls."""

    def __init__(self, run: Callable) -> None:
        self.run, self.seconds = run, 0.0

    def __call__(self, inputs: dict) -> dict:
        begun = time.perf_counter()
        try:
            return self.run(inputs)
        finally:
            self.seconds += time.perf_counter() - begun


def overhead(wire: Payload, batch: int) -> tuple[float, float]:
    """Seconds that the handler takes for one request of a batch beside the model's call, and the call's own."""
    handler = OpserveHandler()
    handler.model = workload.load_scaled_add()
    context = handler.context = Context("bench", "", {}, batch, None, "0.12")
    clocked = handler.model.engine.run = _Clocked(handler.model.engine.run)
    body, headers = wire
    known = {"body": {"content-type": headers["Content-Type"]}, "Host": "localhost:8080", "User-Agent": "curl"}
    known |= {"Accept": "*/*", "Content-Length": str(len(body))} | headers
    best = call = math.inf
    for _ in range(TURNS * 5):
        data = [{"body": bytearray(body)} for _ in range(batch)]
        context.request_processor = [RequestProcessor(dict(known)) for _ in range(batch)]
        clocked.seconds, begun = 0.0, time.perf_counter()
        handler.handle(data, context)
        best = min(best, time.perf_counter() - begun - clocked.seconds)
        call = min(call, clocked.seconds)
    return best / batch, call / batch


def overhead_table(pattern: re.Pattern) -> None:
    """Prints the handler's time beside the model's call, in microseconds a request."""
    x, y = [1.5, 2, 3], [0.5, 0.25, 4]
    arrays = {"x": torch.tensor(x).numpy(), "y": torch.tensor(y).numpy()}
    tiny = {
        "JSON of 2 x 3 numbers": workload.as_json({"x": arrays["x"], "y": arrays["y"]}),
        "Open Inference Protocol, JSON, 2 x 3 numbers": workload.as_oip_json(arrays),
        "Open Inference Protocol, binary, 2 x 3 numbers": workload.as_oip_binary(arrays),
        ".npz of 2 x 3 numbers": npz(arrays),
    }
    print("\n| scaled_add | " + " | ".join(f"batch of {batch}" for batch in BATCHES) + " | the call itself, of 8 |")
    print("| --- |" + " ---: |" * (len(BATCHES) + 1))
    for name, wire in tiny.items():
        if pattern.search(name):
            measured = [overhead(wire, batch) for batch in BATCHES]
            times = " | ".join(f"{beside * 1e6:.1f} µs" for beside, _ in measured)
            print(f"| {name} | {times} | {measured[1][1] * 1e6:.1f} µs |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pattern", nargs="?", default="", help="only the lines that match this regular expression")
    pattern = re.compile(parser.parse_args().pattern)
    torch.set_num_threads(1)
    graph_table(pattern)
    overhead_table(pattern)


if __name__ == "__main__":
    main()
