"""The tokens in the key file that TorchServe writes; one that has expired is renewed."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from archive.errors import OpserveError

# A token must outlive the request that carries it.
MARGIN = timedelta(seconds=10)
# TorchServe writes the file in place: for a moment it is empty.
READABLE_WITHIN_S = 2.0


class KeyFile:
    """TorchServe's `key_file.json`; `renew(kind, api_key)` asks TorchServe for a new token."""

    def __init__(self, path: Path, renew: Callable[[str, str], None]) -> None:
        self.path, self.renew = path, renew

    def valid_token(self, kind: str) -> str:
        """Returns a token ("inference" or "management") that is valid now, renewed if it has expired."""
        token, expires = self.read(kind)
        if _has_expired(expires):
            with self._locked():
                # Another process may have renewed it meanwhile; renewing it again would invalidate that token.
                token, expires = self.read(kind)
                if _has_expired(expires):
                    self.renew(kind, self.read("API")[0])
                    token, _ = self.read(kind)
        return token

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Lets one process, and one of its threads, renew a token at a time."""
        file = os.open(self.path, os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)

    def read(self, kind: str) -> tuple[str, datetime | None]:
        """Returns the token of a kind, and when it expires."""
        deadline = time.monotonic() + READABLE_WITHIN_S
        while True:
            try:
                entry = json.loads(self.path.read_text())[kind]
                expires = entry.get("expiration time")
                return entry["key"], datetime.fromisoformat(expires) if expires else None
            except FileNotFoundError:
                raise OpserveError(
                    f"{self.path} does not exist; TorchServe writes it when it starts (`make stop start`)"
                ) from None
            except PermissionError:
                raise OpserveError(
                    f"only the user who started the server can read {self.path}; run this as that user"
                ) from None
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                if not isinstance(error, json.JSONDecodeError) or time.monotonic() > deadline:
                    raise OpserveError(
                        f"{self.path} is not what TorchServe writes ({error!r}); `make stop start` writes a new one"
                    ) from None
                time.sleep(0.01)


def _has_expired(expires: datetime | None) -> bool:
    return expires is not None and expires - datetime.now(UTC) < MARGIN
