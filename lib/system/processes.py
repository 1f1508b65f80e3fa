"""Calling a function in a process of its own, whose memory goes with it and which ends when this one does."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading

from lib.errors import WorkError
from lib.system.signals import Interrupted, interrupt

_SENT, _RETURNED, _RAISED = range(3)


def call_in_child(function, arguments, receive):
    """Call a function in a new process.

    Args:
        function: one that a module defines, called there with the arguments and a function that sends something here.
        arguments: a tuple.
        receive: called here with whatever is sent. When it raises the other process is killed; when this one is
            interrupted it is told to stop, and waited for; when this one is interrupted again it is killed.

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
    try:
        value = function(*arguments, lambda value: pipe.send((_SENT, value)))
    except (KeyboardInterrupt, Interrupted):
        return  # as it was told
    except Exception as error:
        pipe.send((_RAISED, error))
    else:
        pipe.send((_RETURNED, value))


def follow_parent():
    """Have this process die with the one that started it, which may be killed; nobody waits for a result then."""

    def follow():
        multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=follow, daemon=True).start()
