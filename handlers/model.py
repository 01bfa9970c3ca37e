"""A servable model: takes requests, gives one answer each. Knows no server."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy

from handlers.batching import batching_of, check_outputs, group
from handlers.codecs.decode import decode_request
from handlers.codecs.encode import PLAIN, Reply, encode_error, encode_outputs
from handlers.codecs.oip import JSON_LENGTH_HEADER
from handlers.codecs.request import Answer, Request
from handlers.codecs.shared_memory import SharedMemory
from handlers.config import CONFIG_FILE, ModelConfig
from handlers.engines import load_engine
from handlers.errors import DeviceError, ModelError, RequestError, error_lines, printable, release_frames, safe_str
from handlers.metrics import Counts
from handlers.sample import SAMPLE_FOLDER, SAMPLE_REFUSED, read_sample_request
from handlers.signature import TensorSpec

logger = logging.getLogger(__name__)

Inputs = dict[str, numpy.ndarray]


class Prepared(NamedTuple):
    """The inputs of one request, or its error; how it wants to be answered, and whether with an explanation."""

    inputs: Inputs | RequestError
    reply: Reply = PLAIN
    explain: bool = False


class Result(NamedTuple):
    """The outputs of one request, or its error; how it wants to be answered, and whether this is an explanation."""

    outputs: Mapping[str, Any] | RequestError
    reply: Reply = PLAIN
    explain: bool = False


# Characters of an exception that a log line quotes.
MAX_LOGGED = 2000
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
        self.explain: Callable[[Inputs, Callable], dict[str, Any]] | None = getattr(hooks, "explain", None)
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
        marks = request if isinstance(request, Request) else Request  # a plain dictionary of parts has none
        reply = PLAIN
        try:
            if marks.refusal is not None:
                raise marks.refusal
            if marks.explain and self.explain is None:
                raise RequestError("this model gives no explanations", status=HTTPStatus.NOT_IMPLEMENTED)
            config = self.config
            limits = config.max_image_pixels, config.max_npz_bytes, self._memory, config.max_json_bytes
            inputs, reply = decode_request(request, config.inputs, *limits)
            # Before the hook, so that it can follow indices that are known to be sound.
            self.batching.check(inputs)
            if self.preprocess:
                inputs = self._model_inputs(self.preprocess(inputs))
            if marks.grpc_infer:
                reply = reply._replace(grpc_infer=True)
            return Prepared(inputs, reply, marks.explain)
        except BaseException as error:
            return Prepared(as_request_error(error, "preparing the request"), _reply_to_refused(request, reply))

    def _model_inputs(self, made: Any) -> Inputs:
        """What the `preprocess` hook made, if requests of it can be joined.

        Raises:
            ModelError: it is not a dictionary of the model's inputs as arrays.
        """
        wanted = {spec.name for spec in self.config.inputs if not spec.optional}
        if not isinstance(made, dict) or not wanted <= made.keys():
            raise ModelError(f"preprocess returned no dictionary of {', '.join(sorted(wanted))}")
        for name, value in made.items():
            if not isinstance(value, numpy.ndarray):
                raise ModelError(f"preprocess returned a {type(value).__name__} for '{safe_str(name)}', not an array")
        self.batching.key(made)
        return made

    def run(self, prepared: Sequence[Prepared]) -> list[Result]:
        """Joins what can be joined, runs the model and splits what comes back; errors are passed on."""
        sound = {
            index: each.inputs
            for index, each in enumerate(prepared)
            if not (each.explain or isinstance(each.inputs, BaseException))
        }
        results = self._run(sound)
        if len(sound) < len(prepared):
            for index, each in enumerate(prepared):
                if index not in results:
                    refused = isinstance(each.inputs, BaseException)
                    results[index] = each.inputs if refused else self._explain(each.inputs)
        return [Result(results[index], each.reply, each.explain) for index, each in enumerate(prepared)]

    def _explain(self, inputs: Inputs) -> Mapping[str, Any] | RequestError:
        def predict(inputs: Inputs) -> Inputs:
            """The model's outputs for the inputs of one request, which stay as they are."""
            return self._run_together([_copied(inputs)], keep=True)[0]

        try:
            return self.explain(inputs, predict)
        except BaseException as error:
            return as_request_error(error, "explaining the prediction")

    def encode(self, results: Sequence[Result]) -> list[Answer]:
        """Passes each result through the `postprocess` hook and encodes it as its request asked for."""
        begun = time.perf_counter()
        answers = [self._encode(result) for result in results] if len(results) == 1 else self._encode_all(results)
        self.counts.encode_s += time.perf_counter() - begun
        return answers

    def _encode_all(self, results: Sequence[Result]) -> list[Answer]:
        """The answers of a batch, which the server takes as one message.

        Where they would be too large together, the largest are not sent: whoever asked for little is answered whatever
        the others asked for.
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
                if saved <= 0:  # a bound of a few bytes
                    break
                size -= saved
        return answers

    def _encode(self, result: Result) -> Answer:
        if isinstance(result.outputs, BaseException):  # any, where a subclass of the handler made it
            return self._refuse(as_request_error(result.outputs, "preparing the request"), result.reply)
        try:
            outputs = result.outputs
            if self.postprocess and not result.explain:
                outputs = self.postprocess(outputs)
            limit = self.config.max_response_bytes
            return encode_outputs(
                outputs, result.reply, model_name=self.name, model_version=self.version, max_bytes=limit
            )
        except BaseException as error:
            return self._refuse(as_request_error(error, "answering the request"), result.reply)

    def _refuse(self, error: RequestError, reply: Reply) -> Answer:
        # A name of the sender's own making would be one more series for ever.
        known = any(error.field == spec.name for spec in self.config.inputs)
        self.counts.reject(error.status, error.field if known else "")
        return encode_error(error, reply, model_name=self.name, model_version=self.version)

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

    def _run(self, prepared: dict[int, Inputs]) -> dict[int, Mapping[str, Any] | RequestError]:
        results: dict[int, Mapping[str, Any] | RequestError] = {}
        groups = group(prepared, self.batching, hooked=self.preprocess is not None)
        for members in groups:
            together = self._try_together([prepared[member] for member in members], keep=len(groups) > 1)
            results.update(zip(members, together, strict=True))
        return results

    def _try_together(self, requests: list[Inputs], keep: bool) -> list[Inputs | RequestError]:
        """The outputs of each request, or its error; `keep` if the model runs again before they are encoded."""
        try:
            return self._run_together(requests, keep)
        except Exception as error:
            if len(requests) == 1 or self.broken:
                return [as_request_error(error, "running the model")] * len(requests)
            release_frames(error)
        # One of them is at fault, and only it should hear of it. Whoever runs alone runs again with the rest, so that
        # an answer has the bytes that it has in a batch without the culprit. A model may write into its inputs, and a
        # request that runs alone is not copied by joining it.
        alone = [self._try_together([_copied(inputs)], keep=True)[0] for inputs in requests]
        sound = [index for index, result in enumerate(alone) if not isinstance(result, RequestError)]
        if 1 < len(sound) < len(requests):
            again = self._try_together([requests[index] for index in sound], keep)
            for index, result in zip(sound, again, strict=True):
                alone[index] = result
        return alone

    def _run_together(self, requests: list[Inputs], keep: bool) -> list[Inputs]:
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


def _copied(arrays: Inputs) -> Inputs:
    return {name: value.copy() for name, value in arrays.items()}


def _reply_to_refused(request: Request, reply: Reply) -> Reply:
    """How a refused request wants to hear of it, as far as that is known."""
    if getattr(request, "grpc_infer", False):
        return Reply(call=reply.call, grpc_infer=True)
    by_address = getattr(request, "open_inference", False)
    if by_address or JSON_LENGTH_HEADER.lower() in getattr(request, "headers", ()):
        return Reply(text_errors=True)
    return reply


def as_request_error(error: BaseException, step: str) -> RequestError:
    """What the sender is told of an exception: its own fault in full, ours in a line (and the log in full).

    Whatever was raised for one request is answered to it, also the `sys.exit()` of a hook or a library's panic. The
    exception is cut off the frames that it passed through, and with them from the request.

    Raises:
        KeyboardInterrupt: it was that; an interrupt is for the process.
    """
    if isinstance(error, KeyboardInterrupt):
        raise error
    try:
        return _as_request_error(error, step)
    except Exception:  # what a hook has made of its own error
        return RequestError(f"{step} failed", status=HTTPStatus.INTERNAL_SERVER_ERROR)
    finally:
        release_frames(error)


def _as_request_error(error: BaseException, step: str) -> RequestError:
    if type(error) is RequestError:
        return error
    if isinstance(error, RequestError):  # somebody's own, with whatever it holds on to
        return RequestError(
            getattr(error, "message", error_lines(error)[0]),
            field=getattr(error, "field", None),
            status=getattr(error, "status", HTTPStatus.INTERNAL_SERVER_ERROR),
        )
    if isinstance(error, ModelError):
        logger.error("%s failed: %s", step, printable(error, MAX_LOGGED))
        return RequestError(safe_str(error), status=HTTPStatus.INTERNAL_SERVER_ERROR)
    # PyTorch's own has a name and no kinship; a worker of ONNX Runtime does not import it.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        logger.error("%s ran out of memory: %s", step, printable(error_lines(error)[-1], MAX_LOGGED))
        return RequestError(f"{step} ran out of memory", status=HTTPStatus.INSUFFICIENT_STORAGE)
    logger.error("%s failed", step, exc_info=error)
    return RequestError(f"{step} failed: {error_lines(error)[-1]}", status=HTTPStatus.INTERNAL_SERVER_ERROR)


def _described(spec: TensorSpec) -> dict[str, Any]:
    told = {"name": spec.name, "dtype": str(spec.dtype), "shape": list(spec.shape)}
    rules = {"optional": spec.optional or None, "minimum": spec.minimum}
    return told | {name: value for name, value in rules.items() if value is not None}


def load_hooks(path: Path) -> ModuleType:
    """Imports a model's hooks from a file.

    Raises:
        ModelError: absent, does not import, or defines none of `preprocess`, `postprocess` and `explain`.
    """
    if not path.is_file():
        raise ModelError(f"{path.name}: the hooks are not in {path.parent}")
    spec = importlib.util.spec_from_file_location("opserve_model_hooks", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ModelError(f"{path.name}: the hooks do not import: {type(error).__name__}: {error}") from error
    if not any(hasattr(module, name) for name in ("preprocess", "postprocess", "explain")):
        raise ModelError(
            f"{path.name}: defines neither preprocess(inputs) nor postprocess(outputs) nor explain(inputs, predict)"
        )
    return module
