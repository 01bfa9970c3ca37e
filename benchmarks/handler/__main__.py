"""Measures where the time of a request goes inside a worker, in µs: the best of many turns of one thread.

The first table has the steps of one request of the graph model in each format: decode (bytes to the arrays of the
signature), validate (whether they are a graph), collate, op (the model), split (which checks the outputs) and encode.
The second has the time that the handler class adds to the model's call for a small request, in batches of several
sizes, under TorchServe's own context.
"""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy
import torch
from ts.context import Context, RequestProcessor

from archive.process.command import run
from benchmarks.common import graph, workloads
from benchmarks.common.command import describe_machine, make_parser, markdown_table, write_results
from benchmarks.common.workloads import Workload
from benchmarks.serving.archives import GRAPH, pack_models
from benchmarks.serving.in_process import load_models, make_request
from handlers.batching import check_outputs
from handlers.codecs.decode import decode_request
from handlers.codecs.encode import encode_outputs
from handlers.model import ServableModel
from handlers.opserve_handler import OpserveHandler

TURNS, QUICK_TURNS = 200, 20
STEPS = ("decode", "validate", "collate", "op", "split", "encode")
GRAPH_FORMATS = ("npz", "oip, binary", "npz, float16", "json", "oip")
TINY_FORMATS = ("json", "oip", "oip, binary", "npz")
BATCHES = (1, 8, 32)
# Requests above this size take milliseconds.
LARGE = 1 << 20


def time_steps(model: ServableModel, workload: Workload) -> list[float]:
    """Measures the seconds of each of `STEPS` once, for one request by itself."""
    config, batching, request = model.config, model.batching, make_request(workload)
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
    return [after - before for before, after in itertools.pairwise(marks)]


def measure_steps(model: ServableModel, workload: Workload, turns: int) -> dict[str, float]:
    """Measures the fewest microseconds of each of `STEPS` over many turns."""
    (response,) = model.answer([make_request(workload)])
    if response.status != 200:
        raise ValueError(f"{workload.name}: {bytes(response.body).decode()}")
    samples = [time_steps(model, workload) for _ in range(turns)]
    # Each step by itself: turns that are undisturbed in all of them are rare.
    return {step: min(sample[place] for sample in samples) * 1e6 for place, step in enumerate(STEPS)}


def measure_overhead(model: ServableModel, workload: Workload, batch: int, turns: int) -> tuple[float, float]:
    """Measures the fewest microseconds that the handler adds to each request of a batch, and those of the model's call.

    Args:
        model: The model.
        workload: The request.
        batch: How many of it are in a batch.
        turns: How often a batch is handled.
    """
    handler = OpserveHandler()
    handler.model = model
    context = handler.context = Context("bench", "", {}, batch, None, "0.12")
    run_engine, in_model = model.engine.run, 0.0

    def timed_run(inputs: Mapping[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
        nonlocal in_model
        begin = time.perf_counter()
        try:
            return run_engine(inputs)
        finally:
            in_model += time.perf_counter() - begin

    body, headers = workload.payload()
    sent: dict[str, object] = {"Host": "localhost:8080", "User-Agent": "curl", "Content-Length": str(len(body))}
    sent |= {"body": {"content-type": headers["Content-Type"]}, "Accept": "*/*"} | dict(headers)
    overhead = call = math.inf
    model.engine.run = timed_run  # type: ignore[method-assign]
    try:
        for _ in range(turns):
            data = [{"body": bytearray(body)} for _ in range(batch)]
            context.request_processor = [RequestProcessor(dict(sent)) for _ in range(batch)]
            in_model, begin = 0.0, time.perf_counter()
            handler.handle(data, context)
            overhead = min(overhead, time.perf_counter() - begin - in_model)
            call = min(call, in_model)
    finally:
        model.engine.run = run_engine  # type: ignore[method-assign]
    return overhead / batch * 1e6, call / batch * 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    options = make_parser("handler", __doc__, only="formats").parse_args(arguments)
    torch.set_num_threads(1)
    turns, machine = QUICK_TURNS if options.quick else TURNS, describe_machine()
    with tempfile.TemporaryDirectory(prefix="opserve-bench-handler-") as name:
        folder = Path(name)
        inputs, outputs = graph.write_network(folder)
        store = pack_models("latency", folder, folder / "store", ("scaled_add", GRAPH))
        models = load_models(store, ("scaled_add", GRAPH), folder / "unpacked")
        steps: dict[str, dict[str, float]] = {}
        rows = []
        for format in filter(options.only.search, GRAPH_FORMATS):
            workload = Workload(GRAPH, format, inputs, outputs)
            size = len(workload.payload().body)
            best = steps[format] = measure_steps(models[GRAPH], workload, turns if size < LARGE else turns // 10)
            total = sum(best.values())
            cells = [f"{each:.1f}" for each in best.values()]
            rows.append((format, f"{size:,}", *cells, f"{total:.0f}", f"{1 - best['op'] / total:.1%}"))
        header = ("graph", " bytes", *(f" {step}" for step in STEPS), " sum", " without op")
        steps_table = markdown_table(header, rows)
        overheads: dict[str, dict[int, tuple[float, float]]] = {}
        rows = []
        for format in filter(options.only.search, TINY_FORMATS):
            workload = replace(workloads.tiny(), format=format)
            found = {batch: measure_overhead(models["scaled_add"], workload, batch, 5 * turns) for batch in BATCHES}
            overheads[format] = found
            cells = [f"{overhead:.1f}" for overhead, _ in found.values()]
            rows.append((format, *cells, f"{found[8][1]:.1f}"))
        header = ("scaled_add, 2 x 3 numbers", *(f" batch of {batch}" for batch in BATCHES), " the call, batch of 8")
        overhead_table = markdown_table(header, rows)
    tables = f"{steps_table}\n\n{overhead_table}"
    print(tables)
    write_results(
        options.output,
        "handler",
        title="A request inside a worker",
        introduction="µs for one request, one thread.",
        machine=machine,
        body=tables,
        figures={"steps_us": steps, "overhead_us": overheads},
    )
    return 0


if __name__ == "__main__":
    run(main)
