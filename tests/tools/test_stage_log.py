"""Time and memory of a command."""

import os
import signal
import subprocess
import sys
import time

from conftest import ROOT


def logged(folder, *command, **options):
    """Start a command through the log."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    words = [sys.executable, "-m", "tools.stage_log", "log.tsv", *command]
    return subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, **options)


def rows(folder):
    """The log's lines but for the header."""
    return [line.split("\t") for line in (folder / "log.tsv").read_text().splitlines()[1:]]


def test_time_memory_and_status_are_those_of_the_command(tmp_path):
    program = "import time; data = bytearray(2**28); time.sleep(0.3); print('done'); raise SystemExit(7)"
    process = logged(tmp_path, sys.executable, "-c", program)
    assert process.communicate()[0] == "done\n" and process.returncode == 7
    ((_, seconds, peak, status, command),) = rows(tmp_path)
    assert float(seconds) >= 0.3 and 256 < int(peak) < 400 and status == "7"
    assert command.startswith(sys.executable) and "bytearray" in command


def test_a_second_line_has_no_second_header(tmp_path):
    for text in ("a\tb", "c\nd"):
        assert logged(tmp_path, "echo", text).wait() == 0
    assert [row[4] for row in rows(tmp_path)] == ["echo 'a\\tb'", "echo 'c\\nd'"]


def test_a_signal_reaches_the_command_and_its_end_is_told(tmp_path):
    for number in (signal.SIGTERM, signal.SIGUSR1):
        process = logged(tmp_path, "bash", "-c", ": > ready; exec sleep 60")
        while not (tmp_path / "ready").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait() == 128 + number
        (tmp_path / "ready").unlink()
    assert [row[3] for row in rows(tmp_path)] == ["143", "138"]


def test_a_signal_that_comes_before_the_command_is_not_lost(tmp_path):
    program = """
import os, signal, subprocess
from tools import stage_log
start = subprocess.Popen
def start_late(command):
    os.kill(os.getpid(), signal.SIGTERM)
    return start(command)
subprocess.Popen = start_late
raise SystemExit(stage_log.run_logged(stage_log.Settings("log.tsv", ["sleep", "60"])))
"""
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment).returncode == 143


def test_ctrl_c_ends_the_command_and_is_logged(tmp_path):
    process = logged(tmp_path, "bash", "-c", ": > ready; exec sleep 60", start_new_session=True)
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(10) == 130
    assert [row[3] for row in rows(tmp_path)] == ["130"]


def test_a_command_that_is_not_there_is_one_sentence(tmp_path):
    process = logged(tmp_path, "./no-such", stderr=subprocess.PIPE)
    _, said = process.communicate()
    assert process.returncode == 1 and said == "stage_log.py: ./no-such: No such file or directory.\n"


def test_no_command_is_one_line(tmp_path):
    process = logged(tmp_path, stderr=subprocess.PIPE)
    _, said = process.communicate()
    assert process.returncode == 2 and said == "stage_log.py: COMMAND: name a program to run.\n"
    assert not (tmp_path / "log.tsv").exists()
