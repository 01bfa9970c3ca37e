"""The errors of opserve, one tree: a request at fault, a model that cannot be served, a GPU that was lost.

Commands that report an outdated Python import this module too, so it runs on Python 3.6.
"""

import logging
from http import HTTPStatus

logger = logging.getLogger(__name__)

# The most characters of each that a response quotes, whatever the request contains.
MAX_MESSAGE = 1000
MAX_FIELD = 128
# And of an exception that a log line quotes.
MAX_LOGGED = 2000

_ELLIPSIS = " … "


class OpserveError(Exception):
    """An error that somebody can fix; its message is the one line that says what is wrong and how to fix it."""


class RequestError(OpserveError):
    """An error in one request: its sender gets `status` and a JSON body, and no other request is affected.

    Messages may quote the request: they are bounded and made printable here, so that callers need not.

    Args:
        message: the cause and, where there is one, the fix, in one sentence; the middle is left out beyond MAX_MESSAGE
            characters.
        field: the input (or part) the message is about; `None` if it is the request as a whole, or if the name is
            longer than MAX_FIELD characters.
        status: an HTTP status in 400..599; anything else becomes 500.

    Attributes:
        open_inference: whether the request is known to use the Open Inference Protocol, whose errors are texts.
    """

    open_inference = False

    def __init__(self, message: str, *, field: "str | None" = None, status: int = HTTPStatus.BAD_REQUEST) -> None:
        self.message = printable(message, MAX_MESSAGE)
        super().__init__(self.message)
        name = None if field is None else safe_str(field)
        self.field = None if name is None or len(name) > MAX_FIELD else printable(name, MAX_FIELD)
        self.status = int(status) if isinstance(status, int) and 400 <= status <= 599 else 500

    def as_dict(self) -> "dict[str, dict[str, object]]":
        """The body of the response: `{"error": {"code", "field", "message"}}`."""
        return {"error": {"code": self.status, "field": self.field, "message": self.message}}


class ModelError(OpserveError, RuntimeError):
    """The archive cannot be served: its configuration, a library or the artifact is at fault.

    A `RuntimeError`, because TorchServe's loader reports that one to its frontend.
    """


class DeviceError(OpserveError, RuntimeError):
    """The GPU of this process has failed, and nothing more can run here. Raised by engines only."""


class OutOfMemoryError(OpserveError, MemoryError):
    """A model could not get the memory it needs, on the processor or a GPU; the process itself is sound."""


def safe_str(value: object) -> str:
    """`str(value)`; the name of the type if that raises."""
    if type(value) is str:
        return value
    try:
        return "".join(str(value))
    except Exception:
        return type(value).__name__


def printable(value: object, limit: int) -> str:
    """A text of at most `limit` characters, all printable: others are escaped, and the middle is left out.

    A line break, a terminal's escape sequence or half of a surrogate pair that a client sent thus gets into neither a
    log nor a response.
    """
    text = shortened(safe_str(value), limit)
    return text if text.isprintable() else shortened("".join(map(escaped, text)), limit)


def escaped(char: str) -> str:
    """The character itself if it is printable, else its escape sequence in Python."""
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")


def shortened(text: str, limit: int) -> str:
    """A text of at most `limit` characters, whose middle is left out."""
    if len(text) <= limit:
        return text
    end = limit // 3
    return text[: limit - end - len(_ELLIPSIS)] + _ELLIPSIS + text[-end:]


def error_lines(error: BaseException) -> "list[str]":
    """The message of an exception, line by line; the name of its type if it has none."""
    return safe_str(error).strip().splitlines() or [type(error).__name__]


def last_line(error: BaseException) -> str:
    """The last line of an exception's message, bounded and printable: in a chain of reasons, the most precise one."""
    return printable(error_lines(error)[-1], MAX_LOGGED)


def release_frames(error: BaseException) -> None:
    """Removes the tracebacks of an exception and of those it was raised from.

    A traceback refers to every local variable on its way, whole requests among them, and often through one of them to
    itself: such a cycle lives until the next garbage collection.
    """
    pending = [error]
    while pending:
        each = pending.pop()
        pending += [other for other in (each.__cause__, each.__context__) if other is not None]
        each.__traceback__ = each.__cause__ = each.__context__ = None


def as_request_error(error: BaseException, step: str) -> RequestError:
    """The error that a request's sender gets for an exception: their own in full, ours in one line (the log has more).

    Whatever was raised for one request is answered to it, including the `sys.exit()` of a hook or a library's panic.
    The exception loses its frames, and with them the request.

    Raises:
        KeyboardInterrupt: the exception is one; an interrupt is for the process.
    """
    if isinstance(error, KeyboardInterrupt):
        raise error
    try:
        return _as_request_error(error, step)
    except Exception:  # caused by what a hook did to its own error
        return RequestError(f"{step} failed", status=HTTPStatus.INTERNAL_SERVER_ERROR)
    finally:
        release_frames(error)


def _as_request_error(error: BaseException, step: str) -> RequestError:
    if type(error) is RequestError:
        return error
    if isinstance(error, RequestError):  # a hook's subclass, with whatever it refers to
        return RequestError(
            getattr(error, "message", error_lines(error)[0]),
            field=getattr(error, "field", None),
            status=getattr(error, "status", HTTPStatus.INTERNAL_SERVER_ERROR),
        )
    if isinstance(error, ModelError):
        logger.error("%s failed: %s", step, printable(error, MAX_LOGGED))
        return RequestError(safe_str(error), status=HTTPStatus.INTERNAL_SERVER_ERROR)
    # PyTorch's error is matched by name: a worker of ONNX Runtime does not import it.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        logger.error("%s ran out of memory: %s", step, last_line(error))
        return RequestError(f"{step} ran out of memory", status=HTTPStatus.INSUFFICIENT_STORAGE)
    logger.error("%s failed", step, exc_info=error)
    return RequestError(f"{step} failed: {last_line(error)}", status=HTTPStatus.INTERNAL_SERVER_ERROR)
