"""Turns the signals that ask a process to end into an exception, so that `with`, `except` and `finally` clean up.

Standard library only. Python does this for SIGINT (KeyboardInterrupt) only: on SIGTERM or SIGHUP it ends at once, and
whatever it has started or half written stays.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# Ctrl-C, `kill` and every service manager, a terminal that is closed, Ctrl-\.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Terminated(KeyboardInterrupt):
    """A signal asked this process to end.

    A KeyboardInterrupt, which code that cleans up after Ctrl-C catches already, and not an Exception.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """The status that a shell reports for a process that this signal ended."""
        return 128 + self.number


@contextlib.contextmanager
def raise_on_termination() -> Iterator[None]:
    """Raises Terminated in the main thread on the first of SIGINT, SIGTERM, SIGHUP and SIGQUIT.

    Later ones are ignored until the end of the block, so that an impatient second signal does not interrupt the cleanup
    after the first. A signal that is ignored when the block begins (nohup, a shell's background job) stays ignored.
    Nested blocks, and blocks in other threads than the main one, have no effect.
    """
    if threading.current_thread() is not threading.main_thread() or _active:
        yield
        return
    heard = False

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal heard
        if heard:
            return
        heard = True
        if _deferring:
            _deferred.append(number)
        else:
            raise Terminated(number)

    # Not SIG_IGN after the first: processes that are started to clean up would inherit it.
    before = {number: signal.getsignal(number) for number in ENDING}
    # None: set by something other than Python, which cannot restore it.
    ours = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    _active.append(True)
    try:
        for number in ours:
            signal.signal(number, handle)
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
        _active.pop()
        _deferred.clear()


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Holds back Terminated until the end of this block: for the few steps that must be done whole or not at all.

    Outside of `raise_on_termination` it has no effect.
    """
    _deferring.append(True)
    try:
        yield
    finally:
        _deferring.pop()
        # Never in place of an error that is already propagating: that cleans up as well.
    if _deferred and not _deferring:
        raise Terminated(_deferred.pop())


_active: list[bool] = []
_deferring: list[bool] = []
_deferred: list[int] = []
