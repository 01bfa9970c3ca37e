"""One hostile or innocent request, how it is sent, and what may come back."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

JSON = "application/json"
NPZ = "application/x-npz"
# The largest body of an error, whatever the request contained.
MAX_ERROR_BYTES = 8 << 10
# The frontend's own answer to a form that it cannot take apart; no worker has seen such a request.
FORM_ERROR = b'"type": "ErrorDataDecoderException"'
# How long anybody waits for an answer.
TIMEOUT_S = 30.0


class Reply(NamedTuple):
    """An answer; `status` is 0 when the connection ended, or nothing came in time, and `body` then says why."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: it is not.
        """
        return json.loads(self.body)


# What is wrong with a reply, in words, or None.
Expect = Callable[[Reply], "str | None"]


def refused_or_answered(reply: Reply) -> str | None:
    """A 200 of valid JSON or bytes, or a 4xx that is well-formed and short: what any request may get."""
    if reply.status == 200:
        return _unreadable(reply)
    if 400 <= reply.status < 500:
        return _bad_error(reply)
    if reply.status == 500 and FORM_ERROR in reply.body:
        return None
    return f"status {reply.status}: {reply.body[:200]!r}"


def refused(reply: Reply) -> str | None:
    """A 4xx, well-formed and short."""
    return f"accepted: {reply.body[:200]!r}" if reply.status == 200 else refused_or_answered(reply)


def status_in(*statuses: int) -> Expect:
    """One of these statuses, whatever the body."""

    def expect(reply: Reply) -> str | None:
        return None if reply.status in statuses else f"status {reply.status}: {reply.body[:200]!r}"

    return expect


def exactly(value: Any, *, or_refused: bool = True) -> Expect:
    """Expects a 200 with this JSON value, or, by default, a 4xx."""

    def expect(reply: Reply) -> str | None:
        if reply.status != 200:
            return refused(reply) if or_refused else f"status {reply.status}: {reply.body[:200]!r}"
        try:
            got = reply.json()
        except ValueError:
            return f"no JSON: {reply.body[:200]!r}"
        # Not by ==: 1 == 1.0 == True.
        return None if json.dumps(got) == json.dumps(value) else f"answered {json.dumps(got)[:200]}"

    return expect


def _unreadable(reply: Reply) -> str | None:
    if reply.headers.get("content-type", "").startswith(JSON):
        try:
            json.loads(reply.body, parse_constant=_refuse_constant)
        except ValueError as error:
            return f"a 200 whose JSON is not valid: {error}"
    return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _bad_error(reply: Reply) -> str | None:
    if len(reply.body) > MAX_ERROR_BYTES:
        return f"an error of {len(reply.body)} bytes"
    try:
        document = reply.json()
    except ValueError:
        return f"status {reply.status} without JSON: {reply.body[:200]!r}"
    if document.keys() == {"code", "type", "message"}:  # TorchServe's own
        return None
    error = document.get("error")
    sound = isinstance(error, str) or (isinstance(error, dict) and error.get("code") == reply.status)
    return None if sound else f"status {reply.status} with {reply.body[:200]!r}"


@dataclass(frozen=True)
class Shot:
    """A request.

    Attributes:
        model: whose predictions are asked for.
        body: sent as it is.
        headers: its own; their values may hold any byte but line breaks.
        expect: what is wrong with an answer.
        path: instead of the model's predictions.
        note: what is special about it, for the report of a violation.
    """

    model: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": JSON})
    expect: Expect = refused_or_answered
    path: str = ""
    method: str = "POST"
    note: str = ""

    def describe(self) -> str:
        """For messages: one short line."""
        headers = {name: value if len(value) < 60 else f"{value[:50]}…" for name, value in self.headers.items()}
        return f"{self.note or self.path or self.model} ({len(self.body)} bytes {self.body[:60]!r}, {headers})"


class Connection:
    """A connection to the inference API that is kept as long as it works; for one thread."""

    def __init__(self, host: str, port: int, token: Callable[[], str | None]):
        self._host, self._port, self._token = host, port, token
        self._http: http.client.HTTPConnection | None = None

    def send(
        self, shot: Shot, timeout: float = TIMEOUT_S, sending: contextlib.AbstractContextManager | None = None
    ) -> Reply:
        """The answer to a request; never raises for what the other side does.

        Args:
            shot: the request.
            timeout: seconds to wait for the answer.
            sending: entered while the request is written.
        """
        begun = time.monotonic()
        reused = self._http is not None
        reply = self._send(shot, timeout, sending or contextlib.nullcontext())
        # A server may close a connection that was kept just when the next request is written.
        if reply.status == 0 and reused and reply.body != b"timed out":
            reply = self._send(shot, timeout, sending or contextlib.nullcontext())
        return reply._replace(seconds=time.monotonic() - begun)

    def _send(self, shot: Shot, timeout: float, sending: contextlib.AbstractContextManager) -> Reply:
        try:
            if self._http is None:
                self._http = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
                self._http.connect()
            self._http.sock.settimeout(timeout)
            self._http.putrequest(shot.method, shot.path or f"/predictions/{shot.model}", skip_accept_encoding=True)
            own = {name.lower() for name in shot.headers}
            token = self._token()
            if token and "authorization" not in own:
                self._http.putheader("Authorization", f"Bearer {token}")
            for name, value in shot.headers.items():
                self._http.putheader(name, value.encode("latin-1", "replace"))
            if "content-length" not in own and "transfer-encoding" not in own:
                self._http.putheader("Content-Length", str(len(shot.body)))
            with sending:
                self._http.endheaders(shot.body or None)
            response = self._http.getresponse()
            content = response.read()
            headers = {name.lower(): value for name, value in response.getheaders()}
            if response.will_close:
                self.close()
            return Reply(response.status, headers, content, 0.0)
        except TimeoutError:
            self.close()
            return Reply(0, {}, b"timed out", 0.0)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Reply(0, {}, f"{type(error).__name__}: {error}".encode(), 0.0)

    def close(self) -> None:
        """Ends it; the next request makes another."""
        if self._http is not None:
            self._http.close()
            self._http = None
