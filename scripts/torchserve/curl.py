"""Command lines with curl for people to paste, typed in the folder of the repository."""

import os
import shlex
import sys
from pathlib import Path

from archive.repository import ROOT
from scripts.torchserve.archives import Sample
from scripts.torchserve.server import Server


def predict_command(server: Server, model: str, sample: Sample) -> str:
    """Returns the line that sends a sample, and writes the files in it below HOME/build/samples."""
    folder = server.home / "build" / "samples" / model
    for name, content in sample.files.items():
        folder.mkdir(parents=True, exist_ok=True)
        # Renamed into place, so that a link with that name is not followed.
        unfinished = folder / f".{name}.{os.getpid()}"
        unfinished.write_bytes(content)
        unfinished.replace(folder / name)
    if sample.body is not None:
        data = f"-H 'Content-Type: application/json' --data-binary @{_quote(folder / 'body.json')}"
    else:
        data = " ".join(f"-F {Path(name).stem}=@{_quote(folder / name)}" for name in sorted(sample.parts))
    return f"curl -s {token_header(server, 'inference')} {data} {server.address('inference')}/predictions/{model}"


def token_header(server: Server, kind: str) -> str:
    """Returns curl's option for a token that is valid when the line is run."""
    words = [_quote(Path(sys.executable)), "-m scripts.tokens", kind]
    if server.home != ROOT:
        words += ["--home", _quote(server.home)]
    if server.config != server.home / "config.properties":
        words += ["--config", _quote(server.config)]
    return f'-H "Authorization: Bearer $({" ".join(words)})"'


def _quote(path: Path) -> str:
    return shlex.quote(str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path))
