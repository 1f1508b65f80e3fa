"""The training loop: epochs, validation, early stopping, the best weights, checkpoints.

A training that was stopped resumes, and ends with the same numbers as an uninterrupted one: order, crops and mixtures
follow from (seed, epoch, step), and all else is in the state that is written after each epoch.
"""

import contextlib
import dataclasses
import glob
import itertools
import logging
import math
import os
import shutil
import time
from typing import Any, Callable, Optional

import keras
import numpy as np
import tensorflow as tf

from lib.errors import DivergenceError, WorkError, option
from lib.measures import metrics
from lib.measures.losses import penalties, whole_batch
from lib.models.keras_files import save_model
from lib.storage.states import load_state, save_state
from lib.system.devices import enough_memory
from lib.system.memory import amount
from lib.system.processes import deferred_signals
from lib.system.progress import duration, progress
from lib.training import history, optimizers, randomness
from lib.training.batches import Phase, feeds, over_replicas, stacked
from lib.training.validation import build_scorer
from lib.training.verdict import trend

log = logging.getLogger(__name__)
results = logging.getLogger("results")

_SO_FAR = "best-so-far.keras"
_CHECK_SECONDS = 10  # between checks of the loss within an epoch, which make the device wait
_DRAW_SECONDS = 30
_AGREE_STEPS = 4  # executions between the workers' agreements on stopping


@dataclasses.dataclass(frozen=True)
class Task:
    """What to train, and on what.

    Attributes:
        team: a `lib.system.devices.Team`.
        model: the Keras model, made in the scope of the team's strategy.
        template: the same model outside of it, for saving.
        optimizer: a Keras optimizer, made in that scope.
        batch: images per step, over all replicas.
        training, validation: the passes over the images.
        taught: whether the examples hold a teacher's logits. If not, the loss includes the model's penalties.
        monitor: the metric whose best epoch's weights are the result: the lowest of a loss, else the highest.
        keep: the number of epochs, the best, whose models are also saved; None for all.
        rate_option, batch_option: what sets the learning rate and the batch size, for messages.
    """

    team: Any
    model: Any
    template: Any
    optimizer: Any
    batch: int
    training: Phase
    validation: Phase
    taught: bool = False
    monitor: str = "val_f1"
    keep: Optional[int] = 0
    rate_option: str = option("learning_rate")
    batch_option: str = option("batch")


def fit(task, settings, run, watch: Optional[Callable] = None):
    """Train, or resume, and write the run's results.

    Args:
        task: a `Task`.
        settings: those of `lib.training.run.Execution`, `epochs`, `patience` and `seed`.
        run: the `lib.storage.runs.Run`.
        watch: called with the history after each epoch is saved; what it raises ends the training.

    Raises:
        DivergenceError: the loss became infinite or NaN.
        WorkError: the disk lacks room; the state is damaged, another version's or another run's.
        MemoryError: the batch is too large.
        KeyboardInterrupt, lib.system.processes.Interrupted: after a signal; the state is written.
    """
    with enough_memory(f"give a smaller {task.batch_option}"):
        trainer = _Trainer(task, settings, run)
        trainer.resume()
        trainer.begin()
        if task.team.chief:
            _check_disk(task, run, settings.epochs - trainer.epoch)
        if settings.evaluate_first and not trainer.begun:
            scores = trainer.score()  # on all workers
            if task.team.chief:
                results.info(f"Before training: {_line(scores)}")
        with trainer.events() as write_events, deferred_signals() as signalled:
            stopped = _agreement(task.team, signalled)
            while trainer.epoch < settings.epochs and not early_stopping(trainer.history, task.monitor, settings):
                rate = trainer.run_epoch(stopped)
                if rate is None:
                    trainer.stop(signalled)
                    return  # the signal acts when the block ends
                trainer.record(write_events)
                trainer.save()
                log.info(trainer.epoch_line(rate))
                if watch is not None:
                    watch(trainer.history)
            if task.team.chief:
                trainer.finish()
    best = history.best_epoch(trainer.history, task.monitor)
    value = trainer.history[task.monitor][best - 1]
    ended = f", the last {settings.patience} of them without improvement" if trainer.epoch < settings.epochs else ""
    result = f"the best {task.monitor} is {value:.4f}, that of epoch {best}"
    log.info(f"Finished after {trainer.epoch} epochs{ended}: {result}. {trend(trainer.history, task.monitor)}".rstrip())


