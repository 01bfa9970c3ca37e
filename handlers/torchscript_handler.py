"""TorchServe's entry point for a TorchScript model: hands requests to `ServableModel` and answers back."""

from http import HTTPStatus
from pathlib import Path

from handlers.model import ServableModel
from handlers.request import Answer, Part, Request


class TorchScriptHandler:
    """A TorchServe handler; one object a worker process.

    TorchServe calls `initialize(context)` once and `handle(data, context)` for every batch. Requests are answered one
    by one: each has its own status, content type and body, so a bad one costs only its sender.
    """

    def __init__(self):
        self.model: ServableModel | None = None
        self.initialized = False

    def initialize(self, context) -> None:
        """Loads the archive unpacked in `context.system_properties["model_dir"]`.

        Raises:
            ModelError: the archive cannot be served; TorchServe's log then says why.
        """
        properties = context.system_properties
        manifest = (context.manifest or {}).get("model", {})
        self.model = ServableModel(
            Path(properties["model_dir"]),
            properties.get("gpu_id"),
            name=manifest.get("modelName", ""),
            version=str(manifest.get("modelVersion", "")),
        )
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
        # TorchServe keeps a part's media type among the headers, under the part's name. A header of that very name
        # takes its place, so a part called "Host" has no media type.
        known = context.get_all_request_header(index)
        headers = {name: value for name, value in known.items() if isinstance(value, str)}
        media_types = {name: value["content-type"] for name, value in known.items() if isinstance(value, dict)}
        return Request({name: Part(content, media_types.get(name, "")) for name, content in parts.items()}, headers)

    @staticmethod
    def _report(answer: Answer, context, index: int) -> None:
        context.set_response_content_type(index, answer.content_type)
        for name, value in answer.headers.items():
            context.set_response_header(index, name, value)
        if answer.status != HTTPStatus.OK:
            context.set_response_status(answer.status, HTTPStatus(answer.status).phrase, index)
