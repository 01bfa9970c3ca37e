"""A hostile or innocent request, how it is sent, and which responses it may receive."""

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
# The longest body of an error, whatever the request contains.
MAX_ERROR_BYTES = 8 << 10
# The frontend's own response to a form that it cannot parse, which no worker sees.
FORM_ERROR = b'"type": "ErrorDataDecoderException"'
# How long a response is waited for.
TIMEOUT_S = 30.0


class Response(NamedTuple):
    """A response; without one, `status` is 0 and `body` contains the reason."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        """Parses the body as JSON.

        Raises:
            ValueError: It is not JSON.
        """
        return json.loads(self.body)


# Describes what is wrong with a response; None if it is right.
Expect = Callable[[Response], "str | None"]


def refused_or_answered(response: Response) -> str | None:
    """Accepts a 200 with valid JSON or bytes, or a 4xx that is well-formed and short."""
    if response.status == 200:
        return _unreadable(response)
    if 400 <= response.status < 500:
        return _bad_error(response)
    if response.status == 500 and FORM_ERROR in response.body:
        return None
    return f"status {response.status}: {response.body[:200]!r}"


def refused(response: Response) -> str | None:
    """Accepts a 4xx that is well-formed and short."""
    return f"accepted: {response.body[:200]!r}" if response.status == 200 else refused_or_answered(response)


def status_in(*statuses: int) -> Expect:
    """Accepts these statuses with any body."""

    def expect(response: Response) -> str | None:
        return None if response.status in statuses else f"status {response.status}: {response.body[:200]!r}"

    return expect


def exactly(value: Any, *, or_refused: bool = True) -> Expect:
    """Accepts a 200 with this JSON value, or else a 4xx if `or_refused`."""

    def expect(response: Response) -> str | None:
        if response.status != 200:
            return refused(response) if or_refused else f"status {response.status}: {response.body[:200]!r}"
        try:
            got = response.json()
        except ValueError:
            return f"not JSON: {response.body[:200]!r}"
        # As text, because 1 == 1.0 == True.
        return None if json.dumps(got) == json.dumps(value) else f"answered {json.dumps(got)[:200]}"

    return expect


def _unreadable(response: Response) -> str | None:
    if response.headers.get("content-type", "").startswith(JSON):
        try:
            json.loads(response.body, parse_constant=_refuse_constant)
        except ValueError as error:
            return f"a 200 whose JSON is not valid: {error}"
    return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _bad_error(response: Response) -> str | None:
    if len(response.body) > MAX_ERROR_BYTES:
        return f"an error of {len(response.body)} bytes"
    try:
        document = response.json()
    except ValueError:
        return f"status {response.status} without JSON: {response.body[:200]!r}"
    if document.keys() == {"code", "type", "message"}:  # TorchServe's own
        return None
    error = document.get("error")
    sound = isinstance(error, str) or (isinstance(error, dict) and error.get("code") == response.status)
    return None if sound else f"status {response.status} with {response.body[:200]!r}"


@dataclass(frozen=True)
class Request:
    """A request.

    Attributes:
        model: The model.
        body: The body.
        headers: The headers; their values may contain any byte but line breaks.
        expect: Judges the response.
        path: The path, if not that of the model's predictions.
        method: The method.
        note: What is special about it, for the report.
    """

    model: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": JSON})
    expect: Expect = refused_or_answered
    path: str = ""
    method: str = "POST"
    note: str = ""

    def describe(self) -> str:
        """Describes the request in one short line."""
        headers = {name: value if len(value) < 60 else f"{value[:50]}…" for name, value in self.headers.items()}
        return f"{self.note or self.path or self.model} ({len(self.body)} bytes {self.body[:60]!r}, {headers})"


class Connection:
    """A connection to the inference API for one thread, which is kept as long as it works."""

    def __init__(self, host: str, port: int, token: Callable[[], str | None]):
        self._host, self._port, self._token = host, port, token
        self._http: http.client.HTTPConnection | None = None

    def send(
        self, request: Request, timeout: float = TIMEOUT_S, sending: contextlib.AbstractContextManager | None = None
    ) -> Response:
        """Sends a request and returns the response; never raises for what the server does.

        Args:
            request: The request.
            timeout: Seconds to wait for the response.
            sending: A context that is entered while the request is written.
        """
        begun = time.monotonic()
        reused = self._http is not None
        response = self._send(request, timeout, sending or contextlib.nullcontext())
        # A server may close a kept connection just when the next request is written.
        if response.status == 0 and reused and response.body != b"timed out":
            response = self._send(request, timeout, sending or contextlib.nullcontext())
        return response._replace(seconds=time.monotonic() - begun)

    def _send(self, request: Request, timeout: float, sending: contextlib.AbstractContextManager) -> Response:
        try:
            if self._http is None:
                self._http = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
                self._http.connect()
            self._http.sock.settimeout(timeout)
            self._http.putrequest(
                request.method, request.path or f"/predictions/{request.model}", skip_accept_encoding=True
            )
            own = {name.lower() for name in request.headers}
            token = self._token()
            if token and "authorization" not in own:
                self._http.putheader("Authorization", f"Bearer {token}")
            for name, value in request.headers.items():
                self._http.putheader(name, value.encode("latin-1", "replace"))
            if "content-length" not in own and "transfer-encoding" not in own:
                self._http.putheader("Content-Length", str(len(request.body)))
            with sending:
                self._http.endheaders(request.body or None)
            response = self._http.getresponse()
            content = response.read()
            headers = {name.lower(): value for name, value in response.getheaders()}
            if response.will_close:
                self.close()
            return Response(response.status, headers, content, 0.0)
        except TimeoutError:
            self.close()
            return Response(0, {}, b"timed out", 0.0)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Response(0, {}, f"{type(error).__name__}: {error}".encode(), 0.0)

    def close(self) -> None:
        """Closes the connection; the next request makes another."""
        if self._http is not None:
            self._http.close()
            self._http = None
