"""The search for the best augmentation and training settings, the stage behind `optimization-log.tsv`.

Optuna's tree-structured Parzen estimator chooses the settings of each iteration, and its median pruner ends poor ones
early. A journal holds the finished iterations.
"""

import contextlib
import dataclasses
import itertools
import json
import logging
import os
import shutil
import time
from typing import Dict, Optional, Tuple

from lib.errors import DivergenceError, UsageError, WorkError, option
from lib.storage.journal import Journal
from lib.storage.runs import run_of
from lib.training import student
from lib.training.hyperparameters import KEYS, NAME, Hyperparameters, Row, format_settings, parse_settings, write_log
from lib.training.run import Execution, identify

log = logging.getLogger(__name__)

_FIRST = 10  # iterations drawn at random
_DRAW_SECONDS = 30
_COMPLETE = 5  # iterations that must be complete before any is pruned


@dataclasses.dataclass(frozen=True)
class Settings(Execution, student.Distillation):
    """The settings of a search.

    Attributes:
        iterations: the number of settings to try in all.
        ranges: key of the log -> lowest and highest value; None, and keys not in it, for those of `KEYS`.
        epochs: the maximum for each training.
    """

    iterations: int = 100
    ranges: Optional[Dict[str, Tuple[float, float]]] = None
    epochs: int = 8


class _Journal(Journal):
    """An entry for each finished iteration: its number in eight digits -> JSON of its parameters, scores and state."""

    anew = "fresh"


def train_in_child(settings, hyperparameters, watch):
    """Train a student in a child process, which gives its memory back.

    Args:
        settings, hyperparameters: see `lib.training.student.train_student`.
        watch: called with the validation F1s so far after each epoch.

    Returns:
        The validation F1s of all epochs.
    """
    from lib.system.processes import call_in_child

    os.makedirs(settings.output, exist_ok=True)
    return call_in_child(_train, (settings, hyperparameters), watch)


def _train(settings, hyperparameters, send):
    """The child's part of `train_in_child`."""
    from lib.training.history import read_history

    def watch(history):
        send([float(f"{f1:.9g}") for f1 in history["val_f1"]])  # rounded as in the history's file

    model = student.train_student(settings, hyperparameters, watch)
    return read_history(run_of(model).history)["val_f1"]


def search(settings, train=train_in_child):
    """Try hyperparameters, or resume an earlier search with the same settings.

    Args:
        settings: `Settings`; the log, the journal and the plot go into their `output`.
        train: trains or resumes one student, as `train_in_child` does.

    Returns:
        The path of the log.

    Raises:
        UsageError: ranges that don't fit the records; the directory holds another search's log.
        WorkError: of the training; no training was complete; the journal can't be written.
    """
    ranges = _fitting_ranges(settings)
    _, identity = identify(settings, ranges=ranges, iterations=None)
    os.makedirs(settings.output, exist_ok=True)
    names = (NAME, "optimization-search.sqlite", "optimization-history.png", "optimization-trainings")
    path, database, plot, trainings = (os.path.join(settings.output, name) for name in names)
    if os.path.exists(path) and not os.path.exists(database):
        raise UsageError(f"{path} exists already and is not from a search started here; choose another.", "output")
    with _Journal(database, "search", identity, path, fresh=settings.fresh) as journal:
        if not journal.continued:
            _remove(path, plot, trainings)
        study, drawn, done = _study_of(journal, ranges), time.monotonic(), len(journal)
        if done:
            log.info(f"Resuming after {done} of {settings.iterations} iterations.")
        for number in range(done, settings.iterations):
            _try(number, study, ranges, _student_settings(settings, trainings), train)
            _save(journal, study.trials[number])
            _remove(trainings)
            rows = _write_log(study, ranges, settings.output)
            if rows and time.monotonic() - drawn > _DRAW_SECONDS:
                _draw(study, plot)
                drawn = time.monotonic()
        rows, tried = _write_log(study, ranges, settings.output), len(journal)
        if not rows:
            more = f"give a higher {option('iterations')}"
            raise WorkError(f"All {tried} iterations were pruned or diverged: {path} can't be written; {more}.")
        _draw(study, plot)
    best = study.best_trial
    log.info(f"The best of {tried} iterations is {best.number}, with an F1 of {best.value:.4f}.")
    return path


def _remove(*paths):
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.unlink(path)


