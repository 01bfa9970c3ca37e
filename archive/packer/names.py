"""Names of models and of their versions."""

import re

# TorchServe does not enforce its archiver's rule. With a slash, a question mark or a line break a name would be another
# path or another call of its API, or another folder.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
MAX_LENGTH = 200


def is_name(text: str) -> bool:
    """Whether a model or a version may have this name."""
    return len(text) <= MAX_LENGTH and _NAME.fullmatch(text) is not None
