"""TorchServe's entry point: hands requests to `ServableModel` and answers back."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterable
from http import HTTPStatus
from http.client import responses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlers.codecs.request import BODY, Answer, Part, Request
from handlers.errors import ModelError, RequestError
from handlers.integrity import check as integrity
from handlers.integrity.manifest import MANIFEST_FILE, Manifest
from handlers.integrity.signing import PUBLIC_KEY_VARIABLE
from handlers.torchserve import stand_in

if TYPE_CHECKING:
    from handlers.metrics import Reporter
    from handlers.model import Prepared, Result, ServableModel
    from handlers.torchserve.batch_reader import BatchReader

logger = logging.getLogger(__name__)

HANDLER_TIME = "HandlerTime"
READ_AHEAD_SWITCH = "OPSERVE_READ_AHEAD"
# TorchServe's own: "false" where config.properties has decode_input_request=false. Else it parses JSON by itself.
DECODES_REQUESTS = "TS_DECODE_INPUT_REQUEST"
# The marks that TorchServe puts among the headers of a request, by the names that it gives them: a sender's own header
# of the same letters is there too, under the name as he wrote it.
DESCRIBE, EXPLAIN, URL_PATH, STREAM_NEXT = "describe", "explain", "url_path", "ts_stream_next"
_FORMS = ("multipart/", "application/x-www-form-urlencoded")
# Versions of TorchServe whose worker reads requests by `recv` of this socket, in one thread, and in no other way.
READ_AHEAD_VERSIONS = ("0.12.0",)


class OpserveHandler:
    """A TorchServe handler; one object a worker process.

    TorchServe calls `initialize(context)` once and `handle(data, context)` for every batch. Requests are answered one
    by one: each has its own status, content type and body, so a bad one costs only its sender. `preprocess`,
    `inference` and `postprocess` are the steps of `handle` that TorchServe's `BaseHandler` has, for a subclass to wrap;
    what such a step of a subclass raises is answered with 500 to its batch.

    An archive whose configuration has no `opserve:` section is TorchServe's own kind, and is left to its `BaseHandler`,
    unless only signed archives are wanted.
    """

    def __init__(self):
        self.model: ServableModel | None = None
        self.manifest: dict | None = None
        self.context = None
        self.initialized = False
        self._stock = None
        self._stand_in: stand_in.StandIn | None = None
        self._reporter: Reporter | None = None
        self._read_ahead_next = False
        self._batches: BatchReader | None = None

    def initialize(self, context) -> None:
        """Checks and loads the archive unpacked in `context.system_properties["model_dir"]`.

        In a worker that has failed at it several times, something stands in for the model for a while instead.

        Raises:
            ModelError: the archive cannot be served; TorchServe's log then says why.
        """
        attempts = stand_in.attempts(Path(context.system_properties["model_dir"]))
        if attempts is None:
            self._load(context)
        elif attempts.wants_stand_in():
            self._stand_in = stand_in.StandIn(attempts)
        else:
            attempts.begin()
            try:
                self._load(context)
            except BaseException as error:
                attempts.fail(error)
                raise
            attempts.succeed()
        self.initialized = True

    def _load(self, context) -> None:
        properties = context.system_properties
        self.context, self.manifest = context, context.manifest
        folder, gpu = Path(properties["model_dir"]), properties.get("gpu_id")
        # Not by the configuration alone: that is a file which may be damaged.
        ours = "opserve" in (getattr(context, "model_yaml_config", None) or {}) or (folder / MANIFEST_FILE).exists()
        if ours or PUBLIC_KEY_VARIABLE in os.environ:
            manifest = integrity.check_archive(folder)
            if gpu is not None:
                _check_gpu(manifest, folder, gpu)
            _refuse_envelope()
            # Not before: these modules are files of the archive too, and a damaged one would not import.
            from handlers.model import ServableModel
            from handlers.torchserve.worker_log import make_harmless

            model = (self.manifest or {}).get("model", {})
            name, version = model.get("modelName", ""), str(model.get("modelVersion", ""))
            self.model = ServableModel(folder, gpu, name=name, version=version)
            logger.info("%s %s: %s", name, version, json.dumps(self.model.describe()))
            self._reporter = _start_metrics(self.model, getattr(context, "metrics", None))
            self._read_ahead_next = _may_read_ahead(properties.get("server_version"))
            if os.environ.get(DECODES_REQUESTS) != "false":
                logger.warning("TorchServe parses JSON itself, and slowly: set decode_input_request=false")
            # From here on records may quote requests; before, they say why a model does not load, as TorchServe would.
            make_harmless()
        else:
            from ts.torch_handler.base_handler import BaseHandler

            self._stock = BaseHandler()
            self._stock.initialize(context)

    def handle(self, data: list[dict], context) -> list[Any]:
        """Answers a batch: `data[i]` maps part names to bytes; statuses and types go into `context`."""
        if self._stand_in is not None:
            return self._stand_in.handle(data, context)
        if self._stock is not None:
            return self._stock.handle(data, context)
        begun = time.perf_counter()
        self.context = context
        if self._read_ahead_next:  # the socket is not known before the first batch
            self._read_ahead_next = False
            self._batches = _read_ahead(getattr(context, "cl_socket", None))
        if self._batches is not None:
            self._batches.release()
        if len(data) == 1 and not data[0] and self._is_description():  # GET /models/NAME?customized=true
            return [json.dumps(self.model.describe() | {"pid": os.getpid()})]
        bodies = self._answer(data)
        if self.model.broken:
            logger.critical("this worker ends: %s", self.model.broken)
            from handlers.torchserve.read_ahead import end_at_next_read

            # TorchServe replaces a worker that ends. This batch is answered first.
            end_at_next_read(getattr(context, "cl_socket", None))
        if self._reporter is not None:
            self._reporter.added()
            taken_ms = (time.perf_counter() - begun) * 1000
            context.metrics.add_time(HANDLER_TIME, round(taken_ms, 2), None, "ms")
        return bodies

    def _answer(self, data: list[dict]) -> list[bytes]:
        try:
            answers = self.postprocess(self.inference(self.preprocess(data)))
            if len(answers) != len(data):
                raise ValueError(f"{len(answers)} answers to {len(data)} requests")
            for index, answer in enumerate(answers):
                self._report(answer, index)
            return [answer.body for answer in answers]
        except BaseException as error:
            # Only what a subclass has made of a step: the steps themselves answer whatever is raised.
            from handlers.codecs.encode import encode_error
            from handlers.model import as_request_error

            refusal = encode_error(as_request_error(error, "handling the batch"))
            for index in range(len(data)):
                self._report(refusal, index)
            return [refusal.body] * len(data)

    def _is_description(self) -> bool:
        """Whether a request without parts is TorchServe's own for a description, and no prediction.

        A sender can set the mark too; but without parts his request must be an empty form.
        """
        headers = self.context.get_all_request_header(0)
        return headers.get(DESCRIBE) == "True" and not any(
            name.lower() == "content-type" and value.lower().startswith(_FORMS) for name, value in headers.items()
        )

    def preprocess(self, data: list[dict]) -> list[Prepared]:
        """Decodes and checks each request, and runs the model's own `preprocess` hook on it."""
        return self.model.prepare([self._request(parts, index) for index, parts in enumerate(data)])

    def inference(self, data: list[Prepared]) -> list[Result]:
        """Joins what can be joined, runs the model, and splits what comes back."""
        return self.model.run(data)

    def postprocess(self, data: list[Result]) -> list[Answer]:
        """Runs the model's own `postprocess` hook, and encodes each answer as its request asked for."""
        return self.model.encode(data)

    def _request(self, parts: dict, index: int) -> Request:
        # TorchServe keeps a part's media type among the headers, under the part's name. A header of that very name
        # takes its place, so a part called "Host" has no media type.
        headers, media_types = {}, {}
        given = self.context.get_all_request_header(index)
        for name, value in given.items():
            if isinstance(value, str):
                headers[name] = value
            else:
                media_types[name] = value["content-type"]
        request = Request((), headers)
        for name, content in parts.items():
            part = Part(content, media_types.get(name, ""))
            request[name] = part if type(content) is bytearray else _put_right(request, name, part)
        if not headers:  # by gRPC; only one of its calls says what its content is
            request.grpc_infer = request.keys() == {BODY} and request[BODY].content_type == "application/json"
        elif (explain := headers.get(EXPLAIN)) is not None:
            if explain == "True":
                request.explain = True
            # Of the addresses that carry the mark, those of /v1 and /v2 have no path behind the model's name.
            if URL_PATH not in headers:
                request.open_inference = True
        return request

    def _report(self, answer: Answer, index: int) -> None:
        self.context.set_response_content_type(index, answer.content_type)
        for name, value in answer.headers.items():
            self.context.set_response_header(index, name, value)
        if answer.status != HTTPStatus.OK:
            self.context.set_response_status(answer.status, responses.get(answer.status, ""), index)
        headers = self.context.get_all_request_header(index)
        if not isinstance(headers.get("Host"), str) and not any(isinstance(value, str) for value in headers.values()):
            # By gRPC. TorchServe ends the worker of a stream whose answer does not say whether it is the last; over
            # HTTP it would wait for more.
            self.context.set_response_header(index, STREAM_NEXT, "false")


