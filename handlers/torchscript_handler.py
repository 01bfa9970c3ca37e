"""TorchServe's entry point for a TorchScript model: hands requests to `ServableModel` and answers back."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from handlers import seal
from handlers.request import Answer, Part, Request

if TYPE_CHECKING:
    from handlers.model import ServableModel


class TorchScriptHandler:
    """A TorchServe handler; one object a worker process.

    TorchServe calls `initialize(context)` once and `handle(data, context)` for every batch. Requests are answered one
    by one: each has its own status, content type and body, so a bad one costs only its sender.
    """

    def __init__(self):
        self.model: ServableModel | None = None
        self.initialized = False

    def initialize(self, context) -> None:
        """Checks and loads the archive unpacked in `context.system_properties["model_dir"]`.

        Raises:
            ModelError: the archive cannot be served; TorchServe's log then says why.
        """
        properties = context.system_properties
        folder, gpu = Path(properties["model_dir"]), properties.get("gpu_id")
        seal.check(folder, gpu)
        # Not before: these modules are files of the archive too, and a damaged one would not import.
        from handlers.model import ServableModel

        self.model = ServableModel(folder, gpu)
        self.initialized = True

    def handle(self, data: list[dict], context) -> list[bytes]:
        """Answers a batch: `data[i]` maps part names to bytes; statuses and types go into `context`."""
        requests = [self._request(parts, context, index) for index, parts in enumerate(data)]
        answers = self.model.answer(requests)
        for index, answer in enumerate(answers):
            self._report(answer, context, index)
        return [answer.body for answer in answers]

    @staticmethod
    def _request(parts: dict, context, index: int) -> Request:
        # TorchServe keeps a part's media type among the headers, under the part's name.
        headers = context.get_all_request_header(index)
        return {
            name: Part(content, (headers.get(name) or {}).get("content-type", "")) for name, content in parts.items()
        }

    @staticmethod
    def _report(answer: Answer, context, index: int) -> None:
        context.set_response_content_type(index, answer.content_type)
        if answer.status != HTTPStatus.OK:
            context.set_response_status(answer.status, HTTPStatus(answer.status).phrase, index)
