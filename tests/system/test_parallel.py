"""Work on several cores: in order, bounded, and ended by an error."""

import os
import threading

import pytest

from lib.system.parallel import cores, in_order, reading_threads


def test_no_more_cores_than_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 5})
    assert [cores(), cores(2), cores(20)] == [3, 2, 3]
    assert [reading_threads(), reading_threads(2), reading_threads(3)] == [5, 2, 5]


@pytest.mark.parametrize("processes", [False, True])
def test_results_come_in_the_order_of_the_items(processes):
    found = list(in_order(abs, range(-40, 0), 2, 4, processes=processes))
    assert found == [(item, -item) for item in range(-40, 0)]


def test_no_more_is_begun_than_may_wait_and_nothing_after_an_error():
    begun, stopped = [], threading.Event()

    def work(item):
        begun.append(item)
        if item == 20:
            raise ValueError("twenty")
        return item

    results = in_order(work, range(1000), 2, 4, stopped)
    assert next(results) == (0, 0) and len(begun) <= 5
    with pytest.raises(ValueError, match="twenty"):
        list(results)
    assert stopped.is_set() and max(begun) <= 24
