"""Searching for how images are best changed and a student trained: the stage behind `optimization-log.tsv`.

Which settings are tried next is Optuna's choice, by its tree-structured Parzen estimator; its storage on the disk holds
all that the search goes on from. Settings that do worse than the median of the others are given up early.
"""

import contextlib
import itertools
import json
import os
import shutil
import sqlite3
import time
from typing import NamedTuple

from lib.errors import DivergenceError, UsageError, WorkError
from lib.storage.databases import SEARCH, check_ours, make_ours
from lib.storage.runs import locked
from lib.training.hyperparameters import (
    KEYS,
    NAME,
    Hyperparameters,
    Row,
    best_row,
    format_settings,
    parse_settings,
    write_log,
)

_STORAGE = "optimization-search.sqlite"
_PLOT = "optimization-history.png"
_TRAININGS = "optimization-trainings"
_FOR_NOW = ("full", "locked", "readonly", "disk I/O error", "unable to open")  # what SQLite says of no damage
_LABEL = "iteration"  # by what a trial's attribute is called
_FIRST = 10  # iterations that are drawn at random, and all others compared with
_DRAW_SECONDS = 30
_WARM = 5  # how many have to be complete before any is given up


class _Files(NamedTuple):
    """What lies in a search's directory."""

    log: str
    storage: str
    plot: str
    trainings: str


def search(folder, iterations, ranges, identity, seed, train, fresh=False, report=print):
    """Try settings until there were so many iterations; go on with an earlier search of the same kind.

    Args:
        folder: the directory for the log, the storage and the plot.
        iterations: how many settings to try in all.
        ranges: `lib.training.hyperparameters.Key` -> lowest and highest value; the others have their `range`.
        identity: what the result follows from besides, for JSON.
        seed: of what is drawn at random.
        train: called with `Hyperparameters`, a directory for the training's run, and a function that takes the
            validation F1s so far after each epoch; returns those of all epochs. It goes on with a training that was
            stopped.
        fresh: whether to forget an earlier search.
        report: called with each message for the user.

    Returns:
        The path of the log.

    Raises:
        UsageError: the folder holds another search's log, or another program's database.
        WorkError: of `train`; no training was complete; the storage can't be written.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    files = _Files(*(os.path.join(folder, name) for name in (NAME, _STORAGE, _PLOT, _TRAININGS)))
    ranges = {key: ranges.get(key, key.range) for key in KEYS}
    identity = json.loads(json.dumps({**identity, "seed": seed, "ranges": {key.name: ranges[key] for key in KEYS}}))
    with locked(folder, f"{folder} is in use: another process is at the same search."), _writing(files.storage):
        study = _open_study(optuna, files, identity, fresh)
        _put_back(optuna, study, _published(ranges))
        done = len(_finished(optuna, study))
        if done:
            report(f"Resuming after {done} of {iterations} iterations.")
        drawn = time.monotonic()
        while done < iterations:
            _try_next(optuna, study, ranges, seed, done, files, train, report)
            done += 1
            rows = _write_log(optuna, study, ranges, files)
            if rows and time.monotonic() - drawn > _DRAW_SECONDS:
                _draw(optuna, study, rows, files.plot)
                drawn = time.monotonic()
        rows = _write_log(optuna, study, ranges, files)
        if not rows:
            raise WorkError(
                f"All {done} iterations were pruned or diverged: {files.log} can't be written; give a higher -i."
            )
        _draw(optuna, study, rows, files.plot)
    best = best_row(rows)
    report(f"The best of {done} iterations is {best.iteration}, with an F1 of {best.f1:.4f}.")
    return files.log


def _open_study(optuna, files, identity, fresh):
    """The study of a search's storage, a new one if there is none."""
    if os.path.exists(files.log) and not os.path.exists(files.storage):
        raise UsageError(
            f"-l/--log: {files.log} exists already and is not from a search started here; choose another -l."
        )
    with contextlib.suppress(sqlite3.DatabaseError):  # damaged, which is told below
        _check_storage(files.storage)
    if fresh:
        # The storage last: while it is there, what is left of the others is known to be the search's.
        shutil.rmtree(files.trainings, ignore_errors=True)
        for path in (files.log, files.plot, files.storage):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    # It takes the writes of a process that is killed at any moment wholly or not at all.
    # Opened here, since in an address a question mark or a brace would end the file's name.
    opened = {"creator": lambda: sqlite3.connect(files.storage, check_same_thread=False)}
    try:
        with _writing(files.storage), contextlib.closing(sqlite3.connect(files.storage)) as database:
            make_ours(database, SEARCH)  # first, lest one that is killed now be taken for another program's
        study = optuna.create_study(
            storage=optuna.storages.RDBStorage("sqlite:///search.sqlite", engine_kwargs=opened),
            study_name="search",
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_WARM, n_warmup_steps=1),
        )
    except WorkError:
        raise
    except Exception as error:  # a damaged or foreign file makes optuna, SQLAlchemy and SQLite raise whatever they like
        reason = str(getattr(error, "orig", None) or error).split("\n")[0]
        raise WorkError(
            f"{files.storage} holds no search that can be resumed ({reason}); --fresh starts over."
        ) from error
    recorded = study.user_attrs.get("identity")
    if recorded is None:
        study.set_user_attr("identity", identity)
    elif recorded != identity:
        names = [name for name in identity if recorded.get(name) != identity[name]]
        raise UsageError(
            f"-l/--log: {files.log} was begun with another {names[0] if names else 'setting'}; call as before, give "
            "another -l, or --fresh."
        )
    return study


