"""fractals.py as its users call it."""

import hashlib
import os
import random
import signal
import subprocess
import time

import numpy as np
import pytest
from conftest import script
from journals import entries_in
from PIL import Image

import fractals
from lib.data.fractals import Settings, make_fractals

# Of `-n 12 -s 32 --views 2 -r 1`, whatever the Python, numpy and number of cores.
TRAIN = "d683dbf49cfdee5329f55b8294837dfe3a3adada1f1028e38197b15012ec1321"
TEST = "0cec4e46fb5ef07fc76d3cb9810db54f63fbe8fad211824d26c466ee9b0d7a4b"
FILES = {"f-train.tfr", "f-test.tfr", "f-settings.json"}


def run(here, *arguments):
    command = [*script("fractals.py"), "-o", "f", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=here)


def files(here):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in here.iterdir()}


def records(here):
    return [(here / f"f-{name}.tfr").read_bytes() for name in ("train", "test")]


def test_records_are_what_is_pinned_on_any_number_of_cores_and_a_second_run_changes_nothing(tmp_path):
    for processors in ("1", "2"):
        here = tmp_path / processors
        here.mkdir()
        done = run(here, "-n", "12", "-s", "32", "--views", "2", "-r", "1", "-p", processors)
        assert (done.returncode, done.stdout) == (0, "f-train.tfr\t24\nf-test.tfr\t12\n"), done.stderr
        assert [hashlib.sha256(content).hexdigest() for content in records(here)] == [TRAIN, TEST]
    before = files(here)
    assert set(before) == FILES
    done = run(here, "-n", "12", "-s", "32", "--views", "2", "-r", "1")
    assert done.returncode == 0 and "there is nothing to do" in done.stderr
    assert files(here) == before


def start(here, *arguments, at_once=False):
    """Start a run; returns when something is in its journal, or, if `at_once`, when it has begun to start processes."""
    process = subprocess.Popen(
        [*script("fractals.py"), "-o", "f", "-p", "2", *arguments],
        cwd=here,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    path = here / "f-partial.sqlite"
    before = entries_in(path)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if at_once and len(children(process)) > 1:
            return process
        if entries_in(path) > before:
            return process
        time.sleep(0.01)
    raise AssertionError(f"the run ended too early: {process.communicate()[1]}")


def children(process):
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        return [int(number) for number in file.read().split()]


def is_running(number):
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.once
def test_a_run_that_is_killed_and_stopped_ends_with_the_same_bytes_and_leaves_no_process(tmp_path):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    draw = random.Random(seed)
    here = tmp_path / "killed"
    here.mkdir()
    sizes = ("-n", "300", "-s", "16", "-r", "3")
    started = []
    process = start(here, *sizes)
    started.extend(children(process))
    time.sleep(draw.uniform(0, 0.3))
    process.kill()
    process.communicate()
    process = start(here, *sizes)
    started.extend(children(process))
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C on a terminal, which all processes get
    error = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 130 and error[-1] == "fractals.py: stopped by Ctrl-C.", error
    assert len(error) == 2 and "of 600 pictures have already been drawn" in error[0], error
    process = start(here, *sizes)
    started.extend(children(process))
    os.kill(max(children(process)), signal.SIGKILL)  # as the kernel does when memory runs out
    error = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 1 and "was killed" in error[-1] and "-p/--processors" in error[-1], error
    deadline = time.monotonic() + 20
    while any(map(is_running, started)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert started and not any(map(is_running, started))
    done = run(here, *sizes)
    assert done.returncode == 0 and "already been drawn" in done.stderr, done.stderr
    assert set(files(here)) == FILES
    make_fractals(Settings(str(tmp_path / "f"), 300, 16, seed=3, processors=1))
    assert records(here) == records(tmp_path)


def test_ctrl_c_while_the_processes_start_is_one_line(tmp_path):
    process = start(tmp_path, "-n", "300", "-s", "16", at_once=True)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "fractals.py: stopped by Ctrl-C.\n"
    assert process.returncode == 130


@pytest.mark.slow
def test_two_runs_at_once_are_refused(tmp_path):
    process = start(tmp_path, "-n", "1000000", "-s", "16")
    try:
        done = run(tmp_path, "-n", "1000000", "-s", "16")
        assert done.returncode == 2 and "f-train.tfr is being written by another process" in done.stderr
        assert done.stderr.count("\n") == 1
    finally:
        process.terminate()
        assert process.communicate(timeout=60)[1].splitlines()[-1] == "fractals.py: stopped by SIGTERM."
    assert process.returncode == 143


def test_a_full_disk_is_one_sentence_and_the_run_resumes_later(tmp_path):
    command = " ".join(script("fractals.py")) + " -o f -n 80 -s 16 -p 1"
    done = subprocess.run(["sh", "-c", f"ulimit -f 120; {command}"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "f-train.tfr can't be written" in done.stderr and "again to resume" in done.stderr
    done = run(tmp_path, "-n", "80", "-s", "16", "-p", "1")
    assert done.returncode == 0 and "have already been drawn" in done.stderr
    (tmp_path / "other").mkdir()
    make_fractals(Settings(str(tmp_path / "other" / "f"), 80, 16, processors=1))
    assert records(tmp_path) == records(tmp_path / "other")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["-n", "1"], ["-n/--categories", "from 2 to 1000000"]),
        (["-n", "1000001"], ["-n/--categories"]),
        (["-s", "15"], ["-s/--size", "from 16 to 1024"]),
        (["-s", "1025"], ["-s/--size"]),
        (["--views", "0"], ["--views", "from 1 to 1000"]),
        (["--views", "1001"], ["--views"]),
        (["-q", "0"], ["-q/--quality"]),
        (["-r", "-1"], ["-r/--random"]),
        (["-p", "0"], ["-p/--processors"]),
        (["-o", "nowhere/f"], ["-o/--output", "nowhere"]),
        (["--sheet", "sheet.gif"], ["--sheet", ".png or .jpg"]),
        (["--sheet", "nowhere/sheet.png"], ["--sheet", "nowhere"]),
    ],
)
def test_a_wrong_call_is_one_line_and_leaves_nothing(wrong, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        fractals.main(["-o", "f", *wrong])
    said = capsys.readouterr()
    assert (ended.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert all(word in said.err for word in words), said.err
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way_is_one_line(tmp_path):
    (tmp_path / "f-test.tfr").write_text("somebody's")
    done = run(tmp_path, "-n", "2", "-s", "16")
    assert done.returncode == 2 and done.stderr.startswith("fractals.py: -o/--output: f-test.tfr exists, but was not")
    assert done.stderr.count("\n") == 1 and os.listdir(tmp_path) == ["f-test.tfr"]


def test_names_that_are_not_utf_8_reach_stdout_as_they_are(tmp_path):
    environment = dict(os.environ, PYTHONIOENCODING="utf-8:strict")
    command = [*script("fractals.py"), "-n", "2", "-s", "16", "-p", "1", "-o", b"\xff\n"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"\xff\n-train.tfr\t2\n") and (tmp_path / os.fsdecode(b"\xff\n-test.tfr")).exists()


def test_a_contact_sheet_has_a_picture_for_each_category(tmp_path):
    done = run(tmp_path, "-n", "10", "-s", "32", "--sheet", "sheet.png", "-p", "1")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        pixels = np.asarray(sheet.convert("L"))
    assert pixels.shape == (2 * (96 + 24 + 4) + 4, 8 * (96 + 4) + 4)
    black = (pixels < 32).reshape(-1).mean()
    assert 0.2 < black * pixels.size / (10 * 96 * 96) < 1  # the pictures' ground
