"""One TorchServe: its home folder, its addresses, and calls of its APIs.

TorchServe writes into the folder it runs in (key_file.json, logs/) and into its temporary folder (pid file, sockets of
the workers, unpacked archives). Servers with different homes have different temporary folders, and nothing in common.
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
from pathlib import Path
from typing import Any, Literal

import psutil
import requests

from archive.errors import OpserveError
from archive.packer.names import is_name
from archive.repository import ROOT
from scripts.torchserve import processes
from scripts.torchserve.configuration import base_url, parse_addresses, read_properties
from scripts.torchserve.temp_folder import find_temp_folder
from scripts.torchserve.tokens import KeyFile

Kind = Literal["inference", "management", "metrics"]
CONNECT_S = 5.0
POLL_S = 0.1


class Server:
    """The TorchServe of one home folder, running or not."""

    def __init__(self, home: Path = ROOT, config: Path | None = None, model_store: Path | None = None) -> None:
        self.home = home.resolve()
        self.config = (config or self.home / "config.properties").resolve()
        self.model_store = (model_store or self.home / "model_store").resolve()
        self.properties = read_properties(self.config)
        self.logs = self.home / "logs"
        self.key_file = self.home / "key_file.json"
        self.temp = find_temp_folder(self.home)
        self._session = requests.Session()
        # Requests to loopback must neither reach nor depend on a proxy for the outside world.
        self._session.trust_env = False

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "Server":
        """Makes the server that the options of `add_server_arguments` name."""
        return cls(arguments.home, arguments.config, arguments.model_store)

    def address(self, kind: Kind) -> str:
        """Returns the base URL of an API."""
        return base_url(self.properties, kind)

    def ports(self) -> dict[str, tuple[str, int]]:
        """Returns every address the server listens on: property -> (host, port)."""
        return parse_addresses(self.properties)

    def frontend(self) -> psutil.Process | None:
        """Returns the Java process of this home, or None when it does not run."""
        return next(iter(processes.frontends(self.home)), None)

    def require_running(self) -> psutil.Process:
        """Returns the Java process of this home, which must be running."""
        frontend = self.frontend()
        if frontend is None:
            raise OpserveError(f"no TorchServe runs in {self.home}; `make start` starts it")
        return frontend

    def make_temp(self) -> Path:
        """Makes the temporary folder, readable by this user only."""
        try:
            self.temp.parent.mkdir(parents=True, exist_ok=True)
            self.temp.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError:  # but not a folder: refused below
            pass
        except OSError as error:
            raise OpserveError(f"cannot make the folder {self.temp}: {error.strerror}") from None
        state = self.temp.lstat()
        if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o077:
            raise OpserveError(f"{self.temp} exists and is not this user's private folder; remove it")
        return self.temp

    def remove_temp(self, keep: Collection[str] = ()) -> None:
        """Removes the temporary folder and everything in it; files named in `keep` stay, and the folder with them."""
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
        """Returns a token that is valid now, renewed if it has expired; None when authorization is off."""
        if self.properties.get("disable_token_authorization", "false").lower() == "true":
            return None
        return KeyFile(self.key_file, self._renew_token).valid_token(kind)

    def _renew_token(self, kind: str, api_key: str) -> None:
        url = f"{self.address('management')}/token"
        response = self._send("GET", url, token=api_key, params={"type": kind}, timeout=10)
        if response.status_code != 200:
            raise OpserveError(f"TorchServe did not renew the {kind} token: {response.text.strip()}")

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
        """Calls an API of the server with the token it requires; the options are those of `requests`."""
        # /metrics takes the management token too.
        token = self.token("inference" if kind == "inference" else "management")
        return self._send(method, f"{self.address(kind)}{path}", token=token, timeout=timeout, **options)

    def _get(self, path: str, failure: str, *, optional: bool = True) -> Any:
        """Returns what the management API answers in JSON, or None for an optional thing that it does not find."""
        response = self.request("management", "GET", path)
        if response.status_code == 404 and optional:
            return None
        if response.status_code != 200:
            raise OpserveError(f"TorchServe did not {failure}: {response.text.strip()}")
        return response.json()

    def models(self) -> list[str]:
        """Returns the names of the served models."""
        names: set[str] = set()
        page = "0"
        while page:
            listing = self._get(f"/models?limit=100&next_page_token={page}", "list its models", optional=False)
            names.update(entry["modelName"] for entry in listing.get("models", []))
            page = listing.get("nextPageToken", "")
        return sorted(names)

    def describe(self, model: str, version: str = "") -> dict[str, Any] | None:
        """Returns TorchServe's description of a version (the default one if empty), or None if it is not served."""
        found = self._get(f"/models/{model}{'/' if version else ''}{version}", f"describe {model}")
        return found and found[0]

    def versions(self, model: str) -> dict[str, dict[str, Any]]:
        """Returns TorchServe's description of every version of a model; empty when the model is not served."""
        return {each["modelVersion"]: each for each in self._get(f"/models/{model}/all", f"describe {model}") or []}

    def require_model(self, model: str) -> dict[str, Any]:
        """Returns the description of a model, which must be served."""
        found = self.describe(model) if is_name(model) else None
        if found is None:
            raise OpserveError(f"no model {model!r} is served; there are: {', '.join(self.models()) or 'none'}")
        return found


@contextlib.contextmanager
def server_lock(server: Server, wait_s: float = 0) -> Iterator[None]:
    """Keeps other starts, stops and deploys of a home out, after waiting for one for at most `wait_s` seconds."""
    try:
        folder = os.open(server.home, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise OpserveError(f"cannot open the folder {server.home}: {error.strerror}") from None
    try:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise OpserveError(
                        f"another start, stop or deploy of {server.home} is running; try again when it is done"
                    ) from None
                time.sleep(POLL_S)
        yield
    finally:
        os.close(folder)


def error_message(text: str) -> str:
    """Returns the message in the body of a response of TorchServe that reports an error."""
    try:
        return str(json.loads(text)["message"])
    except (ValueError, LookupError, TypeError):
        return text.strip()
