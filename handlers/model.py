"""A servable model: takes requests, gives one answer each. Knows no server."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy

from handlers.batching import batching_of, check_outputs, group
from handlers.config import CONFIG_FILE, ModelConfig
from handlers.decode import decode_request
from handlers.encode import PLAIN, Reply, encode_error, encode_outputs
from handlers.engines import load_engine
from handlers.errors import ModelError, RequestError, lines_of
from handlers.metrics import Counts
from handlers.request import Answer, Request
from handlers.sample import SAMPLE_FOLDER, SAMPLE_REFUSED, read_sample_request
from handlers.shared_memory import SharedMemory
from handlers.signature import TensorSpec

logger = logging.getLogger(__name__)

Inputs = dict[str, numpy.ndarray]


class Prepared(NamedTuple):
    """The inputs of one request, or its error, and how it wants to be answered."""

    inputs: Inputs | Exception
    reply: Reply = PLAIN


class Result(NamedTuple):
    """The outputs of one request, or its error, and how it wants to be answered."""

    outputs: Inputs | Exception
    reply: Reply = PLAIN


# TorchScript's executor profiles the first call of a shape and compiles in the second.
WARM_UP_CALLS = 3


class ServableModel:
    """An unpacked archive, loaded and ready.

    A request goes through decode, `preprocess`, collate, run, split, `postprocess`, encode. One that fails a step is
    answered with its own error, and the others as if it had not been there.

    Args:
        folder: the unpacked archive.
        device_index: the GPU the server gave this worker, or `None`.
        name: the model's name, and
        version: its version, as Open Inference Protocol answers tell them.

    Raises:
        ModelError: the configuration, a library, the artifact or the hooks are at fault.
    """

    def __init__(self, folder: Path, device_index: int | None = None, *, name: str = "", version: str = ""):
        self.name, self.version = name, version
        self.config = ModelConfig.read(folder / CONFIG_FILE)
        hooks = load_hooks(folder / self.config.hooks) if self.config.hooks else None
        self.preprocess: Callable[[Inputs], Inputs] | None = getattr(hooks, "preprocess", None)
        self.postprocess: Callable[[Inputs], dict[str, Any]] | None = getattr(hooks, "postprocess", None)
        self.batching = batching_of(self.config)
        self._memory = SharedMemory(self.config.shared_memory, self.config.max_npz_bytes)
        self.engine = load_engine(folder, self.config, device_index)
        # Why this process can answer no more, once it cannot.
        self.broken: str | None = None
        self._libraries = {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in self.config.op_libraries
        }
        self.counts = Counts()
        if self.config.warm_up:
            self._warm_up(folder / SAMPLE_FOLDER / "request")
            self.counts = Counts()

    def _warm_up(self, sample: Path) -> None:
        """Answers the sample until nothing is compiled any more, so that the first user does not wait for it.

        Raises:
            ModelError: the sample is refused: then so would be every user's request.
        """
        if not sample.is_dir():
            return
        request = read_sample_request(sample)
        for _ in range(WARM_UP_CALLS):
            self.answer_sample(request)

    def answer_sample(self, request: Request) -> bytes:
        """The body of the answer to the archive's sample request.

        Raises:
            ModelError: it is refused.
        """
        answer = self.answer([request])[0]
        if answer.status != HTTPStatus.OK:
            raise ModelError(f"{SAMPLE_REFUSED}: {answer.body.decode()}")
        return answer.body

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer per request, in their order. Never raises for a request's sake."""
        return self.encode(self.run(self.prepare(requests)))

    def prepare(self, requests: Sequence[Request]) -> list[Prepared]:
        """Decodes and checks each request, and passes it through the `preprocess` hook."""
        begun = time.perf_counter()
        prepared = [self._prepare(request) for request in requests]
        self.counts.batches += 1
        self.counts.requests += len(requests)
        self.counts.decode_s += time.perf_counter() - begun
        return prepared

    def _prepare(self, request: Request) -> Prepared:
        try:
            config = self.config
            limits = config.max_image_pixels, config.max_npz_bytes, self._memory, config.max_json_bytes
            inputs, reply = decode_request(request, config.inputs, *limits)
            # Before the hook, so that it can follow indices that are known to be sound.
            self.batching.check(inputs)
            return Prepared(self.preprocess(inputs) if self.preprocess else inputs, reply)
        except Exception as error:
            return Prepared(as_request_error(error, "preparing the request"))

    def run(self, prepared: Sequence[Prepared]) -> list[Result]:
        """Joins what can be joined, runs the model and splits what comes back; errors are passed on."""
        sound = {i: each.inputs for i, each in enumerate(prepared) if not isinstance(each.inputs, Exception)}
        results = self._run(sound)
        return [Result(results.get(index, each.inputs), each.reply) for index, each in enumerate(prepared)]

    def encode(self, results: Sequence[Result]) -> list[Answer]:
        """Passes each result through the `postprocess` hook and encodes it as its request asked for."""
        begun = time.perf_counter()
        answers = [self._encode(result) for result in results]
        self.counts.encode_s += time.perf_counter() - begun
        return answers

    def _encode(self, result: Result) -> Answer:
        try:
            if isinstance(result.outputs, Exception):
                raise result.outputs
            outputs = self.postprocess(result.outputs) if self.postprocess else result.outputs
            return encode_outputs(outputs, result.reply, model_name=self.name, model_version=self.version)
        except Exception as error:
            if gpu_is_broken(error):
                self.broken = lines_of(error)[-1]
            refusal = as_request_error(error, "running the model")
            # A name of the sender's own making would be one more series for ever.
            known = any(refusal.field == spec.name for spec in self.config.inputs)
            self.counts.reject(refusal.status, refusal.field if known else "")
            return encode_error(refusal)

    def describe(self) -> dict[str, Any]:
        """What a person wants to know of a served model: its tensors, artifact, device and operator libraries."""
        return {
            "inputs": [_described(spec) for spec in self.config.inputs],
            "outputs": [_described(spec) for spec in self.config.outputs],
            "artifact": self.config.artifact,
            "batching": self.config.batching,
            "profile": self.config.profile,
            "op_libraries": self._libraries,
        } | self.engine.describe()

    def _run(self, prepared: dict[int, Inputs]) -> dict[int, Inputs | Exception]:
        results: dict[int, Inputs | Exception] = {}
        for members in group(prepared, self.batching):
            together = self._try_together([prepared[member] for member in members])
            results.update(zip(members, together, strict=True))
        return results

    def _try_together(self, requests: list[Inputs]) -> list[Inputs | Exception]:
        try:
            return self._run_together(requests)
        except Exception as error:
            if len(requests) == 1:
                return [error]
        # One of them is at fault, and only it should hear of it. Whoever runs alone runs again with the rest, so that
        # an answer has the bytes that it has in a batch without the culprit.
        alone = [self._try_together([inputs])[0] for inputs in requests]
        sound = [index for index, result in enumerate(alone) if not isinstance(result, Exception)]
        if 1 < len(sound) < len(requests):
            again = self._try_together([requests[index] for index in sound])
            for index, result in zip(sound, again, strict=True):
                alone[index] = result
        return alone

    def _run_together(self, requests: list[Inputs]) -> list[Inputs]:
        counts, begun = self.counts, time.perf_counter()
        joined = self.batching.join(requests)
        called = time.perf_counter()
        try:
            returned = self.engine.run(joined)
        finally:
            done = time.perf_counter()
            counts.model_calls += 1
            counts.collate_s += called - begun
            counts.inference_s += done - called
        outputs = self.batching.split(returned, requests)
        counts.collate_s += time.perf_counter() - done
        for each in outputs:
            check_outputs(each, self.config.outputs)
        return outputs