def early_stopping(values, monitor, settings):
    """Early stopping: whether the last `patience` epochs of a history brought no better value of the monitor."""
    return history.epochs_of(values) - history.best_epoch(values, monitor) >= settings.patience


class _Trainer:
    """A training in progress.

    Attributes:
        history: metric -> its values of the finished epochs.
        step: the number of finished steps of the current epoch.
        best: the weights of the best epoch so far, arrays.
        score: of `build_scorer`.
    """

    def __init__(self, task, settings, run):
        self.history, self.step, self.best = {}, 0, []
        self._drawn = time.monotonic()
        self._begun_at = 0, self._drawn  # the number of epochs when this call began to train, and the time
        self._task, self._settings, self._run = task, settings, run
        strategy = task.team.strategy
        self.score = build_scorer(strategy, task.model, task.validation, task.taught)
        self._categories = task.model.output_shape[-1]
        self._counters = metrics.Counters(strategy, self._categories)
        with strategy.scope():
            task.optimizer.build(task.model.trainable_variables)
            # How many steps, since the epoch began or was resumed, come before the first loss that is infinite or NaN;
            # and 1.0 until there is one.
            mean = tf.VariableAggregation.MEAN
            self._good, self._finite = (metrics.replica_variable(value, mean) for value in (0.0, 1.0))
        self._execute = self._compile()

    @property
    def epoch(self):
        """The number of finished epochs."""
        return history.epochs_of(self.history)

    @property
    def last(self):
        """The metrics of the last epoch."""
        return {name: values[-1] for name, values in self.history.items()}

    @property
    def begun(self):
        """Whether any step is done."""
        return bool(self.epoch or self.step)

    def _compile(self):
        """Compile the function that runs the steps of a feed."""
        task, model, optimizer = self._task, self._task.model, self._task.optimizer
        strategy = task.team.strategy
        replicas = strategy.num_replicas_in_sync

        def differentiate(examples, batch):
            with tf.GradientTape() as tape:
                logits = tf.cast(model(examples.pixels, training=True), "float32")
                losses = task.training.loss(examples, logits, batch)
                penalty = tf.constant(0.0) if task.taught else penalties(model)
                total = tf.reduce_sum(losses) / batch.images + penalty / replicas
                scaled = optimizers.scaled(optimizer, total)
            return logits, losses + penalty, tape.gradient(scaled, model.trainable_variables)

        if self._settings.jit:
            differentiate = tf.function(differentiate, jit_compile=True)

        def step(feed, number):
            examples = task.training.examples(type(feed)(*(values[number] for values in feed)))
            batch = whole_batch(examples.labels)
            if replicas > 1:
                batch = over_replicas(batch)
            logits, losses, gradients = differentiate(examples, batch)
            optimizers.apply(optimizer, gradients, model.trainable_variables)
            self._counters.add(metrics.count(examples.labels, logits, losses, teacher=examples.teacher))
            self._finite.assign(self._finite * tf.cast(tf.reduce_all(tf.math.is_finite(losses)), "float32"))
            self._good.assign_add(self._finite)

        @tf.function
        def execute(feed, count):
            if count == 1:
                strategy.run(step, args=(feed, 0))
            else:
                for number in tf.range(count):
                    strategy.run(step, args=(feed, number))

        return execute

    def begin(self):
        """Take the time, for what is left."""
        self._begun_at = self.epoch, time.monotonic()

    def run_epoch(self, stopped):
        """Train for an epoch, or the rest of one, validate, and add the metrics to the history.

        Args:
            stopped: a function that says whether to stop, called before each step.

        Returns:
            Images trained on per second; None if stopped.
        """
        task = self._task
        start, first = time.monotonic(), self.step
        if not self._run_steps(stopped):
            return None
        trained = metrics.summarise(self._counters.read(), task.taught)
        rate = (self.step - first) * task.batch / (time.monotonic() - start)
        scores = self.score(stopped)
        if scores is None:
            return None
        if not math.isfinite(scores["loss"]):
            raise self._diverged(task.training.steps, "in validation after")
        values = {**trained, **{f"val_{name}": value for name, value in scores.items()}}
        values["learning_rate"] = optimizers.learning_rate(task.optimizer)
        for name, value in values.items():
            self.history.setdefault(name, []).append(value)
        self.step = 0
        if history.best_epoch(self.history, task.monitor) == self.epoch:
            self.best = self.weights()
        return rate

    def epoch_line(self, rate):
        """The message about the last epoch."""
        better = history.best_epoch(self.history, self._task.monitor) == self.epoch
        penalty = 0.0 if self._task.taught else float(penalties(self._task.model))
        apart = f" (of each loss {penalty:.4g} is the layers' penalty)" if penalty else ""
        said = f"{_line(self.last)}{apart}; {rate:,.0f} images a second{', the best so far' if better else ''}"
        return f"Epoch {self.epoch} of {self._settings.epochs}: {said}{self._time_left()}."

    def _time_left(self):
        """A clause about how long the whole run may still take; empty before the first epoch and after the last."""
        done, left = self.epoch - self._begun_at[0], self._settings.epochs - self.epoch
        if not done or not left:
            return ""
        return f", {duration((time.monotonic() - self._begun_at[1]) / done * left)} left at most"

    def _run_steps(self, stopped):
        """Run the remaining steps of an epoch; False if stopped before the last."""
        task, epoch, begun = self._task, self.epoch, self.step
        if not begun:
            self._counters.assign(metrics.no_counts(self._categories))
            randomness.reseed(task.model, self._settings.seed, epoch)
        self._good.assign(0.0)
        self._finite.assign(1.0)
        steps, many = task.training.steps, self._settings.steps_per_execution
        items = [range(step, min(step + many, steps)) for step in range(begun, steps, many)]

        def make(item, *replica):
            return stacked([task.training.feed(epoch, step, *replica) for step in item])

        images = (steps - begun) * task.batch if task.team.chief else 0
        checked = time.monotonic()
        made = feeds(task.team.strategy, items, make)
        doing = f"Epoch {epoch + 1} of {self._settings.epochs}{self._time_left()}"
        with contextlib.closing(made), progress(images, "images", lines=False, doing=doing) as advance:
            for item, feed in zip(items, made):
                if stopped():
                    self._check_loss(begun)  # so that no NaN weights overwrite a good state
                    return False
                self._execute(feed, len(item))
                self.step = item[-1] + 1
                advance(len(item) * task.batch)
                if task.team.workers == 1 and time.monotonic() - checked > _CHECK_SECONDS:
                    self._check_loss(begun)
                    checked = time.monotonic()
        self._check_loss(begun)
        return True

    def _check_loss(self, begun):
        """Raise DivergenceError if the loss became infinite or NaN in a step after the first `begun` of the epoch."""
        good = int(self._good.read_value().numpy())
        if good < self.step - begun:
            raise self._diverged(begun + good + 1, "at")

    def _diverged(self, step, where):
        """Save the best weights so far, and return the error of an infinite or NaN loss."""
        saved = "no epoch was finished"
        if self.best:
            saved = f"the best model before is {self._run.file(_SO_FAR)}"
            if self._task.team.chief:
                save_weights_as(self._task.template, self.best, self._run.file(_SO_FAR))
        place = f"epoch {self.epoch + 1} {where} step {step}"
        return DivergenceError(
            f"The loss became infinite or NaN in {place}; {saved}: try a lower {self._task.rate_option}."
        )

    def weights(self):
        """The model's weights as arrays; to be called on all workers, since reading a variable may involve them all."""
        return list(map(_array, self._task.model.weights))

    def _variables(self):
        """All variables that training changes: name -> variables."""
        model, optimizer = self._task.model, optimizers.state_of(self._task.optimizer)
        return {"weights": model.weights, "optimizer": optimizer, "layers": randomness.states(model)}

    def save(self):
        """Write the state to resume from; to be called on all workers."""
        groups = {name: list(map(_array, variables)) for name, variables in self._variables().items()}
        counts = self._counters.read() if self.step else ()
        if self._task.team.chief:
            name = os.path.basename(self._run.best)
            facts = {"run": name, "versions": _versions(), "step": self.step, "history": self.history}
            save_state(self._run.state, facts, {**groups, "best": self.best, "counts": counts})

    def resume(self):
        """Load the saved state, if any.

        Raises:
            WorkError: it is damaged, or not of this training.
        """
        path, fresh = self._run.state, option("fresh")
        facts, groups = (None, None) if self._settings.fresh else load_state(path)
        if facts is not None:
            try:
                self._check_origin(facts)
                self._restore(facts, groups)
            except (AttributeError, KeyError, TypeError, ValueError, tf.errors.OpError) as error:
                raise WorkError(f"{path} doesn't hold a state of this training; {fresh} starts over.") from error
        if self._task.team.workers > 1:
            self._compare_workers()
        if self.begun:
            within = f" and {self.step} steps" if self.step else ""
            log.info(f"Resuming after {self.epoch} of at most {self._settings.epochs} epochs{within}.")

    def _check_origin(self, facts):
        """Raise WorkError unless a state is of this run and of these versions."""
        path, fresh = self._run.state, option("fresh")
        if facts["run"] != os.path.basename(self._run.best):
            raise WorkError(f"{path} is of another run, {facts['run']}; {fresh} starts over.")
        if facts["versions"] != _versions():
            wrote, runs = (" and ".join(map(" ".join, each.items())) for each in (facts["versions"], _versions()))
            raise WorkError(
                f"{path} was written by {wrote}, and this is {runs}: use those versions, or pass {fresh} to start over."
            )

    def _restore(self, facts, groups):
        """Restore a state. Raises KeyError, TypeError, ValueError if it isn't one that `save` writes."""
        self.step, self.history, self.best = facts["step"], facts["history"], groups.get("best", [])
        for name, variables in self._variables().items():
            arrays = groups.get(name, [])
            if len(arrays) != len(variables):
                raise ValueError(f"it has {len(arrays)} arrays {name}, not {len(variables)}")
            for variable, array in zip(variables, arrays):
                variable.assign(array)
        if self.step:
            self._counters.assign(metrics.Counts(*groups["counts"]))

    def _compare_workers(self):
        """Raise WorkError unless all workers resume at the same step."""
        strategy, apart = self._task.team.strategy, 0.0
        for count in (self.epoch, self.step):  # apart, since their product may be more than float32 counts to
            mean = _sum(strategy, count) / strategy.num_replicas_in_sync
            apart += _sum(strategy, abs(count - mean))
        if apart > 0.001:
            shared = "the workers find different states there; it must be a shared directory"
            raise WorkError(f"{self._run.best}: {shared}.")

    def events(self):
        """The context manager of TensorBoard's events, if they are wanted and this is the chief."""
        wanted = self._settings.tensorboard and self._task.team.chief
        return history.tensorboard_events(self._run) if wanted else contextlib.nullcontext()

    def record(self, write_events):
        """Write the files of the last epoch; to be called on all workers."""
        task, run = self._task, self._run
        weights = self.weights() if task.keep != 0 else None
        if not task.team.chief:
            return
        if weights is not None:
            self._save_epoch(weights)
        history.write_history(run, self.history)
        if write_events is not None:
            write_events(self.epoch, self.last)
        if time.monotonic() - self._drawn > _DRAW_SECONDS:
            history.draw_history(run, self.history, task.monitor)
            self._drawn = time.monotonic()

    def _save_epoch(self, weights):
        """Save and list the last epoch's model, and remove those that aren't among the best any more."""
        task, run = self._task, self._run
        os.makedirs(run.intermediate, exist_ok=True)
        save_weights_as(task.template, weights, run.epoch_model(self.epoch))
        ranked = history.ranked_epochs(self.history, task.monitor)
        best = ranked[: task.keep]
        for epoch in set(ranked) - set(best):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(run.epoch_model(epoch))
        files = {epoch: os.path.basename(run.epoch_model(epoch)) for epoch in best}
        history.write_table(run.epochs, self.history, files)

    def stop(self, signalled):
        """Save between two steps, and say so. Raises WorkError if it was another worker that was signalled."""
        if not all(np.isfinite(weight).all() for weight in self.weights()):
            raise self._diverged(self.step, "after")
        self.save()
        same = f"the same command without {option('fresh')}" if self._settings.fresh else "the same command"
        log.info(f"Stopped after {self.epoch} epochs and {self.step} steps; {same} resumes there.")
        if not signalled:
            raise WorkError("Another worker was stopped, so all stop.")

    def finish(self):
        """Write the run's results, and remove its state."""
        history.draw_history(self._run, self.history, self._task.monitor)
        save_weights_as(self._task.template, self.best, self._run.model)
        for path in (self._run.state, self._run.file(_SO_FAR)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _agreement(team, signalled):
    """A function that says whether to stop; all workers stop between the same two steps."""
    if team.workers == 1:
        return lambda: bool(signalled)
    asked = itertools.count(1)
    return lambda: next(asked) % _AGREE_STEPS == 0 and _sum(team.strategy, float(bool(signalled))) > 0


def _sum(strategy, value):
    """The sum over all replicas of each worker's number."""
    values = strategy.experimental_distribute_values_from_function(lambda context: tf.constant(value, "float32"))
    return float(strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None))


