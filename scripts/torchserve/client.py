"""Sends requests to served models, and compares what they predict with the answers that archives carry."""

import json
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archive.errors import OpserveError
from handlers.sample import difference
from scripts.torchserve.archives import Archive, Sample
from scripts.torchserve.server import Server

TIMEOUT_S = 120.0
SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Outcome:
    """A model's answer to a sample, and the first difference from the expected one."""

    answer: Any
    expected: Any
    difference: str | None

    def describe(self, name: str) -> str:
        """Returns lines for a person: the prediction, and whether it is the expected one."""
        lines = [name, f"  prediction  {_shorten(self.answer)}"]
        if self.expected is not None:
            lines += [f"  expected    {_shorten(self.expected)}"]
            lines += [f"  DIFFERENT: {self.difference}" if self.difference else "  same"]
        return "\n".join(lines)


def request_options(sample: Sample) -> dict[str, Any]:
    """Returns the arguments with which `requests` sends a sample: its parts as multipart, or its body as JSON."""
    if sample.body is not None:
        return {"data": sample.body, "headers": {"Content-Type": "application/json"}}
    return {"files": {Path(name).stem: (name, content, _media_type(name)) for name, content in sample.parts.items()}}


def predict(server: Server, model: str, sample: Sample) -> Any:
    """Sends a sample and returns the prediction.

    Args:
        server: a running server.
        model: a served model, or `MODEL/VERSION`.
        sample: the request.

    Raises:
        OpserveError: the answer is not a prediction.
    """
    response = server.request("inference", "POST", f"/predictions/{model}", TIMEOUT_S, **request_options(sample))
    if response.status_code != 200:
        raise OpserveError(
            f"{model} answered {response.status_code}: {_shorten(response.text.strip())}; `make logs` shows more"
        )
    return _parse_json(model, response.text)


def parse_grpc_answer(model: str, body: bytes) -> Any:
    """Returns the prediction in an answer that came by gRPC, which has no status: a refusal is an answer too.

    Raises:
        OpserveError: the answer is not a prediction.
    """
    answer = _parse_json(model, body.decode(errors="replace"))
    if isinstance(answer, dict) and answer.keys() == {"error"}:
        raise OpserveError(f"{model} answered {_shorten(answer)}; `make logs` shows more")
    return answer


def compare(answer: Any, sample: Sample) -> Outcome:
    """Compares a prediction with the one that a sample expects, if it expects one."""
    found = None if sample.answer is None else difference(answer, sample.answer, sample.tolerance)
    return Outcome(answer, sample.answer, found)


def check_sample(server: Server, model: str, archive: Archive, name: str) -> None:
    """Sends an archive's sample to a model and prints the outcome under a name.

    Raises:
        OpserveError: the answer is not the expected one.
    """
    sample = archive.require_sample()
    outcome = compare(predict(server, model, sample), sample)
    print(outcome.describe(name))
    if outcome.difference:
        raise OpserveError(f"{name} does not answer its sample as {archive.path.name} says it must")


def _parse_json(model: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise OpserveError(f"{model} answered something that is not JSON: {_shorten(text)}") from None


def _shorten(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}… ({len(text)} characters)"


def _media_type(name: str) -> str:
    # As curl -F does: images by their suffix, the rest as bytes; the handler goes by the part's name.
    guess = mimetypes.guess_type(name)[0] or ""
    return guess if guess.startswith("image/") else "application/octet-stream"
