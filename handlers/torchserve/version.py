"""The versions of TorchServe whose private parts are known."""

# Their worker reads requests by `recv` of one socket, in one thread, through `ts.protocol.otf_message_handler`.
KNOWN_VERSIONS = ("0.12.0",)


def is_known(version: str | None) -> bool:
    """Whether private parts of TorchServe may be replaced; a worker of another version keeps its own."""
    return version in KNOWN_VERSIONS
