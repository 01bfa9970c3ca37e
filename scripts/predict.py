"""Sends an archive's own sample to the running server and compares the answer with the expected one."""

import sys

if not __package__:  # run as a file: import from the repository, not from this folder
    sys.path[0] = __file__.rpartition("/scripts/")[0]

import argparse
import json
import mimetypes
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from archive.errors import OpserveError
from archive.process.command import run
from archive.repository import ROOT
from handlers.sample import difference
from scripts.torchserve import archives as mar
from scripts.torchserve.arguments import add_server_arguments
from scripts.torchserve.server import Server

TIMEOUT_S = 120.0
SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Outcome:
    """What came back for a sample, and where it first differs from what was expected."""

    answer: Any
    expected: Any
    difference: str | None

    def show(self, model: str) -> None:
        """Print the prediction beside the expected answer."""
        print(f"{model}")
        print(f"  prediction  {_short(self.answer)}")
        if self.expected is not None:
            print(f"  expected    {_short(self.expected)}")
            print(f"  {f'DIFFERENT: {self.difference}' if self.difference else 'same'}")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}… ({len(text)} characters)"


def _media_type(name: str) -> str:
    # As curl -F does: images by their suffix, the rest as bytes; the handler goes by the part's name.
    guess = mimetypes.guess_type(name)[0] or ""
    return guess if guess.startswith("image/") else "application/octet-stream"


def request_options(sample: mar.Sample) -> dict[str, Any]:
    """What `requests` is given to send a sample: its parts as multipart, or its body as JSON."""
    if sample.body is not None:
        return {"data": sample.body, "headers": {"Content-Type": "application/json"}}
    return {"files": {Path(name).stem: (name, content, _media_type(name)) for name, content in sample.parts.items()}}


def send(server: Server, model: str, sample: mar.Sample) -> requests.Response:
    """Send a sample."""
    return server.request("inference", "POST", f"/predictions/{model}", TIMEOUT_S, **request_options(sample))


def send_by_grpc(server: Server, model: str, sample: mar.Sample) -> Any:
    """The prediction for a sample by gRPC, whose answers have no status: what is refused is an answer too."""
    from scripts import grpc_client  # slow to import

    parts = {Path(name).stem: content for name, content in sample.files.items()}
    body = grpc_client.predict(server, model, parts, TIMEOUT_S)
    try:
        answer = json.loads(body)
    except ValueError:
        raise OpserveError(
            f"{model} answered something that is not JSON: {_short(body.decode(errors='replace'))}"
        ) from None
    if isinstance(answer, dict) and answer.keys() == {"error"}:
        raise OpserveError(f"{model} answered {_short(answer)}; `make logs` shows more")
    return answer


def attempt(server: Server, model: str, sample: mar.Sample, by_grpc: bool = False) -> Outcome:
    """Send a sample and compare; an answer that is no prediction is an error."""
    answer = send_by_grpc(server, model, sample) if by_grpc else _prediction(model, send(server, model, sample))
    found = None if sample.answer is None else difference(answer, sample.answer, sample.tolerance)
    return Outcome(answer, sample.answer, found)


def try_sample(server: Server, model: str, archive: mar.Archive, name: str) -> None:
    """Predict an archive's sample and show the outcome under a name; a wrong answer is an error."""
    outcome = attempt(server, model, archive.sample)
    outcome.show(name)
    if outcome.difference:
        raise OpserveError(f"{name} does not answer its sample as {archive.path.name} says it must")


def _prediction(model: str, response: requests.Response) -> Any:
    if response.status_code != 200:
        raise OpserveError(
            f"{model} answered {response.status_code}: {_short(response.text.strip())}; `make logs` shows more"
        )
    try:
        return response.json()
    except ValueError:
        raise OpserveError(f"{model} answered something that is not JSON: {_short(response.text)}") from None


def archive_of(server: Server, model: str, version: str) -> mar.Archive:
    """The archive in the model store that holds a version of a model."""
    named = [server.model_store / f"{model}.mar", server.model_store / f"{model}@{version}.mar"]
    others = sorted(set(server.model_store.glob("*.mar")) - set(named))
    for path in [path for path in named if path.is_file()] + others:
        archive = mar.read(path)
        if (archive.model, archive.version) == (model, version):
            return archive
    raise OpserveError(
        f"{server.model_store} holds no archive of {model} {version}; "
        f"`make archive MODEL={model} VERSION={version}` makes one"
    )


def _pasted(path: Path) -> str:
    """A path as a person would type it here."""
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def token_command(server: Server, kind: str) -> str:
    """The shell words that put a valid token into a pasted line."""
    words = [_pasted(Path(sys.executable)), _pasted(ROOT / "scripts" / "tokens.py"), kind]
    if server.home != ROOT:
        words += ["--home", _pasted(server.home)]
    if server.config != server.home / "config.properties":
        words += ["--config", _pasted(server.config)]
    return f'-H "Authorization: Bearer $({" ".join(words)})"'


def curl(server: Server, model: str, sample: mar.Sample) -> str:
    """The curl line that sends the same sample; the files in it are written below build/samples."""
    folder = server.home / "build" / "samples" / model
    for name, content in sample.files.items():
        folder.mkdir(parents=True, exist_ok=True)
        # Renamed into place: a link that somebody left there is not followed.
        unfinished = folder / f".{name}.{os.getpid()}"
        unfinished.write_bytes(content)
        unfinished.replace(folder / name)
    if sample.body is not None:
        data = f"-H 'Content-Type: application/json' --data-binary @{_pasted(folder / 'body.json')}"
    else:
        data = " ".join(f"-F {Path(name).stem}=@{_pasted(folder / name)}" for name in sorted(sample.parts))
    url = f"{server.address('inference')}/predictions/{model}"
    return f"curl -s {token_command(server, 'inference')} {data} {url}"


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a served model")
    parser.add_argument("--request", type=Path, help="a JSON body of your own instead of the archive's sample")
    parser.add_argument("--grpc", action="store_true", help="by gRPC instead of HTTP")
    add_server_arguments(parser)
    options = parser.parse_args(arguments)
    server = Server.from_arguments(options)
    server.require_running()
    version = server.require_model(options.model)["modelVersion"]
    if options.request is not None:
        try:
            sample = mar.Sample(body=options.request.read_bytes())
        except OSError as error:
            raise OpserveError(f"cannot read the request {options.request}: {error.strerror}") from None
    else:
        archive = archive_of(server, options.model, version)
        if archive.sample is None:
            raise OpserveError(f"{archive.path.name} carries no sample; give one: make predict … REQUEST=file.json")
        sample = archive.sample
    outcome = attempt(server, options.model, sample, options.grpc)
    outcome.show(options.model)
    if not options.grpc:
        print(f"  {curl(server, options.model, sample)}")
    return 1 if outcome.difference else 0


if __name__ == "__main__":
    run(main)