def _check_storage(path):
    """Raise UsageError if there is something of another program at the storage's place."""
    if not os.path.exists(path):
        return
    with contextlib.closing(sqlite3.connect(path)) as database:

        def former(found):
            names = database.execute("SELECT study_name FROM studies").fetchall() if "studies" in found else ()
            return ("search",) in names

        check_ours(database, path, SEARCH, former)


@contextlib.contextmanager
def _writing(path):
    """Raise WorkError where the storage is whole, but can't be read or written now."""
    try:
        yield
    except Exception as error:  # of Optuna, SQLAlchemy or SQLite, each raised from the next
        reason = error
        while reason is not None and not isinstance(reason, sqlite3.OperationalError):
            reason = getattr(reason, "orig", None) or reason.__cause__
        if reason is None or not any(word in str(reason) for word in _FOR_NOW):
            raise
        raise WorkError(f"{path} can't be written ({reason}); rerun the same command to resume when it can.") from error


def _put_back(optuna, study, published):
    """Let the settings that were being tried when the process was killed be the next ones; the published are the first.

    Args:
        published: of `_published`.
    """
    states, first = optuna.trial.TrialState, not _finished(optuna, study)
    for trial in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
        study.tell(trial.number, state=states.FAIL)
        if not first and len(trial.params) == len(published):  # else the same are drawn anew
            study.enqueue_trial(trial.params)
    if first and not study.get_trials(deepcopy=False, states=(states.WAITING,)):
        study.enqueue_trial(published)


def _finished(optuna, study):
    """The trials that were complete or given up."""
    states = optuna.trial.TrialState
    return study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED))


def _published(ranges):
    """The published settings, as far as the ranges allow, as a trial's parameters."""
    values = json.loads(format_settings(Hyperparameters()))
    return {key.name: min(max(values[key.name], low), high) for key, (low, high) in ranges.items() if low < high}


def _try_next(optuna, study, ranges, seed, number, files, train, report):
    """Try one set of settings and tell the study how it went."""
    # Anew for each, so that a search that was stopped draws what an undisturbed one does.
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=_FIRST, seed=(seed * 1_000_003 + number) % 2**32)
    trial = study.ask()
    trial.set_user_attr(_LABEL, number)
    _suggest(trial, ranges)
    settings = _settings_of(trial.params, ranges)
    told = []

    def watch(scores):
        for epoch in range(len(told), len(scores)):
            trial.report(scores[epoch], epoch)
            told.append(scores[epoch])
        if trial.should_prune():
            raise optuna.TrialPruned

    report(f"Iteration {number}: {format_settings(settings)}")
    try:
        f1 = max(train(settings, files.trainings, watch))
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        report(f"Iteration {number} was pruned after {len(told)} epochs, at an F1 of {max(told):.4f}.")
    except DivergenceError as error:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        report(f"Iteration {number} was given up: {error}")
    else:
        study.tell(trial, f1)
        report(f"Iteration {number} reached an F1 of {f1:.4f}.")
    shutil.rmtree(files.trainings, ignore_errors=True)


def _suggest(trial, ranges):
    """Let a trial choose its parameters: what the ranges leave open."""
    for key, (low, high) in ranges.items():
        if low < high and key.whole:
            trial.suggest_int(key.name, low, high)
        elif low < high:
            # What differs by powers of ten is drawn evenly in the logarithm.
            trial.suggest_float(key.name, low, high, log=low > 0 and high >= 50 * low)


def _settings_of(parameters, ranges):
    """The `Hyperparameters` of a trial's parameters, in four digits, which a reader of the log can still take in."""
    values = {key.name: parameters.get(key.name, low) for key, (low, _) in ranges.items()}
    return parse_settings(json.dumps({name: float(f"{value:.4g}") for name, value in values.items()}))


def _in_order(optuna, study):
    """The finished trials in the order of their iterations, each with its number."""
    return sorted(((trial.user_attrs[_LABEL], trial) for trial in _finished(optuna, study)), key=lambda pair: pair[0])


def _write_log(optuna, study, ranges, files):
    """Write the log of the iterations that are complete, if there are any; returns its rows."""
    rows = [
        Row(str(number), _settings_of(trial.params, ranges), trial.value)
        for number, trial in _in_order(optuna, study)
        if trial.state == optuna.trial.TrialState.COMPLETE
    ]
    if rows:
        write_log(os.path.dirname(files.log), rows)
    return rows


def _draw(optuna, study, rows, path):
    """Draw the F1 of each iteration and the best one so far."""
    from lib.display.figures import new_figure, save_figure

    figure, axes = new_figure((9, 5))
    numbers, scores = [int(row.iteration) for row in rows], [row.f1 for row in rows]
    axes.step(numbers, list(itertools.accumulate(scores, max)), where="post", color="#999999", label="the best so far")
    axes.plot(numbers, scores, "o", color="#4477aa", label="complete")
    given_up = [
        (number, max(trial.intermediate_values.values()))
        for number, trial in _in_order(optuna, study)
        if trial.state == optuna.trial.TrialState.PRUNED and trial.intermediate_values
    ]
    if given_up:
        axes.plot(*zip(*given_up), "x", color="#cc6677", label="given up, at its best")
    axes.set(xlabel="iteration", ylabel="macro F1 in validation")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)
