"""Stopping between two steps rather than in the middle of one."""

import contextlib
import signal
import threading


class Interrupted(BaseException):
    """The process was told to stop by a signal. No `Exception`, so that nothing that mends errors catches it."""


class Waiting:
    """Whether the process was told to stop, and how."""

    def __init__(self):
        self.number = None

    def __bool__(self):
        return self.number is not None


@contextlib.contextmanager
def postponed():
    """While the block runs, only note the first Ctrl-C or SIGTERM; it acts when the block ends. A second acts at once.

    Yields:
        A `Waiting`, true from the first signal on.
    """
    waiting = Waiting()
    if threading.current_thread() is not threading.main_thread():  # where signals don't arrive
        yield waiting
        return
    former = {}

    def note(number, frame):
        restore()
        waiting.number = number

    def restore():
        for number, handler in former.items():
            signal.signal(number, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            former[number] = signal.signal(number, note)
    try:
        yield waiting
    finally:
        restore()
    if waiting:
        signal.raise_signal(waiting.number)


def interrupt(number, frame):
    """A signal's handler: raise `Interrupted`."""
    raise Interrupted