def _put_right(request: Request, name: str, part: Part) -> Part:
    """The part with bytes where TorchServe parsed it; `request` is refused if there are none to be had."""
    from handlers.torchserve.batch_reader import Lost

    content = part.content
    if type(content) is Lost:
        status = HTTPStatus.INSUFFICIENT_STORAGE
        request.refusal = RequestError("there is no memory for this request", status=status)
    elif not isinstance(content, bytes | bytearray | memoryview):
        # With decode_input_request it parses JSON and decodes text.
        try:
            text = content if isinstance(content, str) and part.content_type.startswith("text") else json.dumps(content)
            return part._replace(content=bytearray(text, "utf-8"))
        except (TypeError, ValueError, RecursionError):
            request.refusal = RequestError(f"'{name}' cannot be read", field=name)
    return part


def _check_gpu(manifest: Manifest, folder: Path, gpu: int) -> None:
    # Only now: the files are known to be the archive's own, and the imports take seconds.
    import torch

    from handlers.config import CONFIG_FILE, read_yaml

    section = read_yaml(folder / CONFIG_FILE).get("opserve")
    if torch.cuda.is_available() and not (isinstance(section, dict) and section.get("device") == "cpu"):
        manifest.check_gpu(torch.cuda.get_device_capability(gpu))


