"""One TorchServe: its home folder, its addresses, its tokens and its processes.

What TorchServe writes lies in its current folder (key_file.json, logs/) or in its temporary folder (pid file,
worker sockets, unpacked archives), so a home with a temporary folder of its own is a server apart.
"""

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import stat
import time
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import psutil
import requests

from archive.errors import OpserveError
from archive.packer.names import is_name
from archive.repository import ROOT
from scripts.torchserve import processes
from scripts.torchserve.configuration import read_properties
from scripts.torchserve.places import temp_folder

Kind = Literal["inference", "management", "metrics"]
CONNECT_S = 5.0
# TorchServe's own defaults for what a configuration leaves out.
DEFAULT_ADDRESSES = {"inference": 8080, "management": 8081, "metrics": 8082}
DEFAULT_GRPC = {"inference": 7070, "management": 7071}
# A token must outlive the request it is put into.
TOKEN_MARGIN = timedelta(seconds=10)
KEY_FILE_WITHIN_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options by which every script finds its server."""
    parser.add_argument("--home", type=Path, default=ROOT, help="folder the server runs in (this repository)")
    parser.add_argument("--config", type=Path, help="its configuration (HOME/config.properties)")
    parser.add_argument("--model-store", type=Path, help="its archives (HOME/model_store)")


class Server:
    """The TorchServe of one home folder, running or not."""

    def __init__(self, home: Path = ROOT, config: Path | None = None, model_store: Path | None = None) -> None:
        self.home = home.resolve()
        self.config = (config or self.home / "config.properties").resolve()
        self.model_store = (model_store or self.home / "model_store").resolve()
        self.properties = read_properties(self.config)
        self.logs = self.home / "logs"
        self.key_file = self.home / "key_file.json"
        self.temp = temp_folder(self.home)
        self._session = requests.Session()
        # A proxy set for the outside world must not see, or break, what goes to loopback.
        self._session.trust_env = False

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "Server":
        """The server that `add_arguments`' options name."""
        return cls(arguments.home, arguments.config, arguments.model_store)

    def address(self, kind: Kind) -> str:
        """The base URL of an API."""
        fallback = f"http://127.0.0.1:{DEFAULT_ADDRESSES[kind]}"
        return self.properties.get(f"{kind}_address", fallback).rstrip("/")

    def ports(self) -> dict[str, tuple[str, int]]:
        """Every address the server listens on: name -> (host, port)."""
        found = {}
        for kind, fallback in DEFAULT_ADDRESSES.items():
            url = urlsplit(self.address(kind))
            found[f"{kind}_address"] = (url.hostname or "127.0.0.1", url.port or fallback)
        for kind, fallback in DEFAULT_GRPC.items():
            host = self.properties.get(f"grpc_{kind}_address", "127.0.0.1")
            found[f"grpc_{kind}_port"] = (host, int(self.properties.get(f"grpc_{kind}_port", fallback)))
        return found

    def frontend(self) -> psutil.Process | None:
        """The Java process of this home, when it runs."""
        return next(iter(processes.frontends(self.home)), None)

    def require_running(self) -> psutil.Process:
        """The Java process of this home, or an error that says how to start it."""
        frontend = self.frontend()
        if frontend is None:
            raise OpserveError(f"no TorchServe runs in {self.home}; `make start` starts it")
        return frontend

    def make_temp(self) -> Path:
        """Make the temporary folder, for this user alone."""
        try:
            self.temp.parent.mkdir(parents=True, exist_ok=True)
            self.temp.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError:  # and no folder; the next lines say so
            pass
        except OSError as error:
            raise OpserveError(f"cannot make the folder {self.temp}: {error.strerror}") from None
        state = self.temp.lstat()
        if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o077:
            raise OpserveError(f"{self.temp} exists and is not this user's private folder; remove it")
        return self.temp

    def remove_temp(self, keep: Collection[str] = ()) -> None:
        """Remove the temporary folder with the sockets, pid file and unpacked archives in it.

        Args:
            keep: names of files in it that stay, and the folder with them.
        """
        if not (self.temp.is_dir() and not self.temp.is_symlink() and self.temp.lstat().st_uid == os.getuid()):
            return
        if not keep:
            shutil.rmtree(self.temp, ignore_errors=True)
            return
        for path in self.temp.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in keep:
                path.unlink(missing_ok=True)

    def token(self, kind: Literal["inference", "management"]) -> str | None:
        """A token that is valid now, renewed when it has expired; None when authorization is off."""
        if self.properties.get("disable_token_authorization", "false").lower() == "true":
            return None
        key, expires = self._key(kind)
        if _is_over(expires):
            with self._renewing():
                # Another process may have renewed it meanwhile; a second time would make that one's worthless.
                key, expires = self._key(kind)
                if _is_over(expires):
                    self._renew(kind)
                    key, _ = self._key(kind)
        return key

    def _renew(self, kind: str) -> None:
        api_key, _ = self._key("API")
        answer = self._send(
            "GET", f"{self.address('management')}/token", token=api_key, params={"type": kind}, timeout=10
        )
        if answer.status_code != 200:
            raise OpserveError(f"TorchServe did not renew the {kind} token: {answer.text.strip()}")

    @contextlib.contextmanager
    def _renewing(self) -> Iterator[None]:
        """Let one process, and one thread of it, renew a token of this server at a time."""
        lock = os.open(self.make_temp() / "token.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _key(self, kind: str) -> tuple[str, datetime | None]:
        deadline = time.monotonic() + KEY_FILE_WITHIN_S
        while True:
            try:
                return self._read_key(kind)
            except json.JSONDecodeError as error:
                # TorchServe writes the file in place: for a moment it is empty.
                if time.monotonic() > deadline:
                    raise OpserveError(
                        f"{self.key_file} is not what TorchServe writes ({error}); `make stop start` writes one"
                    ) from None
                time.sleep(0.01)

    def _read_key(self, kind: str) -> tuple[str, datetime | None]:
        try:
            entry = json.loads(self.key_file.read_text())[kind]
            expires = entry.get("expiration time")
            return entry["key"], datetime.fromisoformat(expires) if expires else None
        except FileNotFoundError:
            fix = "`make stop start` writes a new one" if self.frontend() else "`make start` starts the server"
            raise OpserveError(f"{self.key_file} does not exist: TorchServe writes it when it starts; {fix}") from None
        except PermissionError:
            raise OpserveError(
                f"{self.key_file} is readable by the user who started the server only; run this as that user"
            ) from None
        except json.JSONDecodeError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise OpserveError(
                f"{self.key_file} is not what TorchServe writes ({error!r}); `make stop start` writes one"
            ) from None

    def _send(self, method: str, url: str, *, token: str | None, timeout: float, **options: Any) -> requests.Response:
        headers = dict(options.pop("headers", None) or {})
        if token is not None:
            headers.setdefault("Authorization", f"Bearer {token}")
        try:
            return self._session.request(
                method, url, headers=headers, timeout=(CONNECT_S, timeout), allow_redirects=False, **options
            )
        except requests.ConnectionError as error:
            raise OpserveError(
                f"no answer from {url} ({type(error).__name__}); `make status` and `make logs` show more"
            ) from None
        except requests.Timeout:
            raise OpserveError(f"no answer from {url} in {timeout:.0f} s; `make logs` shows what it does") from None

    def request(self, kind: Kind, method: str, path: str, timeout: float = 30.0, **options: Any) -> requests.Response:
        """Call an API of the server with the token it wants."""
        # /metrics is open to the management token too, which scripts have in any case.
        token = self.token("inference" if kind == "inference" else "management")
        return self._send(method, f"{self.address(kind)}{path}", token=token, timeout=timeout, **options)

    def models(self) -> list[str]:
        """The names of the served models."""
        names: list[str] = []
        page = "0"
        while page:
            answer = self.request("management", "GET", f"/models?limit=100&next_page_token={page}")
            if answer.status_code != 200:
                raise OpserveError(f"TorchServe did not list its models: {answer.text.strip()}")
            listing = answer.json()
            names += [entry["modelName"] for entry in listing.get("models", [])]
            page = listing.get("nextPageToken", "")
        return sorted(set(names))

    def describe(self, model: str, version: str = "") -> dict[str, Any] | None:
        """TorchServe's description of a model's version (its default one), or None when it serves no such."""
        answer = self.request("management", "GET", f"/models/{model}{'/' if version else ''}{version}")
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise OpserveError(f"TorchServe did not describe {model}: {answer.text.strip()}")
        return answer.json()[0]

    def versions(self, model: str) -> dict[str, dict[str, Any]]:
        """TorchServe's description of every version of a model; empty when it serves no such model."""
        answer = self.request("management", "GET", f"/models/{model}/all")
        if answer.status_code == 404:
            return {}
        if answer.status_code != 200:
            raise OpserveError(f"TorchServe did not describe {model}: {answer.text.strip()}")
        return {each["modelVersion"]: each for each in answer.json()}

    def require_model(self, model: str) -> dict[str, Any]:
        """The description of a model, or an error that lists the models that are served."""
        found = self.describe(model) if is_name(model) else None
        if found is None:
            raise OpserveError(f"no model {model!r} is served; there are: {', '.join(self.models()) or 'none'}")
        return found


def ready_workers(description: dict[str, Any]) -> int:
    """How many workers of a described model answer requests."""
    return sum(worker["status"] == "READY" for worker in description.get("workers", []))


def _is_over(expires: datetime | None) -> bool:
    return expires is not None and expires - datetime.now(UTC) < TOKEN_MARGIN


def reason(text: str) -> str:
    """What TorchServe says in the body of an answer that is no success."""
    try:
        return str(json.loads(text)["message"])
    except (ValueError, LookupError, TypeError):
        return text.strip()
