"""trainImagesC.py and trainImagesC4096.py as their users call them: killed, told to stop, on several devices."""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest
import trainings
from conftest import ROOT, run_here
from toys import SIZE, write_model, write_records
from trainings import assert_same, wait_for_state

import trainImagesC
import trainImagesC4096
from lib.training.classifier import Settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models and records; runs go into folders of their own."""
    folder = tmp_path_factory.mktemp("files")
    write_model(folder / "model.keras")
    write_model(folder / "noisy.keras", noise=0.1)
    write_records(folder / "train.tfr", 400, 1)
    write_records(folder / "validation.tfr", 90, 2)
    return folder


def options(folder, *more, model="model.keras"):
    return [
        *("-c", "-a", "3", "-b", "8", "-i", str(SIZE), "-m", str(folder / model), "-l", "0.01"),
        *("-t", str(folder / "train.tfr"), "-v", str(folder / "validation.tfr"), "-o", ".", *more),
    ]


def run(here, *arguments, name="trainImagesC.py"):
    return trainings.run(name, here, *arguments)


def start(here, *arguments, environment=None):
    return trainings.start("trainImagesC.py", here, *arguments, environment=environment)


OTHERS = (signal.SIGTERM, signal.SIGHUP)  # the latter of a terminal that is closed


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bits(folder, tmp_path):
    arguments = options(folder, "-e", "12", "-Q", "--deterministic", model="noisy.keras")
    trainings.check_that_kills_change_nothing("trainImagesC.py", tmp_path, arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), *(pytest.param(number, 128 + number, marks=pytest.mark.once) for number in OTHERS)],
)
def test_told_to_stop_it_saves_first_and_goes_on_within_the_epoch(folder, tmp_path, number, status):
    arguments = options(folder, "-e", "2000")
    process = start(tmp_path, *arguments)
    wait_for_state(tmp_path, process)
    for _ in range(2 if number == signal.SIGHUP else 1):  # which comes from the terminal and from its shell
        process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, out) == (status, "")
    stopped = re.search(r"Stopped after (\d+) epochs and (\d+) steps; the same command resumes there.\n", err)
    process = start(tmp_path, *arguments)
    wait_for_state(tmp_path, process)
    process.kill()
    within = f" and {stopped.group(2)} steps" if stopped.group(2) != "0" else ""
    assert f"Resuming after {stopped.group(1)} of at most 2000 epochs{within}.\n" in process.communicate()[1]


@pytest.mark.once
@pytest.mark.slow
def test_two_at_once_are_refused(folder, tmp_path):
    process = start(tmp_path, *options(folder, "-e", "2000"))
    wait_for_state(tmp_path, process)
    done = run(tmp_path, *options(folder, "-e", "2000"))
    process.kill()
    process.communicate()
    assert done.returncode == 2 and "in use: another process is at the same run" in done.stderr


def test_the_output_and_the_chains_way_to_find_it(folder, tmp_path):
    (tmp_path / "DIR").mkdir()
    arguments = [*options(folder, "-e", "2", "-Q"), "-o", "DIR"]
    done = run_here("trainImagesC.py", tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    line = 'ls -ltr DIR/*/best-model.keras | awk -F"/" "{print \\$2}" | tail -1'
    newest = subprocess.run(line, shell=True, capture_output=True, text=True, cwd=tmp_path).stdout.strip()
    assert done.stdout == f"DIR/{newest}/best-model.keras\n"
    assert re.fullmatch("[0-9a-f]{32}-best", newest)
    names = sorted(os.listdir(tmp_path / "DIR" / newest.replace("-best", "-intermediate")))
    assert names == ["epoch-0001.keras", "epoch-0002.keras", "epochs.tsv"]
    lines = done.stderr.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("Epoch")] == ["Epoch 1 of 2", "Epoch 2 of 2"]
    again = run_here("trainImagesC.py", tmp_path, *arguments)
    assert (again.returncode, again.stdout) == (0, done.stdout) and "already complete" in again.stderr


def test_the_other_door_is_more_patient():
    assert (Settings.patience, trainImagesC4096.PATIENCE) == (256, 4096)
    assert trainImagesC4096.main is trainImagesC.main


@pytest.mark.parametrize(("name", "patience"), [("trainImagesC.py", "256"), ("trainImagesC4096.py", "4096")])
def test_help_is_that_of_the_script(name, patience):
    told = run(".", "--help", name=name).stdout
    assert f"./{name} -a 17" in told and re.search(rf"{patience} epochs in a row", told.replace("\n", " "))


def test_help_tells_the_ranges_that_the_options_take():
    for action in trainImagesC.options()._actions:
        if set(action.option_strings) & {"-A", "-B", "-F", "-G", "-T", "-d", "-k", "-l", "-u"}:
            with pytest.raises(argparse.ArgumentTypeError) as wrong:
                action.type("nan")
            assert str(wrong.value).split("a number ")[1] in action.help, action.dest


@pytest.mark.once
@pytest.mark.slow
def test_the_other_door_trains(folder, tmp_path):
    done = run(tmp_path, *options(folder, "-e", "1"), name="trainImagesC4096.py")
    assert done.returncode == 0, done.stderr
    (settings,) = tmp_path.glob("*/training-settings.json")
    recorded = json.loads(settings.read_text())
    assert recorded["settings"]["patience"] == 4096 and recorded["command"][0].endswith("trainImagesC4096.py")


@pytest.mark.slow
def test_two_devices_train_as_one_does(folder, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    arguments = options(folder, "-e", "2", "-f", "bel+clr+aw")
    assert run(tmp_path / "one", *arguments).returncode == 0
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "tests" / "workers.py"),
            "2",
            "trainImagesC",
            *arguments,
            "--steps-per-execution",
            "7",
        ],
        cwd=tmp_path / "two",
        capture_output=True,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "one", tmp_path / "two")


def cluster(here, *arguments):
    """Start two workers that compute together over this machine's network."""
    places = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            places.append(f"localhost:{free.getsockname()[1]}")
    workers = []
    for index in range(2):
        task = {"cluster": {"worker": places}, "task": {"type": "worker", "index": index}}
        environment = dict(os.environ, TF_CONFIG=json.dumps(task))
        workers.append(start(here, *arguments, environment=environment))
    return workers


