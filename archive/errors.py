"""The errors that are one line for a person: what is wrong, and what to do about it."""


class OpserveError(Exception):
    """Something the person who typed the command can mend; the message says what and how."""


class ArchiveError(OpserveError):
    """An archive cannot be made, or cannot be trusted; the message is the one line a person needs."""
