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
from handlers.codecs.encode import encode_error, encode_outputs
from handlers.codecs.negotiation import PLAIN_JSON, ResponseFormat
from handlers.codecs.oip import JSON_LENGTH_HEADER
from handlers.codecs.request import Request, Response
from handlers.codecs.shared_memory import SharedMemory
from handlers.config import CONFIG_FILE, ModelConfig
from handlers.engines import load_engine
from handlers.errors import DeviceError, ModelError, RequestError, as_request_error, last_line, release_frames
from handlers.hooks import Hooks, check_inputs, load_hooks
from handlers.metrics import Counts
from handlers.sample import SAMPLE_FOLDER, SAMPLE_REFUSED, read_sample_request
from handlers.signature import Arrays, TensorSpec


class ModelInput(NamedTuple):
    """The inputs of one request, or its error; the response it asks for, and whether that is an explanation."""

    inputs: Arrays | RequestError
    response_format: ResponseFormat = PLAIN_JSON
    explain: bool = False


class ModelOutput(NamedTuple):
    """The outputs of one request, or its error; the response it asks for, and whether that is an explanation."""

    outputs: Mapping[str, Any] | RequestError
    response_format: ResponseFormat = PLAIN_JSON
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
        self.batching = make_batching(self.config)
        self._memory = SharedMemory(self.config.shared_memory, self.config.max_npz_bytes)
        self.engine = load_engine(folder, self.config, device_index)
        self.hooks = self._load_hooks(folder)
        self.broken: str | None = None
        self._required = frozenset(spec.name for spec in self.config.inputs if not spec.optional)
        self._libraries = {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in self.config.op_libraries
        }
        self.counts = Counts()
        if self.config.warm_up:
            self._warm_up(folder / SAMPLE_FOLDER / "request")
            self.counts = Counts()

    def _load_hooks(self, folder: Path) -> Hooks:
        # After the operator libraries, whose operators they may call.
        names = [spec.name for spec in self.config.inputs]
        return load_hooks(folder / self.config.hooks, names) if self.config.hooks else Hooks()

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
        response = self.answer([request])[0]
        if response.status != HTTPStatus.OK:
            raise ModelError(f"{SAMPLE_REFUSED}: {response.body.decode()}")
        return response.body

    def answer(self, requests: Sequence[Request]) -> list[Response]:
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
        response_format = PLAIN_JSON
        try:
            if marks.refusal is not None:
                raise marks.refusal
            if marks.explain and self.hooks.explain is None:
                raise RequestError("this model gives no explanations", status=HTTPStatus.NOT_IMPLEMENTED)
            config = self.config
            limits = config.max_image_pixels, config.max_npz_bytes, self._memory, config.max_json_bytes
            inputs, response_format = decode_request(request, config.inputs, *limits)
            # Before the hook, so that it can rely on indices.
            self.batching.check(inputs)
            if self.hooks.preprocess:
                inputs = check_inputs(self.hooks.preprocess(inputs), self._required)
                self.batching.key(inputs)  # fails for this request alone if it cannot be joined with others
            if marks.grpc_infer:
                response_format = response_format._replace(grpc_infer=True)
            return ModelInput(inputs, response_format, marks.explain)
        except BaseException as error:
            return ModelInput(as_request_error(error, "preparing the request"), _error_format(request, response_format))

    def run(self, prepared: Sequence[ModelInput]) -> list[ModelOutput]:
        """Joins the requests that can share a call, runs the model and splits its outputs; errors are passed on."""
        results: list[Any] = [each.inputs for each in prepared]
        requests = {
            index: each.inputs
            for index, each in enumerate(prepared)
            if not (each.explain or isinstance(each.inputs, BaseException))
        }
        groups = group(requests, self.batching, hooked=self.hooks.preprocess is not None)
        for members in groups:
            outputs = self._try_together([requests[member] for member in members], keep=len(groups) > 1)
            for member, result in zip(members, outputs, strict=True):
                results[member] = result
        if len(requests) < len(prepared):
            for index, each in enumerate(prepared):
                if each.explain and not isinstance(each.inputs, BaseException):
                    results[index] = self._explain(each.inputs)
        return [
            ModelOutput(result, each.response_format, each.explain)
            for result, each in zip(results, prepared, strict=True)
        ]

    def _explain(self, inputs: Arrays) -> Mapping[str, Any] | RequestError:
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
            self.broken = last_line(error)
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

    def encode(self, results: Sequence[ModelOutput]) -> list[Response]:
        """Passes each result through the `postprocess` hook and encodes it as its request asked for."""
        begun = time.perf_counter()
        responses = [self._encode(results[0])] if len(results) == 1 else self._encode_all(results)
        self.counts.encode_s += time.perf_counter() - begun
        return responses

    def _encode_all(self, results: Sequence[ModelOutput]) -> list[Response]:
        """The responses of a batch, which the server takes as one message.

        If they would be too large together, the largest are not sent, so that small ones do not suffer for them.
        """
        responses: list[Response] = []
        size = 0
        for result in results:
            responses.append(self._encode(result))
            size += len(responses[-1].body)
            while size > self.config.max_response_bytes:
                largest = max(range(len(responses)), key=lambda index: len(responses[index].body))
                length = len(responses[largest].body)
                refusal = RequestError(
                    f"the answer has {length} bytes, for which its batch of requests has no room; ask again, "
                    "for less at once or for a binary format",
                    status=HTTPStatus.SERVICE_UNAVAILABLE,
                )
                responses[largest] = self._refuse(refusal, results[largest].response_format)
                saved = length - len(responses[largest].body)
                if saved <= 0:  # a limit of a few bytes
                    break
                size -= saved
        return responses

    def _encode(self, result: ModelOutput) -> Response:
        outputs = result.outputs
        if isinstance(outputs, BaseException):  # of any kind, if a subclass of the handler made it
            return self._refuse(as_request_error(outputs, "preparing the request"), result.response_format)
        try:
            if self.hooks.postprocess and not result.explain:
                outputs = self.hooks.postprocess(outputs)
            limit = self.config.max_response_bytes
            return encode_outputs(
                outputs, result.response_format, model_name=self.name, model_version=self.version, max_bytes=limit
            )
        except BaseException as error:
            return self._refuse(as_request_error(error, "answering the request"), result.response_format)

    def _refuse(self, error: RequestError, response_format: ResponseFormat) -> Response:
        # An invented name would be a new series of the metric, kept forever.
        known = any(error.field == spec.name for spec in self.config.inputs)
        self.counts.reject(error.status, error.field if known and error.field else "")
        return encode_error(error, response_format, model_name=self.name, model_version=self.version)

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


def _error_format(request: Request, response_format: ResponseFormat) -> ResponseFormat:
    """The form in which a refused request gets its error, as far as that is known."""
    if getattr(request, "grpc_infer", False):
        return ResponseFormat(infer_request=response_format.infer_request, grpc_infer=True)
    by_address = getattr(request, "open_inference", False)
    if by_address or JSON_LENGTH_HEADER.lower() in getattr(request, "headers", ()):
        return ResponseFormat(text_errors=True)
    return response_format


def _describe(spec: TensorSpec) -> dict[str, Any]:
    described = {"name": spec.name, "dtype": str(spec.dtype), "shape": list(spec.shape)}
    rules = {"optional": spec.optional or None, "minimum": spec.minimum}
    return described | {name: value for name, value in rules.items() if value is not None}
