"""The errors of commands: one line that says what is wrong, and what to do about it."""

from handlers.errors import OpserveError

__all__ = ["ArchiveError", "OpserveError"]


class ArchiveError(OpserveError):
    """An archive cannot be made, or cannot be trusted."""
