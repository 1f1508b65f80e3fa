"""A run's directory: its place, its layout, and who may write there.

A run is one training, distillation or soup. Its directory follows from its settings and from the content of its inputs,
so that the same command finds it again.
"""

import contextlib
import glob
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
_BEST, _INTERMEDIATE = "-best", "-intermediate"  # how the names of a run's directories end
_MODELS = {"training": "best-model.keras", "soup": "soup-model.keras"}  # of each kind of run
_SETTINGS = "settings.json"


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
        return os.path.join(self.best, _MODELS[self.kind])

    @property
    def settings(self):
        """Its settings, and on what it ran, as of `write_settings`."""
        return self.file(_SETTINGS)

    @property
    def history(self):
        """The table of a training's epochs and their metrics."""
        return self.file("history.tsv")

    @property
    def epochs(self):
        """The same table with the names of the models in `intermediate`, beside them."""
        return os.path.join(self.intermediate, "epochs.tsv")

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
    stem = os.path.join(output, name)
    return Run(stem + _BEST, stem + _INTERMEDIATE, kind)


def run_of(path):
    """The run that a file or a directory is of, by its name; whether there is such a run, its files say.

    Args:
        path: a model or the settings of a run, in its directory; or one of its directories, which is taken for a
            training's. One that isn't named as a run's, such as a copy, is taken for both of its directories.
    """
    folder, name = (path, "") if os.path.isdir(path) else os.path.split(path)
    kind = "soup" if name in (_MODELS["soup"], f"soup-{_SETTINGS}") else "training"
    for ending in (_BEST, _INTERMEDIATE):
        if folder.endswith(ending):
            stem = folder[: -len(ending)]
            return Run(stem + _BEST, stem + _INTERMEDIATE, kind)
    return Run(folder, folder, kind)


def runs_in(output):
    """The runs in a directory whose settings are recorded, a list in any order."""
    places = (os.path.join(glob.escape(output), f"*{_BEST}", f"{kind}-{_SETTINGS}") for kind in _MODELS)
    return [run_of(path) for place in places for path in glob.glob(place)]


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
    with whole_file(run.settings) as file:
        file.write(json_text(settings) + "\n")
