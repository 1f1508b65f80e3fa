"""Work on several cores, its results in order, with bounded memory."""

import collections
import concurrent.futures
import contextlib
import importlib
import itertools
import multiprocessing
import os
import signal
import threading

from lib.errors import WorkError, option
from lib.system.processes import deferred_signals, follow_parent

# Images in each call of a model on a CPU, where several such calls run side by side: with more, caches overflow.
STEP = 32

_importing = threading.Lock()


def cores(processors=None):
    """The number of cores that this process may use, at most `processors`; None for no limit."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(processors or usable, usable)


def reading_threads(processors=None):
    """The number of threads to read images with on `processors` cores; None for all."""
    threads = cores(processors)
    return threads + 2 if threads == cores() else threads  # some always wait for Python's lock


def imported(name):
    """Import a module that is seldom needed, in one thread after the other."""
    with _importing:
        return importlib.import_module(name)


def in_order(work, items, threads, ahead, stopped=None, processes=False):
    """Call `work` with each item on several threads, or in several processes.

    With threads, all that the work imports has to be imported before, or by `imported`: threads that import modules at
    once can deadlock.
    When the caller stops, by an error or an interruption, no further work begins.

    Args:
        work: called with one item; releases Python's lock for most of its time. For processes: a function of a module,
            perhaps a `functools.partial` of one.
        items: its arguments.
        threads: the number of threads or processes.
        ahead: the number of items that may be in work, or done and not yet yielded.
        stopped: a `threading.Event` that is set at the end, which long work can check.
        processes: use processes, for work that holds Python's lock; they end with this one, whatever ends it.

    Yields:
        Pairs of an item and its result, in the order of the items. What `work` raises is raised here.

    Raises:
        WorkError: a process was killed.
    """
    waiting = iter(items)
    running = collections.deque()
    if processes:  # not forked, since a fork copies only one of this process's threads
        executor = concurrent.futures.ProcessPoolExecutor(threads, multiprocessing.get_context("spawn"), follow_parent)
    else:
        executor = concurrent.futures.ThreadPoolExecutor(threads)
    with executor as pool:

        def start():
            for item in itertools.islice(waiting, ahead - len(running)):
                with _without_interrupts() if processes else contextlib.nullcontext():
                    running.append((item, pool.submit(work, item)))

        try:
            start()
            while running:
                item, future = running.popleft()
                result = future.result()
                start()
                yield item, result
        except concurrent.futures.BrokenExecutor as error:
            cure = f"fewer {option('processors')} need less"
            raise WorkError(f"a worker process was killed, perhaps for lack of memory; {cure}.") from error
        finally:
            if stopped is not None:
                stopped.set()
            for _, future in running:
                future.cancel()


@contextlib.contextmanager
def _without_interrupts():
    """Start processes that Ctrl-C on the terminal doesn't reach, since this one ends them; here it acts afterwards."""
    # The mask is for them, who inherit it; here another thread, which has none, would take the signal.
    former = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        with deferred_signals():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
