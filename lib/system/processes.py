"""Processes: signals that are waited out, and functions called in processes of their own."""

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


def call_in_child(function, arguments, receive):
    """Call a function in a new process.

    Args:
        function: one that a module defines, called there with the arguments and a function that sends something here.
        arguments: a tuple.
        receive: called here with whatever is sent. When it raises the other process is killed; when this one is
            interrupted it is told to stop, and waited for; when this one is interrupted again it is killed.

    What `lib` logs there is logged here.

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
    except Exception:
        process.kill()  # to no effect on one that is done
        raise
    except BaseException:
        process.terminate()
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
    """What the new process does."""
    # A terminal sends Ctrl-C to the whole group: it would come here twice, and the second time mean to stop at once.
    os.setpgid(0, 0)
    follow_parent()
    signal.signal(signal.SIGTERM, interrupt)
    _log_to(pipe)
    try:
        value = function(*arguments, lambda value: pipe.send((_SENT, value)))
    except (KeyboardInterrupt, Interrupted):
        return  # as it was told
    except Exception as error:
        pipe.send((_RAISED, error))
    else:
        pipe.send((_RETURNED, value))


def _log_to(pipe):
    """Hand what `lib` logs here to the process that called, which knows where messages go."""
    handler = QueueHandler(None)
    handler.enqueue = lambda record: pipe.send((_LOGGED, record))
    logger = logging.getLogger("lib")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)


def follow_parent():
    """Have this process die with the one that started it, which may be killed; nobody waits for a result then."""

    def follow():
        multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=follow, daemon=True).start()
