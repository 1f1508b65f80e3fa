"""Functions called in processes of their own: what comes back, and how they end."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from lib.errors import DivergenceError, WorkError
from lib.system.processes import call_in_child, deferred_signals


def double(numbers, send):
    for number in numbers:
        send(2 * number)
    return os.getpid()


def diverge(send):
    raise DivergenceError("no number")


def die(send):
    os.kill(os.getpid(), signal.SIGKILL)


def wait(path, send):
    try:
        send(os.getpid())
        time.sleep(60)
    finally:
        with open(path, "w") as file:
            file.write("interrupted")


def stop_well(path, send):
    with deferred_signals() as received:
        send(os.getpid())
        while not received:
            time.sleep(0.01)
        time.sleep(0.5)
        with open(path, "w") as file:
            file.write("stopped well")


def test_what_is_sent_and_returned():
    seen = []
    assert call_in_child(double, ([1, 2, 3],), seen.append) != os.getpid()
    assert seen == [2, 4, 6]


def test_errors_keep_their_kind():
    with pytest.raises(DivergenceError, match="no number"):
        call_in_child(diverge, (), print)
    with pytest.raises(WorkError, match="worker process died with status -9"):
        call_in_child(die, (), print)


def test_it_is_killed_when_its_messages_are_not_wanted(tmp_path):
    def refuse(process):
        found.append(process)
        raise KeyError(process)

    found = []
    with pytest.raises(KeyError):
        call_in_child(wait, (str(tmp_path / "stopped"),), refuse)
    assert not (tmp_path / "stopped").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(found[0], 0)


def start(function, path):
    """Start a process, in a group of its own, that calls a function apart; returns it and the other one's number."""
    code = (
        "import signal; from lib.system.processes import interrupt; from lib.system.processes import call_in_child\n"
        f"from tests.system.test_processes import {function}\n"
        "signal.signal(signal.SIGTERM, interrupt)\n"
        f"call_in_child({function}, ({str(path)!r},), lambda process: print(process, flush=True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(os.environ, PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}"),
        text=True,
        start_new_session=True,
        # What a shell runs in the background ignores Ctrl-C, and so do its children: this would wait for ever.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    return process, int(process.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_comes_once(tmp_path, number):
    process, _ = start("stop_well", tmp_path / "stopped")
    os.killpg(process.pid, number)
    process.wait()
    assert (tmp_path / "stopped").read_text() == "stopped well"


def test_a_second_signal_does_not_wait(tmp_path):
    process, child = start("stop_well", tmp_path / "stopped")
    os.kill(child, signal.SIGSTOP)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    assert process.wait(5)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@pytest.mark.parametrize(("number", "asked"), [(signal.SIGKILL, False), (signal.SIGTERM, True)])
def test_it_ends_with_the_process_that_called_it(tmp_path, number, asked):
    process, child = start("wait", tmp_path / "stopped")
    process.send_signal(number)
    process.wait()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the process lives on")
    assert (tmp_path / "stopped").exists() == asked
