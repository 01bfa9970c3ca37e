"""How the packer and the verifier give up."""


class ArchiveError(Exception):
    """An archive cannot be made, or cannot be trusted; the message is the one line a person needs."""
