"""Searching for how images are best changed and a student trained: the stage behind `optimization-log.tsv`.

Which hyperparameters are tried next is Optuna's choice, by its tree-structured Parzen estimator; a journal holds what
came of those before. What does worse than the median of the others is given up early.
"""

import contextlib
import dataclasses
import itertools
import json
import logging
import os
import shutil
import time
from typing import Dict, NamedTuple, Optional, Tuple

from lib.errors import DivergenceError, UsageError, WorkError, option
from lib.storage.journal import Journal
from lib.training import student
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
from lib.training.run import Execution, identify

log = logging.getLogger(__name__)

_FIRST = 10  # iterations that are drawn at random, and all others compared with
_DRAW_SECONDS = 30
_WARM = 5  # how many have to be complete before any is given up


@dataclasses.dataclass(frozen=True)
class Settings(Execution, student.Distillation):
    """What a search follows from.

    Attributes:
        iterations: how many hyperparameters to try in all.
        ranges: name of a key of the log -> lowest and highest value; None for those of `KEYS`, as for other keys.
        epochs: at most how many each is trained for.
    """

    iterations: int = 100
    ranges: Optional[Dict[str, Tuple[float, float]]] = None
    epochs: int = 8


class _Files(NamedTuple):
    """What lies in a search's directory."""

    log: str
    journal: str
    plot: str
    trainings: str


def _files(settings):
    names = (NAME, "optimization-search.sqlite", "optimization-history.png", "optimization-trainings")
    return _Files(*(os.path.join(settings.output, name) for name in names))


class _Journal(Journal):
    """An entry for each finished iteration: its number in eight digits -> JSON of its parameters, scores and state."""

    anew = "fresh"


def search(settings, train=None):
    """Try hyperparameters until so many iterations are done; resume an earlier search with the same settings.

    Args:
        settings: `Settings`; in their `output` lie the log, the journal and the plot.
        train: called with student settings, `Hyperparameters`, and a function that takes the validation F1s so far
            after each epoch; returns those of all epochs. It resumes a training that was stopped. By default that is
            `train_in_child`.

    Returns:
        The path of the log.

    Raises:
        UsageError: ranges that don't fit the records; the directory holds another search's log.
        WorkError: of the training; no training was complete; the journal can't be written.
    """
    ranges = _fitting_ranges(settings)
    _, identity = identify(settings, ranges=ranges, iterations=None)
    os.makedirs(settings.output, exist_ok=True)
    files = _files(settings)
    if os.path.exists(files.log) and not os.path.exists(files.journal):
        raise UsageError(f"{files.log} exists already and is not from a search started here; choose another.", "output")
    with _Journal(files.journal, "search", identity, files.log, fresh=settings.fresh) as journal:
        if not journal.continued:
            _remove(files.log, files.plot, files.trainings)
        study, drawn = _study_of(journal, ranges), time.monotonic()
        done = len(journal)
        if done:
            log.info(f"Resuming after {done} of {settings.iterations} iterations.")
        for number in range(done, settings.iterations):
            _try(number, study, ranges, settings, train or train_in_child)
            _save(journal, study.trials[number])
            _remove(files.trainings)
            rows = _write_log(study, ranges, settings.output)
            if rows and time.monotonic() - drawn > _DRAW_SECONDS:
                _draw(study, files.plot)
                drawn = time.monotonic()
        rows, tried = _write_log(study, ranges, settings.output), len(journal)
        if not rows:
            more = f"give a higher {option('iterations')}"
            raise WorkError(f"All {tried} iterations were pruned or diverged: {files.log} can't be written; {more}.")
        _draw(study, files.plot)
    best = best_row(rows)
    log.info(f"The best of {tried} iterations is {best.iteration}, with an F1 of {best.f1:.4f}.")
    return files.log


def _remove(*paths):
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.unlink(path)


def _fitting_ranges(settings):
    """The range of each key of the log by its name: no larger batches than the records allow, and without a teacher one
    temperature.
    """
    from lib.data.records import open_records

    given = dict(settings.ranges or {})
    count = len(open_records(settings.train, "train", settings.categories, skip_bad=settings.skip_bad))
    most = count.bit_length() - 1
    if given.get("batch", (0, 0))[1] > most:
        raise UsageError(f"batch can be at most {most}, since {option('train')} has {count:,} records.", "ranges")
    ranges = {key.name: given.get(key.name, key.range) for key in KEYS}
    ranges["batch"] = tuple(min(power, most) for power in ranges["batch"])
    if settings.teacher is None:
        ranges["distillTemperature"] = (Hyperparameters().distill_temperature,) * 2
    return ranges


