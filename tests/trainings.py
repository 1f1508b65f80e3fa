"""Trainings in tests: called in this process, and scripts that are started, stopped, killed, compared."""

import contextlib
import logging
import random
import signal
import subprocess
import time

import numpy as np
from conftest import script

from lib.data.records import load_images, open_records
from lib.models.keras_files import load_model


@contextlib.contextmanager
def messages():
    """The list of what `lib` logs and results in while the block runs."""
    said, handler = [], logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    loggers = [logging.getLogger(name) for name in ("lib", "results")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield said
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def images_of(*files):
    """The decoded images of record files."""
    return load_images(open_records(files, "train"))


def run(name, here, *arguments):
    """Run a script to its end in a folder."""
    return subprocess.run([*script(name), *arguments], capture_output=True, text=True, cwd=here)


def start(name, here, *arguments, environment=None):
    """Start a script in a folder."""
    return subprocess.Popen(
        [*script(name), *arguments],
        cwd=here,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for_state(here, process):
    """Wait until a training has finished an epoch, or ended."""
    before = {path: path.stat().st_mtime_ns for path in here.glob("*/training-state.npz")}
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if any(path.stat().st_mtime_ns != before.get(path) for path in here.glob("*/training-state.npz")):
            return
        time.sleep(0.01)


def results(here):
    """All that a run results in: the weights of its models, bit for bit, and its history."""
    found = {}
    for path in sorted(here.glob("*/*.keras")):
        found[str(path.relative_to(here))] = [weight.tobytes() for weight in load_model(path).get_weights()]
    (history,) = here.glob("*/training-history.npy")
    found["history"] = np.load(history, allow_pickle=True).item()
    return found


def check_that_kills_change_nothing(name, folder, arguments):
    """Check that a training that is killed at random moments, and once told to stop, ends with the bits of an
    undisturbed one.
    """
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    delays = random.Random(seed)
    for place in ("undisturbed", "killed"):
        (folder / place).mkdir()
    done = run(name, folder / "undisturbed", *arguments)
    assert done.returncode == 0, done.stderr
    kills = 0
    for _ in range(2):
        process = start(name, folder / "killed", *arguments)
        wait_for_state(folder / "killed", process)
        time.sleep(delays.uniform(0, 0.5))
        kills += process.poll() is None
        process.kill()
        process.communicate()
    process = start(name, folder / "killed", *arguments)  # told to stop, also within an epoch, it resumes there
    wait_for_state(folder / "killed", process)
    time.sleep(delays.uniform(0, 0.2))
    process.terminate()
    process.communicate()
    done = run(name, folder / "killed", *arguments)
    assert done.returncode == 0, done.stderr
    assert kills, "no run was killed: the test shows nothing"
    assert results(folder / "killed") == results(folder / "undisturbed")
    assert not list(folder.glob("killed/*/*.tmp")), "a draft was left"


def assert_same(one, other):
    """Check that two runs are the same but for rounding."""
    ours, theirs = results(one), results(other)
    assert set(ours) == set(theirs)
    for name, values in ours.pop("history").items():
        np.testing.assert_allclose(theirs["history"][name], values, rtol=1e-4, atol=1e-6, err_msg=name)
    for name, weights in ours.items():
        for weight, expected in zip(theirs[name], weights):
            np.testing.assert_allclose(np.frombuffer(weight, "float32"), np.frombuffer(expected, "float32"), atol=1e-4)