def as_request_error(error: Exception, step: str) -> RequestError:
    """What the sender is told of an exception: its own fault in full, ours in a line (and the log in full)."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, ModelError):
        logger.error("%s", error)
        return RequestError(str(error), status=HTTPStatus.INTERNAL_SERVER_ERROR)
    if is_out_of_memory(error):
        logger.error("%s ran out of memory: %s", step, lines_of(error)[-1])
        return RequestError(f"{step} ran out of memory", status=HTTPStatus.INSUFFICIENT_STORAGE)
    cause = _op_complaint(str(error))
    if cause:
        return RequestError(cause)
    logger.error("%s failed", step, exc_info=error)
    return RequestError(f"{step} failed: {lines_of(error)[-1]}", status=HTTPStatus.INTERNAL_SERVER_ERROR)


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, of the processor or of a GPU; the process is sound all the same."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # PyTorch's, which a worker of ONNX Runtime does not import
        or "Failed to allocate memory" in str(error)  # ONNX Runtime's arena
        or "DefaultCPUAllocator: can't allocate memory" in str(error)
    )


def gpu_is_broken(error: Exception) -> bool:
    """Whether an error of CUDA has left this process's GPU context unusable, as all but a lack of memory do."""
    text = str(error)
    return not is_out_of_memory(error) and ("CUDA error" in text or "CUDA failure" in text or "cudaError" in text)


def _described(spec: TensorSpec) -> dict[str, Any]:
    told = {"name": spec.name, "dtype": str(spec.dtype), "shape": list(spec.shape)}
    return told | {"optional": True} if spec.optional else told


def _op_complaint(text: str) -> str | None:
    """An operator's own complaint about its arguments, which only the request's values can have caused."""
    for line in text.splitlines():
        start = line.find("opserve::")
        if start >= 0 and ": " in line[start:]:
            return line[start:].strip()
    return None


def load_hooks(path: Path) -> ModuleType:
    """Imports a model's hooks from a file.

    Raises:
        ModelError: absent, does not import, or defines neither `preprocess` nor `postprocess`.
    """
    if not path.is_file():
        raise ModelError(f"{path.name}: the hooks are not in {path.parent}")
    spec = importlib.util.spec_from_file_location("opserve_model_hooks", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ModelError(f"{path.name}: the hooks do not import: {type(error).__name__}: {error}") from error
    if not (hasattr(module, "preprocess") or hasattr(module, "postprocess")):
        raise ModelError(f"{path.name}: defines neither preprocess(inputs) nor postprocess(outputs)")
    return module
