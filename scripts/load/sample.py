"""The request of a load test: the sample of a served model."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import requests

from archive.errors import OpserveError
from scripts.load import wrk
from scripts.load.result import Load
from scripts.load.settings import LoadSettings
from scripts.torchserve.archives import find_archive
from scripts.torchserve.client import compare, predict, request_options
from scripts.torchserve.server import Server


@dataclass(frozen=True)
class LoadSample:
    """The sample of a version of a model, as it is sent over HTTP."""

    model: str
    version: str
    url: str
    body: bytes
    headers: Mapping[str, str]

    def send(self, settings: LoadSettings) -> tuple[Load, Sequence[tuple[float, float]]]:
        """Sends it again and again.

        Returns:
            The load; and of each answer, if the rate is fixed, the second in which it was due and its latency in ms.
        """
        if settings.rate is None:
            threads = max(1, min(settings.connections, (os.cpu_count() or 1) // 2))
            connections, seconds = settings.connections, settings.seconds
            return wrk.load(self.url, self.body, self.headers, connections, seconds, threads, codes=True), []
        from scripts.load import rate  # needs a library of the development environment

        return rate.load(self.url, self.body, self.headers, settings.rate, settings.connections, settings.seconds)


def prepare_sample(server: Server, model: str) -> LoadSample:
    """Makes the request, once the model has answered its sample correctly.

    Raises:
        OpserveError: no such model is served, it has no sample, or it answers the sample incorrectly.
    """
    server.require_running()
    version = server.require_model(model)["modelVersion"]
    sample = find_archive(server.model_store, model, version).require_sample()
    outcome = compare(predict(server, model, sample), sample)
    if outcome.difference:
        raise OpserveError(f"{model} does not answer its sample as it must: {outcome.difference}")
    url = f"{server.address('inference')}/predictions/{model}"
    request = requests.Request("POST", url, **request_options(sample)).prepare()
    headers = {name: value for name, value in request.headers.items() if name.lower() != "content-length"}
    token = server.token("inference")
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    body = request.body or b""
    return LoadSample(model, version, url, body.encode() if isinstance(body, str) else body, headers)
