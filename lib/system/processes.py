"""Signals that are deferred, and functions called in processes of their own."""

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from logging.handlers import QueueHandler

from lib.errors import WorkError

_SENT, _LOGGED, _RETURNED, _RAISED = range(4)


class Interrupted(BaseException):
    """A signal asks the process to stop. Not an `Exception`, so that no handler of errors catches it."""


@contextlib.contextmanager
def deferred_signals():
    """Defer Ctrl-C, SIGTERM and SIGHUP to the end of the block; a second signal acts at once, but for SIGHUP.

    A terminal that is closed sends SIGHUP, and so does its shell.

    Yields:
        A list, empty until the first signal, whose number is then in it.
    """
    received, former = [], {}

    def note(number, frame):
        received.append(number)
        restore(signal.SIGINT, signal.SIGTERM)

    def restore(*numbers):
        for number in former.keys() & numbers:
            signal.signal(number, former[number])

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Signals arrive in the main thread only.
        if threading.current_thread() is threading.main_thread() and signal.getsignal(number) is not signal.SIG_IGN:
            former[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        restore(*former)
    if received:
        signal.raise_signal(received[0])


def interrupt(number, frame):
    """A signal's handler: raise `Interrupted` with its number."""
    raise Interrupted(number)


def call_in_child(function, arguments, receive):
    """Call a function in a new process. What `lib` logs there is logged here.

    An interruption of this process interrupts the other one and waits for it; a second one kills it.

    Args:
        function: one defined in a module; called with the arguments and a function that sends a value to this process.
        arguments: a tuple.
        receive: called here with each value sent. If it raises, the other process is killed.

    Returns:
        What the function returns.

    Raises:
        WorkError: the process died.
        And whatever the function or `receive` raises.
    """
    context = multiprocessing.get_context("spawn")  # since a fork of a process with TensorFlow in it may hang
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        while True:
            kind, value = ours.recv()
            if kind == _RETURNED:
                return value
            if kind == _RAISED:
                raise value
            if kind == _LOGGED:
                logging.getLogger(value.name).handle(value)
            else:
                receive(value)
    except EOFError:
        process.join()
        raise WorkError(f"A worker process died with status {process.exitcode}; is there enough memory?") from None
    except BaseException as error:
        stop = process.kill if isinstance(error, Exception) else process.terminate
        stop()  # has no effect if it has ended
        try:
            process.join()
        except BaseException:
            process.kill()
            raise
        raise
    finally:
        process.join()
        ours.close()


def _work(pipe, function, arguments):
    # A terminal sends Ctrl-C to the whole group: it would arrive here twice, and the second one stops at once.
    os.setpgid(0, 0)
    follow_parent()
    signal.signal(signal.SIGTERM, interrupt)
    handler = QueueHandler(None)
    handler.enqueue = lambda record: pipe.send((_LOGGED, record))  # to the calling process, which shows it
    logger = logging.getLogger("lib")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        value = function(*arguments, lambda value: pipe.send((_SENT, value)))
    except (KeyboardInterrupt, Interrupted):
        return
    except Exception as error:
        pipe.send((_RAISED, error))
    else:
        pipe.send((_RETURNED, value))


def follow_parent():
    """Let this process die with its parent, even if that is killed."""

    def follow():
        multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=follow, daemon=True).start()
