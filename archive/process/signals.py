"""Turns the signals that ask a process to end into an exception, so that `with`, `except` and `finally` clean up.

Standard library only. Python does this for SIGINT (KeyboardInterrupt) and for nothing else: on SIGTERM or SIGHUP it
ends at once, and whatever it has started or half written stays.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# Ctrl-C, `kill` and every service manager, a terminal that is closed, and Ctrl-\.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Terminated(KeyboardInterrupt):
    """A signal asked this process to end.

    A KeyboardInterrupt, because that is what cleaning up after Ctrl-C catches already, and no Exception.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell reports of a process that this signal ended."""
        return 128 + self.number


@contextlib.contextmanager
def raise_on_termination() -> Iterator[None]:
    """Raise Terminated in the main thread on the first of SIGINT, SIGTERM, SIGHUP and SIGQUIT.

    Later ones are passed over until the block is left: what cleans up after the first is not cut short by an impatient
    second. A signal that is ignored when the block begins (nohup, a shell's background job) stays ignored. Nested
    blocks, and blocks in other threads than the main one, change nothing.
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

    # Not SIG_IGN after the first: what is started to clean up would inherit that.
    before = {number: signal.getsignal(number) for number in ENDING}
    # None: set by something other than Python, and not to be restored by it.
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
    """Hold back Terminated until the end of this block: for the few steps that must be done whole or not at all.

    Outside of `raise_on_termination` it does nothing.
    """
    _deferring.append(True)
    try:
        yield
    finally:
        _deferring.pop()
        # Never in place of an error that is on its way already: that cleans up as well.
    if _deferred and not _deferring:
        raise Terminated(_deferred.pop())


_active: list[bool] = []
_deferring: list[bool] = []
_deferred: list[int] = []
