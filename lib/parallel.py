"""Work on several cores, its results in order, with bounded memory."""

import collections
import concurrent.futures
import os

# How many images a model is given at once on a CPU, several such steps side by side: with more, caches overflow.
STEP = 32


def cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def reading_threads(processors=None):
    """How many threads to read images with on so many cores; None for all."""
    threads = min(processors or cores(), cores())
    return threads + 2 if threads == cores() else threads  # since some always wait for Python's lock


def in_order(work, items, threads, ahead, stopped=None):
    """Call `work` with each item on several threads.

    All that the work imports has to be imported before: threads that import modules at once can wait for each other
    for ever. When the caller stops, by an error or an interruption, what has not been started never is.

    Args:
        work: called with one item; releases Python's lock for most of its time.
        items: what to call it with.
        threads: how many.
        ahead: how many items may be in work, or done and not yet taken.
        stopped: a `threading.Event` that is set at the end, for work that takes long to look at.

    Yields:
        Pairs of an item and its result, in the order of the items. What `work` raises is raised here.
    """
    waiting = iter(items)
    running = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:

        def start():
            while len(running) < ahead:
                for item in waiting:
                    running.append((item, pool.submit(work, item)))
                    break
                else:
                    return

        try:
            start()
            while running:
                item, future = running.popleft()
                result = future.result()
                start()
                yield item, result
        finally:
            if stopped is not None:
                stopped.set()
            for _, future in running:
                future.cancel()