def save_weights_as(template, weights, path):
    """Assign weights to a model and save it."""
    for weight, value in zip(template.weights, weights):
        weight.assign(value)
    save_model(template, path)


def _check_disk(task, run, epochs):
    """Raise WorkError if the disk lacks room for `epochs` more epochs, beside those of the run's files that stay."""
    weights = sum(4 * math.prod(weight.shape) for weight in task.model.weights)
    state = 2 * 4 * weights  # weights, the optimizer's two moments, best weights; twice while it is replaced
    models = epochs if task.keep is None else min(epochs, task.keep)
    need = state + (models + 1) * (weights + (1 << 18))
    replaced = [run.state] if task.keep is None else [run.state, *glob.glob(f"{glob.escape(run.intermediate)}/*.keras")]
    free = shutil.disk_usage(run.best).free + sum(os.path.getsize(path) for path in replaced if os.path.isfile(path))
    if need > free:
        cure = f"; {option('keep')} N keeps the N best ones" if task.keep != 0 else ""
        what = f"the models of {models:,} epochs ({option('save_epochs')})" if task.keep != 0 else "the training"
        raise WorkError(f"{run.best}: {what} would take about {amount(need)}, and {amount(free)} are free{cure}.")


def _array(variable):
    return tf.convert_to_tensor(variable).numpy()


def _versions():
    """The versions that a state depends on, since optimizers' variables differ between them."""
    return {"TensorFlow": tf.__version__, "Keras": keras.__version__}


def _line(values):
    """Metrics as text."""
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
