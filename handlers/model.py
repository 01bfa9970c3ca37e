"""A servable model: one response per request, independent of any server."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from handlers.batching import check_outputs, group, make_batching
from handlers.codecs.decode import decode_request
from handlers.codecs.encode import PLAIN, Reply, encode_error, encode_outputs
from handlers.codecs.oip import JSON_LENGTH_HEADER
from handlers.codecs.request import Answer, Request
from handlers.codecs.shared_memory import SharedMemory
from handlers.config import CONFIG_FILE, ModelConfig
from handlers.engines import load_engine
from handlers.errors import (
    MAX_LOGGED,
    DeviceError,
    ModelError,
    RequestError,
    as_request_error,
    error_lines,
    printable,
    release_frames,
)
from handlers.hooks import Hooks, check_inputs, load_hooks
from handlers.metrics import Counts
from handlers.sample import SAMPLE_FOLDER, SAMPLE_REFUSED, read_sample_request
from handlers.signature import Arrays, TensorSpec


class ModelInput(NamedTuple):
    """The inputs of one request, or its error; the response it asks for, and whether that is an explanation."""

    inputs: Arrays | RequestError
    reply: Reply = PLAIN
    explain: bool = False


class ModelOutput(NamedTuple):
    """The outputs of one request, or its error; the response it asks for, and whether that is an explanation."""

    outputs: Mapping[str, Any] | RequestError
    reply: Reply = PLAIN
    explain: bool = False


# TorchScript's executor profiles the first call of a shape and compiles in the second.
WARM_UP_CALLS = 3


class ServableModel:
    """An unpacked archive, loaded and ready.

    A request goes through decode, `preprocess`, collate, run, split, `postprocess`, encode. One that fails a step is
    answered with its own error, and the others as if it had not been there.

    Args:
        folder: the unpacked archive.
        device_index: the GPU the server gave this worker, or `None`.
        name: the model's name, which Open Inference Protocol responses contain.
        version: the model's version, likewise.

    Attributes:
        broken: why this process can run the model no longer, or `None`.
        counts: what the model has done since it was ready.

    Raises:
        ModelError: the configuration, a library, the artifact or the hooks are at fault.
    """

    def __init__(self, folder: Path, device_index: int | None = None, *, name: str = "", version: str = "") -> None:
        self.name, self.version = name, version
        self.config = ModelConfig.read(folder / CONFIG_FILE)
        self.hooks = load_hooks(folder / self.config.hooks) if self.config.hooks else Hooks()
        self.batching = make_batching(self.config)
        self._memory = SharedMemory(self.config.shared_memory, self.config.max_npz_bytes)
        self.engine = load_engine(folder, self.config, device_index)
        self.broken: str | None = None
        self._required = frozenset(spec.name for spec in self.config.inputs if not spec.optional)
        self._libraries = {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in self.config.op_libraries
        }
        self.counts = Counts()
        if self.config.warm_up:
            self._warm_up(folder / SAMPLE_FOLDER / "request")
            self.counts = Counts()

    def _warm_up(self, sample: Path) -> None:
        """Answers the sample until nothing more is compiled, so that the first user does not wait for that.

        Raises:
            ModelError: the sample is refused, as every user's request would be.
        """
        if sample.is_dir():
            request = read_sample_request(sample)
            for _ in range(WARM_UP_CALLS):
                self.answer_sample(request)

    def answer_sample(self, request: Request) -> bytes:
        """The body of the response to the archive's sample request.

        Raises:
            ModelError: the request is refused.
        """
        answer = self.answer([request])[0]
        if answer.status != HTTPStatus.OK:
            raise ModelError(f"{SAMPLE_REFUSED}: {answer.body.decode()}")
        return answer.body

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """One response per request, in their order. Never raises because of a request."""
        return self.encode(self.run(self.prepare(requests)))

    def prepare(self, requests: Sequence[Request]) -> list[ModelInput]:
        """Decodes and checks each request, and passes it through the `preprocess` hook."""
        begun = time.perf_counter()
        prepared = [self._prepare(request) for request in requests]
        self.counts.batches += 1
        self.counts.requests += len(requests)
        self.counts.decode_s += time.perf_counter() - begun
        return prepared

    def _prepare(self, request: Request) -> ModelInput:
        marks = request if isinstance(request, Request) else Request  # a plain dictionary of parts has none
        reply = PLAIN
        try:
            if marks.refusal is not None:
                raise marks.refusal
            if marks.explain and self.hooks.explain is None:
                raise RequestError("this model gives no explanations", status=HTTPStatus.NOT_IMPLEMENTED)
            config = self.config
            limits = config.max_image_pixels, config.max_npz_bytes, self._memory, config.max_json_bytes
            inputs, reply = decode_request(request, config.inputs, *limits)
            # Before the hook, so that it can rely on indices.
            self.batching.check(inputs)
            if self.hooks.preprocess:
                inputs = check_inputs(self.hooks.preprocess(inputs), self._required)
                self.batching.key(inputs)  # fails for this request alone if it cannot be joined with others
            if marks.grpc_infer:
                reply = reply._replace(grpc_infer=True)
            return ModelInput(inputs, reply, marks.explain)
        except BaseException as error:
            return ModelInput(as_request_error(error, "preparing the request"), _error_reply(request, reply))

    def run(self, prepared: Sequence[ModelInput]) -> list[ModelOutput]:
        """Joins the requests that can share a call, runs the model and splits its outputs; errors are passed on."""
        results: dict[int, Mapping[str, Any] | RequestError] = {}
        requests: dict[int, Arrays] = {}
        for index, each in enumerate(prepared):
            if isinstance(each.inputs, BaseException):
                results[index] = each.inputs
            elif not each.explain:
                requests[index] = each.inputs
        groups = group(requests, self.batching, hooked=self.hooks.preprocess is not None)
        for members in groups:
            outputs = self._try_together([requests[member] for member in members], keep=len(groups) > 1)
            results.update(zip(members, outputs, strict=True))
        if len(results) < len(prepared):
            for index, each in enumerate(prepared):
                if index not in results:
                    results[index] = self._explain(each.inputs)
        return [ModelOutput(results[index], each.reply, each.explain) for index, each in enumerate(prepared)]

    def _explain(self, inputs: Any) -> Mapping[str, Any] | RequestError:
        def predict(inputs: Arrays) -> Arrays:
            """The model's outputs for the inputs of one request, which are not changed."""
            return self._run_together([_copied(inputs)], keep=True)[0]

        try:
            assert self.hooks.explain is not None, "such a request was refused"
            return self.hooks.explain(inputs, predict)
        except BaseException as error:
            return as_request_error(error, "explaining the prediction")

    def _try_together(self, requests: list[Arrays], *, keep: bool) -> list[Arrays | RequestError]:
        """The outputs of each request, or its error; `keep` if the model runs again before they are encoded."""
        try:
            return [*self._run_together(requests, keep=keep)]
        except Exception as error:
            if len(requests) == 1 or self.broken:
                return [as_request_error(error, "running the model")] * len(requests)
            release_frames(error)
        # One of them is at fault, and only its sender should get the error. Those that succeed one by one run again
        # together, so that their responses have the bytes of a batch without the culprit. A model may write to its
        # inputs, and joining does not copy a single request.
        results = [self._try_together([_copied(inputs)], keep=True)[0] for inputs in requests]
        sound = [index for index, result in enumerate(results) if not isinstance(result, RequestError)]
        if 1 < len(sound) < len(requests):
            again = self._try_together([requests[index] for index in sound], keep=keep)
            for index, result in zip(sound, again, strict=True):
                results[index] = result
        return results

    def _run_together(self, requests: list[Arrays], *, keep: bool) -> list[Arrays]:
        if self.broken:
            raise DeviceError(self.broken)
        counts, begun = self.counts, time.perf_counter()
        joined = self.batching.join(requests)
        called = time.perf_counter()
        try:
            returned = self.engine.run(joined)
        except DeviceError as error:
            self.broken = printable(error_lines(error)[-1], MAX_LOGGED)
            raise
        finally:
            done = time.perf_counter()
            counts.model_calls += 1
            counts.collate_s += called - begun
            counts.inference_s += done - called
        if keep and self.engine.lends_outputs:
            returned = _copied(returned)
        outputs = self.batching.split(returned, requests)
        counts.collate_s += time.perf_counter() - done
        for each in outputs:
            check_outputs(each, self.config.outputs)
        return outputs

    def encode(self, results: Sequence[ModelOutput]) -> list[Answer]:
        """Passes each result through the `postprocess` hook and encodes it as its request asked for."""
        begun = time.perf_counter()
        answers = [self._encode(results[0])] if len(results) == 1 else self._encode_all(results)
        self.counts.encode_s += time.perf_counter() - begun
        return answers

    def _encode_all(self, results: Sequence[ModelOutput]) -> list[Answer]:
        """The responses of a batch, which the server takes as one message.

        If they would be too large together, the largest are not sent, so that small ones do not suffer for them.
        """
        answers: list[Answer] = []
        size = 0
        for result in results:
            answers.append(self._encode(result))
            size += len(answers[-1].body)
            while size > self.config.max_response_bytes:
                largest = max(range(len(answers)), key=lambda index: len(answers[index].body))
                length = len(answers[largest].body)
                refusal = RequestError(
                    f"the answer has {length} bytes, for which its batch of requests has no room; ask again, "
                    "for less at once or for a binary format",
                    status=HTTPStatus.SERVICE_UNAVAILABLE,
                )
                answers[largest] = self._refuse(refusal, results[largest].reply)
                saved = length - len(answers[largest].body)
                if saved <= 0:  # a limit of a few bytes
                    break
                size -= saved
        return answers

    def _encode(self, result: ModelOutput) -> Answer:
        outputs = result.outputs
        if isinstance(outputs, BaseException):  # of any kind, if a subclass of the handler made it
            return self._refuse(as_request_error(outputs, "preparing the request"), result.reply)
        try:
            if self.hooks.postprocess and not result.explain:
                outputs = self.hooks.postprocess(outputs)
            limit = self.config.max_response_bytes
            return encode_outputs(
                outputs, result.reply, model_name=self.name, model_version=self.version, max_bytes=limit
            )
        except BaseException as error:
            return self._refuse(as_request_error(error, "answering the request"), result.reply)

    def _refuse(self, error: RequestError, reply: Reply) -> Answer:
        # An invented name would be a new series of the metric, kept forever.
        known = any(error.field == spec.name for spec in self.config.inputs)
        self.counts.reject(error.status, error.field if known and error.field else "")
        return encode_error(error, reply, model_name=self.name, model_version=self.version)

    def describe(self) -> dict[str, Any]:
        """The model's tensors, artifact, batching, profile, device and operator libraries, as JSON can hold them."""
        return {
            "inputs": [_describe(spec) for spec in self.config.inputs],
            "outputs": [_describe(spec) for spec in self.config.outputs],
            "artifact": self.config.artifact,
            "batching": self.config.batching,
            "profile": self.config.profile,
            "op_libraries": self._libraries,
        } | self.engine.describe()


def _copied(arrays: Arrays) -> Arrays:
    return {name: value.copy() for name, value in arrays.items()}


def _error_reply(request: Request, reply: Reply) -> Reply:
    """The form in which a refused request gets its error, as far as that is known."""
    if getattr(request, "grpc_infer", False):
        return Reply(call=reply.call, grpc_infer=True)
    by_address = getattr(request, "open_inference", False)
    if by_address or JSON_LENGTH_HEADER.lower() in getattr(request, "headers", ()):
        return Reply(text_errors=True)
    return reply


def _describe(spec: TensorSpec) -> dict[str, Any]:
    described = {"name": spec.name, "dtype": str(spec.dtype), "shape": list(spec.shape)}
    rules = {"optional": spec.optional or None, "minimum": spec.minimum}
    return described | {name: value for name, value in rules.items() if value is not None}
