"""Functions called in processes of their own: what comes back, and how they end."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from lib.apart import call_apart
from lib.errors import DivergenceError, WorkError


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
            file.write("told to stop")


def test_what_is_sent_and_returned():
    seen = []
    assert call_apart(double, ([1, 2, 3],), seen.append) != os.getpid()
    assert seen == [2, 4, 6]


def test_errors_keep_their_kind():
    with pytest.raises(DivergenceError, match="no number"):
        call_apart(diverge, (), print)
    with pytest.raises(WorkError, match="died at its work, with status -9"):
        call_apart(die, (), print)


def test_it_is_killed_when_its_messages_are_not_wanted(tmp_path):
    def refuse(process):
        found.append(process)
        raise KeyError(process)

    found = []
    with pytest.raises(KeyError):
        call_apart(wait, (str(tmp_path / "stopped"),), refuse)
    assert not (tmp_path / "stopped").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(found[0], 0)


@pytest.mark.parametrize(("number", "told"), [(signal.SIGKILL, False), (signal.SIGTERM, True)])
def test_it_ends_with_the_process_that_called_it(tmp_path, number, told):
    code = (
        "import signal; from lib import cli; from lib.apart import call_apart; from test_apart import wait\n"
        "signal.signal(signal.SIGTERM, cli.interrupt)\n"
        f"call_apart(wait, ({str(tmp_path / 'stopped')!r},), lambda process: print(process, flush=True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(os.environ, PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}"),
        text=True,
    )
    child = int(process.stdout.readline())
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
    assert (tmp_path / "stopped").exists() == told
