"""The two ways things go wrong: a request that is at fault, and a model that cannot be served."""

from http import HTTPStatus


class RequestError(Exception):
    """One request is at fault; its sender gets `status` and a JSON body, every other request is untouched.

    Args:
        message: the cause and, where there is one, the fix, in one sentence.
        field: the input (or part) the message is about; `None` when it is the request as a whole.
        status: an HTTP status in 400..599.
    """

    def __init__(self, message: str, *, field: str | None = None, status: int = HTTPStatus.BAD_REQUEST):
        super().__init__(message)
        self.message = message
        self.field = field
        self.status = int(status)

    def as_dict(self) -> dict:
        """The body of the answer: `{"error": {"code", "field", "message"}}`."""
        return {"error": {"code": self.status, "field": self.field, "message": self.message}}


class ModelError(RuntimeError):
    """The archive cannot be served: its configuration, a library or the artifact is at fault.

    A `RuntimeError`, because TorchServe's loader reports that one to its frontend.
    """


def lines_of(error: Exception) -> list[str]:
    """What an exception says, line by line; the name of its type where it says nothing."""
    return str(error).strip().splitlines() or [type(error).__name__]