def _study_of(journal, ranges):
    """A study with the finished iterations; without any, the published settings are the first to be tried."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=_WARM, n_warmup_steps=1)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    for _, _, content in journal.entries():
        found = json.loads(content)
        trial = optuna.trial.create_trial(
            state=optuna.trial.TrialState[found["state"]],
            value=found["value"],
            params=found["parameters"],
            distributions=_distributions(ranges),
            intermediate_values=dict(enumerate(found["scores"])),
        )
        study.add_trial(trial)
    if not study.trials:
        study.enqueue_trial(_published(ranges))
    return study


def _save(journal, trial):
    """Add a finished iteration to the journal."""
    scores = [trial.intermediate_values[epoch] for epoch in sorted(trial.intermediate_values)]
    content = {"parameters": trial.params, "scores": scores, "state": trial.state.name, "value": trial.value}
    journal.add(b"%08d" % trial.number, json.dumps(content).encode())
    journal.save()


def _published(ranges):
    """The published settings, as far as the ranges allow, as a trial's parameters."""
    values = json.loads(format_settings(Hyperparameters()))
    return {name: min(max(values[name], low), high) for name, (low, high) in ranges.items() if low < high}


def _distributions(ranges):
    """What the ranges leave open, as Optuna knows it."""
    import optuna

    whole = {key.name for key in KEYS if key.whole}
    return {
        name: optuna.distributions.IntDistribution(low, high)
        if name in whole
        # What differs by powers of ten is drawn evenly in the logarithm.
        else optuna.distributions.FloatDistribution(low, high, log=low > 0 and high >= 50 * low)
        for name, (low, high) in ranges.items()
        if low < high
    }


def _try(number, study, ranges, settings, train):
    """Try the next hyperparameters and tell the study what came of them."""
    import optuna

    # Seeded anew for each, so that an iteration that was killed is drawn again as it was.
    seed = (settings.seed * 1_000_003 + number) % 2**32
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=_FIRST, seed=seed)
    trial = study.ask(_distributions(ranges))
    hyperparameters = _hyperparameters_of(trial.params, ranges)
    seen = []

    def watch(scores):
        for epoch in range(len(seen), len(scores)):
            seen.append(scores[epoch])
            trial.report(scores[epoch], epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

    log.info(f"Iteration {number}: {format_settings(hyperparameters)}")
    try:
        scores = train(_student_settings(settings, hyperparameters), hyperparameters, watch)
        watch(scores)  # of a training that was complete already
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        log.info(f"Iteration {number} was pruned after {len(seen)} epochs, at an F1 of {max(seen):.4f}.")
    except DivergenceError as error:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        log.info(f"Iteration {number} was given up: {error}")
    else:
        study.tell(trial, max(scores))
        log.info(f"Iteration {number} reached an F1 of {max(scores):.4f}.")


def _student_settings(settings, hyperparameters):
    """The settings of one training of a search."""
    names = {field.name for field in dataclasses.fields(student.Settings)}
    shared = {name: value for name, value in vars(settings).items() if name in names}
    folder = _files(settings).trainings
    own = {"output": folder, "fresh": False, "patience": settings.epochs, "mixup": hyperparameters.mixup}
    return student.Settings(**{**shared, **own})


def train_in_child(settings, hyperparameters, watch):
    """Train a student in a process of its own, so that the memory that it takes is given back; what `search` calls.

    Args:
        settings: `lib.training.student.Settings`.
        hyperparameters, watch: see `search`.
    """
    from lib.system.processes import call_in_child

    os.makedirs(settings.output, exist_ok=True)
    return call_in_child(_train, (settings, hyperparameters), watch)


def _train(settings, hyperparameters, send):
    """What the process does: train, and send the F1s after each epoch; returns those of all."""
    from lib.training.history import read_history

    def watch(history):
        send([float(f"{f1:.9g}") for f1 in history["val_f1"]])  # as they are read from the run of a finished training

    model = student.train_student(settings, hyperparameters, watch)
    return read_history(os.path.join(os.path.dirname(model), "training-history.tsv"))["val_f1"]


def _hyperparameters_of(parameters, ranges):
    """The `Hyperparameters` of a trial's parameters, in four digits, which a reader of the log can still take in."""
    values = {name: parameters.get(name, low) for name, (low, _) in ranges.items()}
    return parse_settings(json.dumps({name: float(f"{value:.4g}") for name, value in values.items()}))


def _write_log(study, ranges, folder):
    """Write the log of the complete iterations, if any; returns its rows."""
    rows = [
        Row(str(trial.number), _hyperparameters_of(trial.params, ranges), trial.value)
        for trial in study.trials
        if trial.state.name == "COMPLETE"
    ]
    if rows:
        write_log(folder, rows)
    return rows


def _draw(study, path):
    """Draw the F1 of each iteration and the best one so far."""
    from lib.display.figures import new_figure, save_figure

    figure, axes = new_figure((9, 5))
    complete = [(trial.number, trial.value) for trial in study.trials if trial.state.name == "COMPLETE"]
    numbers, scores = zip(*complete)
    axes.step(numbers, list(itertools.accumulate(scores, max)), where="post", color="#999999", label="the best so far")
    axes.plot(numbers, scores, "o", color="#4477aa", label="complete")
    given_up = [
        (trial.number, max(trial.intermediate_values.values()))
        for trial in study.trials
        if trial.state.name == "PRUNED" and trial.intermediate_values
    ]
    if given_up:
        axes.plot(*zip(*given_up), "x", color="#cc6677", label="given up, at its best")
    axes.set(xlabel="iteration", ylabel="macro F1 in validation")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)