def _refuse_envelope() -> None:
    """Refuses to be wrapped by one of TorchServe's envelopes, which take requests apart before they are here.

    They are not told to a handler: the loader that calls `initialize` knows.

    Raises:
        ModelError: naming the setting.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == "ts.model_loader" and frame.f_locals.get("envelope"):
            raise ModelError(
                f"config.properties: service_envelope={frame.f_locals['envelope']} takes requests apart before they "
                "can be read here; take the line out"
            )
        frame = frame.f_back


def _may_read_ahead(version: str | None) -> bool:
    """Whether it is wanted, and known how a worker of this version reads.

    Raises:
        ModelError: the variable that may switch it off says something else.
    """
    from handlers.switch import is_on

    return is_on(READ_AHEAD_SWITCH) and version in READ_AHEAD_VERSIONS


def _read_ahead(connection: Any) -> BatchReader | None:
    """Has a worker's socket to the server read ahead, if it is one that is read as a synchronous worker does.

    TorchServe's worker receives each of the dozens of 4-byte numbers in a request by a call of the system, and copies
    every body once more.
    """
    if (
        type(connection) is socket.socket
        and connection.type == socket.SOCK_STREAM
        and connection.gettimeout() is None
        and threading.current_thread() is threading.main_thread()  # an asynchronous worker reads in another
    ):
        from handlers.torchserve.batch_reader import take_over
        from handlers.torchserve.read_ahead import read_ahead

        stream = read_ahead(connection)
        if os.environ.get(DECODES_REQUESTS) == "false":
            return take_over(stream)
    return None


def _start_metrics(model: ServableModel, cache: Any) -> Reporter | None:
    """Has a model's counts told to TorchServe, where they are wanted and its metrics_config declares them."""
    from handlers import metrics
    from handlers.torchserve.log_throttle import thin_out

    wanted = metrics.wanted()
    thin_out(cache, metrics.INTERVAL_S if wanted else None)
    if cache is None or not wanted:
        return None
    from ts.metrics.metric_cache_errors import MetricsCacheKeyError
    from ts.metrics.metric_type_enum import MetricTypes

    try:
        known = {name: cache.get_metric(name, MetricTypes(kind.type)) for name, kind in metrics.METRICS.items()}
    except MetricsCacheKeyError:
        logger.info("no metrics of the handler: the server's metrics_config does not declare them")
        return None

    names = [metrics.label(model.name), metrics.label(model.version)]

    def write(name: str, value: float, labels: Iterable[str]) -> None:
        known[name].add_or_update(value, [*names, *labels])

    for name, labels in metrics.information(model.describe()):
        write(name, 1, labels)
    return metrics.Reporter(model.counts, write)
