"""Where a server keeps its files while it runs. Standard library only."""

import contextlib
import hashlib
import os
import pwd
from pathlib import Path

# A Unix socket's path has at most 107 bytes, and TorchServe puts its sockets directly into this folder.
SOCKET_PATH_BYTES, LONGEST_SOCKET = 107, len("/.ts.sock.65535")
FOLDER = ".opserve-run"


def find_temp_folder(home: Path) -> Path:
    """Returns the folder for a server's pid file, sockets and unpacked archives: the same in every shell.

    It is not below /tmp or /run/user, because TorchServe needs the unpacked archives for as long as it runs: the former
    is cleaned of files that are ten days old, the latter when its user logs out. It is in the home; if that path is too
    long for a socket, in the user's state folder (~/.local/state/opserve); in /var/tmp for a user without a home.
    """
    found = home / FOLDER
    if _fits(found):
        return found
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:10]
    # Not $HOME or $XDG_STATE_HOME, which may be different in the shell that stops the server.
    with contextlib.suppress(KeyError):
        base = Path(pwd.getpwuid(os.getuid()).pw_dir)
        found = base / ".local" / "state" / "opserve" / digest
        if base.is_dir() and _fits(found):
            return found
    return Path("/var/tmp") / f"opserve-{os.getuid()}-{digest}"


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder)) + LONGEST_SOCKET <= SOCKET_PATH_BYTES
