"""The ways things go wrong: a request that is at fault, a model that cannot be served, a device that is lost."""

from __future__ import annotations

from http import HTTPStatus

# Characters that an answer quotes at most, whatever a request held.
MAX_MESSAGE = 1000
MAX_FIELD = 128

_LEFT_OUT = " … "


class RequestError(Exception):
    """One request is at fault; its sender gets `status` and a JSON body, every other request is untouched.

    What it says may quote its request: it is bounded and made printable here, so nobody else has to.

    Args:
        message: the cause and, where there is one, the fix, in one sentence; its middle is left out beyond MAX_MESSAGE
            characters.
        field: the input (or part) the message is about; `None` when it is the request as a whole, or when the name is
            longer than MAX_FIELD characters.
        status: an HTTP status in 400..599; anything else becomes 500.

    Attributes:
        open_inference: whether the request at fault is known to be one of the Open Inference Protocol, whose errors
            are texts.
    """

    open_inference = False

    def __init__(self, message: str, *, field: str | None = None, status: int = HTTPStatus.BAD_REQUEST):
        message = printable(message, MAX_MESSAGE)
        super().__init__(message)
        self.message = message
        self.field = None if field is None or len(field := text_of(field)) > MAX_FIELD else printable(field, MAX_FIELD)
        self.status = int(status) if isinstance(status, int) and 400 <= status <= 599 else 500

    def as_dict(self) -> dict:
        """The body of the answer: `{"error": {"code", "field", "message"}}`."""
        return {"error": {"code": self.status, "field": self.field, "message": self.message}}


class ModelError(RuntimeError):
    """The archive cannot be served: its configuration, a library or the artifact is at fault.

    A `RuntimeError`, because TorchServe's loader reports that one to its frontend.
    """


class DeviceError(RuntimeError):
    """The GPU this process runs on has failed; nothing more can run in this process. Raised by engines only."""


class OutOfMemoryError(MemoryError):
    """A model could not have the memory it needs, of the processor or of a GPU; the process is sound all the same."""


def text_of(value: object) -> str:
    """`str(value)`, also of what cannot say what it is."""
    if type(value) is str:
        return value
    try:
        return "".join(str(value))
    except Exception:
        return type(value).__name__


def printable(value: object, limit: int) -> str:
    """A text of at most `limit` characters, all of them printable: others are escaped, the middle is left out.

    A line break, a terminal's escape sequence or half of a surrogate pair that a client sent thus reaches neither a
    log nor an answer as such.
    """
    text = _shortened(text_of(value), limit)
    if text.isprintable():
        return text
    escaped = (char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
    return _shortened("".join(escaped), limit)


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    end = limit // 3
    return text[: limit - end - len(_LEFT_OUT)] + _LEFT_OUT + text[-end:]


def lines_of(error: BaseException) -> list[str]:
    """What an exception says, line by line; the name of its type where it says nothing."""
    return text_of(error).strip().splitlines() or [type(error).__name__]


def forget(error: BaseException) -> None:
    """Cuts an exception, and those it was raised from, off the frames they passed through.

    A traceback holds every local variable on its way, whole requests among them, and often itself through one of them:
    such a cycle lives until the garbage collector happens to come by.
    """
    pending: list[BaseException | None] = [error]
    while pending:
        each = pending.pop()
        if each is not None and (each.__traceback__ or each.__cause__ or each.__context__):
            pending += (each.__cause__, each.__context__)
            each.__traceback__ = each.__cause__ = each.__context__ = None
