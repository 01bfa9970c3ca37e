"""The one way in which a command fails: a line with the cause and the fix, and a non-zero exit status."""

import sys
from collections.abc import Callable

from archive.errors import OpserveError
from archive.process.signals import Terminated, raise_on_termination


def run(main: Callable[[], int]) -> None:
    """Runs a command's `main`, turning an OpserveError into `error: …` on stderr and exit status 1.

    A signal that asks the command to end is an exception inside `main`, which cleans up.
    """
    try:
        with raise_on_termination():
            code = main()
    except OpserveError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except BrokenPipeError:  # `make status | head`
        sys.stderr.close()
        code = 141
    except OSError as error:
        # For a file that is missing or read-only, or a full disk, the name and the reason are all there is to say.
        if error.strerror is None:
            raise
        name = "" if error.filename is None else f"{error.filename}: "
        print(f"error: {name}{error.strerror}", file=sys.stderr)
        code = 1
    except Terminated as ended:
        code = ended.exit_code
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