def _fitting_ranges(settings):
    """The range of each key of the log: batches limited to the records; the temperature fixed without a teacher."""
    from lib.data.records import open_records

    ranges = {name: key.range for name, key in KEYS.items()}
    ranges.update(settings.ranges or {})
    count = len(open_records(settings.train, "train", settings.categories, skip_bad=settings.skip_bad))
    most = count.bit_length() - 1
    if "batch" in (settings.ranges or {}) and ranges["batch"][1] > most:
        raise UsageError(f"batch can be at most {most}, since {option('train')} has {count:,} records.", "ranges")
    ranges["batch"] = tuple(min(power, most) for power in ranges["batch"])
    if settings.teacher is None:
        ranges["distillTemperature"] = (Hyperparameters().distill_temperature,) * 2
    return ranges


def _study_of(journal, ranges):
    """A study with the finished iterations; without any, it begins with the published settings as far as allowed."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=_COMPLETE, n_warmup_steps=1)
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
        published = json.loads(format_settings(Hyperparameters()))
        free = {name: ends for name, ends in ranges.items() if ends[0] < ends[1]}
        study.enqueue_trial({name: min(max(published[name], low), high) for name, (low, high) in free.items()})
    return study


def _save(journal, trial):
    """Add a finished iteration to the journal."""
    scores = [trial.intermediate_values[epoch] for epoch in sorted(trial.intermediate_values)]
    content = {"parameters": trial.params, "scores": scores, "state": trial.state.name, "value": trial.value}
    journal.add(b"%08d" % trial.number, json.dumps(content).encode())
    journal.save()


def _distributions(ranges):
    """Optuna's distributions of the keys that aren't fixed."""
    import optuna

    found = {}
    for name, (low, high) in ranges.items():
        if low < high and KEYS[name].whole:
            found[name] = optuna.distributions.IntDistribution(low, high)
        elif low < high:  # log-uniform over several powers of ten
            found[name] = optuna.distributions.FloatDistribution(low, high, log=low > 0 and high >= 50 * low)
    return found


def _try(number, study, ranges, settings, train):
    """Train with the next hyperparameters, and report the result to the study."""
    import optuna

    # A new seed for each iteration, so that one that was killed draws the same again.
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
        scores = train(dataclasses.replace(settings, mixup=hyperparameters.mixup), hyperparameters, watch)
        watch(scores)  # in case the training was complete already
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        log.info(f"Iteration {number} was pruned after {len(seen)} epochs, at an F1 of {max(seen):.4f}.")
    except DivergenceError as error:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        log.info(f"Iteration {number} was given up: {error}")
    else:
        study.tell(trial, max(scores))
        log.info(f"Iteration {number} reached an F1 of {max(scores):.4f}.")


def _student_settings(settings, output):
    """The settings of a search's trainings."""
    names = {field.name for field in dataclasses.fields(student.Settings)}
    shared = {name: value for name, value in vars(settings).items() if name in names}
    return student.Settings(**{**shared, "output": output, "fresh": False, "patience": settings.epochs})


def _hyperparameters_of(parameters, ranges):
    """The `Hyperparameters` of a trial's parameters, rounded to four digits for readers of the log."""
    values = {name: parameters.get(name, low) for name, (low, _) in ranges.items()}
    return parse_settings(json.dumps({name: float(f"{value:.4g}") for name, value in values.items()}))


def _write_log(study, ranges, folder):
    """Write the log of the complete iterations, if any, and return its rows."""
    rows = [
        Row(str(trial.number), _hyperparameters_of(trial.params, ranges), trial.value)
        for trial in study.trials
        if trial.state.name == "COMPLETE"
    ]
    if rows:
        write_log(folder, rows)
    return rows


def _draw(study, path):
    """Draw the F1 of each iteration, and the best so far."""
    from lib.display.figures import new_figure, save_figure

    figure, axes = new_figure((9, 5))
    numbers, scores = zip(*((trial.number, trial.value) for trial in study.trials if trial.state.name == "COMPLETE"))
    axes.step(numbers, list(itertools.accumulate(scores, max)), where="post", color="#999999", label="the best so far")
    axes.plot(numbers, scores, "o", color="#4477aa", label="complete")
    pruned = [trial for trial in study.trials if trial.state.name == "PRUNED" and trial.intermediate_values]
    if pruned:
        best = [max(trial.intermediate_values.values()) for trial in pruned]
        axes.plot([trial.number for trial in pruned], best, "x", color="#cc6677", label="given up, at its best")
    axes.set(xlabel="iteration", ylabel="macro F1 in validation")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)
