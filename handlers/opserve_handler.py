"""TorchServe's entry point: passes requests to `ServableModel` and its responses back."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from http import HTTPStatus
from http.client import responses as REASONS
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from handlers.codecs.request import BODY, Part, Request, Response
from handlers.errors import ModelError, RequestError, as_request_error
from handlers.integrity import check as integrity
from handlers.integrity.manifest import MANIFEST_FILE, Manifest
from handlers.integrity.signing import PUBLIC_KEY_VARIABLE
from handlers.torchserve.stand_in import StandIn, find_attempts
from handlers.torchserve.streams import end_stream

if TYPE_CHECKING:
    from handlers.metrics import Reporter
    from handlers.model import ModelInput, ModelOutput, ServableModel
    from handlers.torchserve.batch_reader import BatchReader

logger = logging.getLogger(__name__)

HANDLER_TIME = "HandlerTime"
# The marks that TorchServe puts among the headers of a request, spelt as it spells them. A sender's own header of the
# same name is there too if it is spelt differently.
DESCRIBE, EXPLAIN, URL_PATH = "describe", "explain", "url_path"
_FORMS = ("multipart/", "application/x-www-form-urlencoded")


class OpserveHandler:
    """A TorchServe handler; one object per worker process.

    TorchServe calls `initialize(context)` once and `handle(data, context)` for every batch. Requests are answered one
    by one: each has its own status, content type and body, so a bad one costs only its sender. `preprocess`,
    `inference` and `postprocess` are the steps of `handle` that TorchServe's `BaseHandler` has, for a subclass to wrap;
    what such a step of a subclass raises is answered with 500 to its batch.

    An archive whose configuration has no `opserve:` section is TorchServe's own kind, and is left to its `BaseHandler`,
    unless archives must be signed.
    """

    model: ServableModel
    context: Any  # TorchServe has no type annotations

    def __init__(self) -> None:
        self.manifest: dict | None = None
        self.initialized = False
        # Answers instead of `model`: a stand-in, or TorchServe's own handler.
        self._substitute: Any = None
        self._reporter: Reporter | None = None
        self._replaces_reader = False
        self._batches: BatchReader | None = None

    def initialize(self, context: Any) -> None:
        """Checks and loads the archive unpacked in `context.system_properties["model_dir"]`.

        In a worker that has failed several times, a stand-in answers instead of the model for a while.

        Raises:
            ModelError: the archive cannot be served; TorchServe's log contains the reason.
        """
        attempts = find_attempts(Path(context.system_properties["model_dir"]))
        if attempts is None:
            self._load(context)
        elif attempts.needs_stand_in():
            self._substitute = StandIn(attempts)
        else:
            attempts.begin()
            try:
                self._load(context)
            except BaseException as error:
                attempts.fail(error)
                raise
            attempts.succeed()
        self.initialized = True

    def _load(self, context: Any) -> None:
        properties = context.system_properties
        self.context, self.manifest = context, context.manifest
        folder, gpu = Path(properties["model_dir"]), properties.get("gpu_id")
        # The configuration alone does not decide: it may be damaged.
        ours = "opserve" in (getattr(context, "model_yaml_config", None) or {}) or (folder / MANIFEST_FILE).exists()
        if ours or PUBLIC_KEY_VARIABLE in os.environ:
            manifest = integrity.check_archive(folder)
            if gpu is not None:
                _check_gpu(manifest, folder, gpu)
            _refuse_envelope()
            # Not at the top: these modules are files of the archive too, and a damaged one would not import.
            from handlers.model import ServableModel
            from handlers.torchserve.configuration import READ_AHEAD_SWITCH, decodes_requests, is_enabled
            from handlers.torchserve.metrics import start_reporting
            from handlers.torchserve.version import is_known
            from handlers.torchserve.worker_log import install_safe_formatters

            model = (self.manifest or {}).get("model", {})
            name, version = model.get("modelName", ""), str(model.get("modelVersion", ""))
            self.model = ServableModel(folder, gpu, name=name, version=version)
            logger.info("%s %s: %s", name, version, json.dumps(self.model.describe()))
            self._reporter = start_reporting(self.model, getattr(context, "metrics", None))
            self._replaces_reader = is_enabled(READ_AHEAD_SWITCH) and is_known(properties.get("server_version"))
            if decodes_requests():
                logger.warning("TorchServe parses JSON itself, and slowly: set decode_input_request=false")
            # From here on records may quote requests; those before explain why a model does not load.
            install_safe_formatters()
        else:
            from ts.torch_handler.base_handler import BaseHandler

            self._substitute = BaseHandler()
            self._substitute.initialize(context)

    def handle(self, data: list[dict], context: Any) -> list[Any]:
        """Answers a batch: `data[i]` maps part names to bytes; statuses and types go into `context`."""
        if self._substitute is not None:
            return self._substitute.handle(data, context)
        begun = time.perf_counter()
        self.context = context
        if self._replaces_reader:  # the socket is not known before the first batch
            from handlers.torchserve.batch_reader import install_batch_reader

            self._replaces_reader = False
            self._batches = install_batch_reader(getattr(context, "cl_socket", None))
        if self._batches is not None:
            self._batches.release()
        if len(data) == 1 and not data[0] and self._is_description():  # GET /models/NAME?customized=true
            return [json.dumps(self.model.describe() | {"pid": os.getpid()})]
        bodies = self._answer(data)
        if self.model.broken:
            logger.critical("this worker ends: %s", self.model.broken)
            from handlers.torchserve.read_ahead import end_at_next_read

            # TorchServe replaces a worker that ends; this batch is answered first.
            end_at_next_read(getattr(context, "cl_socket", None))
        if self._reporter is not None:
            self._reporter.notify()
            taken_ms = (time.perf_counter() - begun) * 1000
            context.metrics.add_time(HANDLER_TIME, round(taken_ms, 2), None, "ms")
        return bodies

    def _answer(self, data: list[dict]) -> list[bytes]:
        try:
            responses = self.postprocess(self.inference(self.preprocess(data)))
            if len(responses) != len(data):
                raise ValueError(f"{len(responses)} responses to {len(data)} requests")
            for index, response in enumerate(responses):
                self._report(response, index)
            return [response.body for response in responses]
        except BaseException as error:
            # From a step of a subclass: those of this class answer every exception themselves.
            from handlers.codecs.encode import encode_error

            refusal = encode_error(as_request_error(error, "handling the batch"))
            for index in range(len(data)):
                self._report(refusal, index)
            return [refusal.body] * len(data)

    def _is_description(self) -> bool:
        """Whether a request without parts is TorchServe's own for a description, not one for a prediction.

        A sender can set the mark too, but a request without parts is then an empty form.
        """
        headers = self.context.get_all_request_header(0)
        return headers.get(DESCRIBE) == "True" and not any(
            name.lower() == "content-type" and value.lower().startswith(_FORMS) for name, value in headers.items()
        )

    def preprocess(self, data: list[dict]) -> list[ModelInput]:
        """Decodes and checks each request, and runs the model's own `preprocess` hook on it."""
        return self.model.prepare([self._request(parts, index) for index, parts in enumerate(data)])

    def inference(self, data: list[ModelInput]) -> list[ModelOutput]:
        """Joins the requests that can share a call, runs the model, and splits its outputs."""
        return self.model.run(data)

    def postprocess(self, data: list[ModelOutput]) -> list[Response]:
        """Runs the model's own `postprocess` hook, and encodes each result as its request asked for."""
        return self.model.encode(data)

    def _request(self, parts: dict, index: int) -> Request:
        # TorchServe keeps the media type of a part among the headers, under the part's name. A header with that name
        # replaces it, so a part called "Host" has no media type.
        request = Request()
        headers, media_types = request.headers, {}
        given = self.context.get_all_request_header(index)
        for name, value in given.items():
            if isinstance(value, str):
                headers[name.lower()] = value
            else:
                media_types[name] = value["content-type"]
        for name, content in parts.items():
            part = Part(content, media_types.get(name, ""))
            request[name] = part if type(content) is bytearray else _restore_bytes(request, name, part)
        if not headers:  # by gRPC; only one of its calls has a declared type of content
            request.grpc_infer = request.keys() == {BODY} and request[BODY].content_type == "application/json"
        elif isinstance(explain := given.get(EXPLAIN), str):
            if explain == "True":
                request.explain = True
            # Of the addresses that carry the mark, those under /v1 and /v2 have no path after the model's name.
            if not isinstance(given.get(URL_PATH), str):
                request.open_inference = True
        return request

    def _report(self, response: Response, index: int) -> None:
        self.context.set_response_content_type(index, response.content_type)
        for name, value in response.headers.items():
            self.context.set_response_header(index, name, value)
        if response.status != HTTPStatus.OK:
            self.context.set_response_status(response.status, REASONS.get(response.status, ""), index)
        end_stream(self.context, index)


def _restore_bytes(request: Request, name: str, part: Part) -> Part:
    """The part with bytes if TorchServe has parsed it; `request` gets a refusal if they cannot be restored."""
    from handlers.torchserve.batch_reader import LostValue

    content: Any = part.content
    if type(content) is LostValue:
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
    """Refuses TorchServe's envelopes, which take requests apart before the handler gets them.

    A handler is not informed of its envelope: only the loader that calls `initialize` knows it.

    Raises:
        ModelError: there is one.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == "ts.model_loader" and frame.f_locals.get("envelope"):
            raise ModelError(
                f"config.properties: service_envelope={frame.f_locals['envelope']} takes requests apart before they "
                "can be read here; take the line out"
            )
        frame = frame.f_back
