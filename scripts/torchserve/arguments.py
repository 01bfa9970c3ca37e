"""The command-line arguments that several commands share. Standard library only."""

import argparse
from pathlib import Path
from typing import NamedTuple

from archive.repository import ROOT

# Seconds that a start waits for its models.
START_TIMEOUT_S = 300.0


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options by which every command finds its server."""
    parser.add_argument("--home", type=Path, default=ROOT, help="folder the server runs in (this repository)")
    parser.add_argument("--config", type=Path, help="its configuration (HOME/config.properties)")
    parser.add_argument("--model-store", type=Path, help="its archives (HOME/model_store)")


def add_start_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the commands that start a server."""
    add_server_arguments(parser)
    parser.add_argument("--models", nargs="+", default=[], help="archives to serve (all in the model store)")
    parser.add_argument(
        "--timeout", type=float, default=START_TIMEOUT_S, help="seconds to wait for the models (%(default)g)"
    )
    parser.add_argument("--model-api", action="store_true", help="let models be registered and deleted (deploy)")
    parser.add_argument("--quiet", action="store_true", help="no access log, and no metrics but TorchServe's counters")


class StartOptions(NamedTuple):
    """The values of `add_start_arguments`."""

    home: Path
    config: Path | None
    model_store: Path | None
    models: list[str]
    timeout: float
    model_api: bool
    quiet: bool

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "StartOptions":
        """Takes them from parsed arguments."""
        return cls(*(getattr(arguments, name) for name in cls._fields))

    def server_arguments(self) -> list[str]:
        """Returns the arguments with which a command finds this server from any folder."""
        paths = {"--home": self.home, "--config": self.config, "--model-store": self.model_store}
        return [text for option, path in paths.items() if path is not None for text in (option, str(path.resolve()))]

    def start_arguments(self) -> list[str]:
        """Returns the arguments with which this server is started from any folder."""
        arguments = [*self.server_arguments(), "--timeout", str(self.timeout)]
        arguments += ["--model-api"] * self.model_api + ["--quiet"] * self.quiet
        return [*arguments, "--models", *self.models] if self.models else arguments
