"""Where a server keeps what it needs while it runs; by the standard library only."""

import contextlib
import hashlib
import os
import pwd
from pathlib import Path

# A Unix socket's path has 107 bytes, and TorchServe's sockets lie in this folder itself.
SOCKET_PATH_BYTES, LONGEST_SOCKET = 107, len("/.ts.sock.65535")
FOLDER = ".opserve-run"


def find_temp_folder(home: Path) -> Path:
    """The folder for a server's pid file, sockets and unpacked archives: the same for whoever asks, in any shell.

    Not below /tmp or /run/user: the one is cleaned of what is ten days old, the other when its user logs out, and
    TorchServe needs the unpacked archives for as long as it runs. One a home, because servers share no sockets. In the
    home, or, where its path is too long for a socket, in the user's state folder (~/.local/state/opserve); in
    /var/tmp for a user who has no home either.
    """
    found = home / FOLDER
    if _fits(found):
        return found
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:10]
    # Not $HOME or $XDG_STATE_HOME, which may differ in the shell that stops the server.
    with contextlib.suppress(KeyError):
        base = Path(pwd.getpwuid(os.getuid()).pw_dir)
        found = base / ".local" / "state" / "opserve" / digest
        if base.is_dir() and _fits(found):
            return found
    return Path("/var/tmp") / f"opserve-{os.getuid()}-{digest}"


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder)) + LONGEST_SOCKET <= SOCKET_PATH_BYTES