@pytest.mark.slow
@pytest.mark.once
def test_two_processes_train_as_one_does(folder, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    arguments = options(folder, "-e", "2", "-f", "ce+clr+sgd")
    assert run(tmp_path / "one", *arguments).returncode == 0
    chief, other = cluster(tmp_path / "two", *arguments)
    out, err = chief.communicate(timeout=120)
    assert chief.returncode == 0, err
    assert re.fullmatch(r"\./[0-9a-f]{32}-best/best-model.keras\n", out)
    assert other.communicate(timeout=60) == ("", "") and other.returncode == 0
    assert_same(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.once
def test_a_worker_that_dies_ends_the_others_and_the_same_command_goes_on(folder, tmp_path):
    arguments = options(folder, "-e", "2000")
    for victim in (0, 1):
        workers = cluster(tmp_path, *arguments)
        wait_for_state(tmp_path, workers[0])
        workers[victim].kill()
        out, err = workers[1 - victim].communicate(timeout=60)
        assert workers[1 - victim].returncode == 1
        assert "One of the 2 workers is gone" in err.splitlines()[-1] and "Traceback" not in err, err
        workers[victim].communicate()
    chief, other = cluster(tmp_path, *arguments)
    wait_for_state(tmp_path, chief)
    other.terminate()  # one is told to stop: all stop, and save
    out, err = chief.communicate(timeout=60)
    assert (chief.returncode, out) == (1, "")
    assert "Resuming after" in err and "Stopped after" in err and "Another worker was stopped" in err
    other.communicate()
    assert other.returncode == 143


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["-a", "1"], ["-a/--array"]),
        (["-b", "0"], ["-b/--batch"]),
        (["-d", "1"], ["-d/--decay", "between 0 and 1"]),
        (["-l", "0"], ["-l/--learning", "between 0 and 1"]),
        (["-B", "1.0"], ["-B/--beta"]),
        (["-G", "4"], ["-G/--gamma", "between 0 and 4"]),
        (["-T", "10.5"], ["-T/--Tau", "from 0 to 10"]),
        (["-u", "-0.1"], ["-u/--tau", "from 0 to 1"]),
        (["-k", "0"], ["-k/--kappa", "above 0"]),
        (["-A", "0"], ["-A/--alpha", "above 0"]),
        (["-F", "nan"], ["-F/--focal", "above 0"]),
        (["-f", "ce+clr"], ["-f/--function", "LOSS+clr+OPTIMIZER"]),
        (["-f", "ce+clr+adam"], ["-f/--function", "a, aw, sgd"]),
        (["-C", "[1,2]"], ["-C/--ccm", "[1.0,1.0,1.0]"]),
        (["-w", "{0:1"], ["-w/--weight", "{0:1.0,1:2.5}"]),
        (["-w", "{0:1,1:1}"], ["-w/--weight", "lacks the class 2"]),
        (["-y", "{0:-1}"], ["-y/--ycount", "neither 0 nor from 1e-30"]),
        (["-g", "0,0"], ["-g/--gpu", "twice"]),
        (["-t", "nothing.tfr"], ["-t/--train", "nothing.tfr"]),
        (["-o", "nowhere/runs"], ["-o/--output", "nowhere/runs"]),
        (["-o", "runs", "-b", "5000"], ["-b/--batch", "more than the 400 records"]),
        (["--name", "two\nlines"], ["--name", "not a text of one line"]),
        (["--augment", "large"], ["--augment", "KEY=NUMBER", "published, small"]),
        (["--augment", "small,blur=2"], ["--augment", "'blur' the value 2.0, not a number from 0 to 1"]),
        (["--keep", "0"], ["--keep"]),
        (["--keep", "2"], ["--keep", "-Q/--quantity"]),
    ],
)
def test_a_wrong_call_is_one_line_and_leaves_nothing(folder, tmp_path, wrong, words):
    done = run_here("trainImagesC.py", tmp_path, *options(folder, "-e", "1"), *wrong)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr[:500]
    assert all(word in done.stderr for word in words), done.stderr
    assert not list(tmp_path.iterdir())


def test_records_for_validation_may_be_given_one_by_one(folder):
    once = trainImagesC.options().parse_args(options(folder, "-v", str(folder / "train.tfr")))
    assert [os.path.basename(path) for path in once.validate] == ["validation.tfr", "train.tfr"]
