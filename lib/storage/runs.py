"""A run's directory: its place, its layout, and who may write there.

A run is one training, distillation or soup. Its directory follows from its settings and from the content of its inputs,
so that the same command finds it again.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from typing import NamedTuple

from lib.errors import UsageError
from lib.storage.files import open_locked, whole_file
from lib.storage.untrusted import json_text

_LOCK = ".lock"


class Run(NamedTuple):
    """The places of a run's files.

    Attributes:
        best: the directory of its results.
        intermediate: the directory with a model of each epoch, made for the first.
        kind: how the names of its files begin: `training`, `soup`.
    """

    best: str
    intermediate: str
    kind: str

    def file(self, name):
        """One of the run's own files, such as `history.tsv`."""
        return os.path.join(self.best, f"{self.kind}-{name}")

    @property
    def model(self):
        """The model that it results in, which exists once it is complete."""
        return os.path.join(self.best, "soup-model.keras" if self.kind == "soup" else "best-model.keras")

    @property
    def state(self):
        """What it resumes from after it was stopped."""
        return self.file("state.npz")

    def epoch_model(self, epoch):
        """The model of an epoch, counted from 1."""
        return os.path.join(self.intermediate, f"epoch-{epoch:04d}.keras")


def run_name(settings):
    """The 32 hexadecimal digits that name a run.

    Args:
        settings: all that its result follows from, as JSON knows it; the checksums of files instead of their names.
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def find_run(output, name, kind="training"):
    """The places of a run's files.

    Args:
        output: the directory that holds the runs'.
        name: of `run_name`.
        kind: see `Run`.
    """
    return Run(os.path.join(output, f"{name}-best"), os.path.join(output, f"{name}-intermediate"), kind)


@contextlib.contextmanager
def reserved(run, fresh=False):
    """Make a run's directory, and the one that holds it, if they don't exist, and lock it while the block runs.

    One that was made for a call which turns out to be wrong is removed again.

    Args:
        run: the `Run`.
        fresh: remove all earlier files of it.

    Raises:
        UsageError: another process has locked it.
    """
    made, parent = not os.path.isdir(run.best), os.path.dirname(run.best)
    made_parent = not os.path.isdir(parent or ".")
    file = _lock(run)
    if file is None:
        raise UsageError(f"{run.best} is in use: another process is at the same run.")
    with file:
        if fresh:
            _empty(run)
        _tidy(run)
        try:
            yield
        except UsageError:
            if made and os.listdir(run.best) == [_LOCK]:
                os.unlink(os.path.join(run.best, _LOCK))
                os.rmdir(run.best)
                if made_parent:
                    with contextlib.suppress(OSError):  # another process has put something there
                        os.rmdir(parent)
            raise


def _lock(run):
    """The open file that locks a run, whose directory is made; None if another process has it."""
    path = os.path.join(run.best, _LOCK)  # a file of its own: network file systems don't lock directories
    while True:
        os.makedirs(run.best, exist_ok=True)
        try:
            return open_locked(path)
        except FileNotFoundError:  # a call that turned out to be wrong has just removed the directory
            if os.path.lexists(path):
                raise


def _empty(run):
    """Remove all files of a run, the model first: without it the run counts as incomplete."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(run.model)
    for entry in os.scandir(run.best):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        elif entry.name != _LOCK:
            os.unlink(entry.path)
    shutil.rmtree(run.intermediate, ignore_errors=True)


def _tidy(run):
    """Remove the temporary files of processes that were killed; the lock is ours, so nobody needs them."""
    for folder in filter(os.path.isdir, (run.best, run.intermediate)):
        for entry in os.scandir(folder):
            if re.fullmatch(r".*\.\d+\.tmp", entry.name) and entry.is_file(follow_symlinks=False):
                os.unlink(entry.path)
            elif re.fullmatch(r"\..*\.keras\..*", entry.name) and entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)


def complete(run):
    """Whether a run is complete. If so its model becomes the newest, which later stages of a chain look for."""
    if not os.path.isfile(run.model):
        return False
    os.utime(run.model)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(run.state)  # of a process that was killed in its last moment
    return True


def write_settings(run, settings):
    """Write the settings of a run, and on what it ran, as JSON for people and programs to read."""
    with whole_file(run.file("settings.json")) as file:
        file.write(json_text(settings) + "\n")
