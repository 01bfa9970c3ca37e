"""The one way a script gives up: a line with the cause and the fix, and a non-zero exit."""

import sys
from collections.abc import Callable


class OpserveError(Exception):
    """Something the person who typed the command can mend; the message says what and how."""


def run(main: Callable[[], int]) -> None:
    """Run a script's `main`, turning an OpserveError into `error: …` on stderr and exit code 1."""
    try:
        code = main()
    except OpserveError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # `make status | head`
        sys.stderr.close()
        code = 141
    sys.exit(code)
