"""Training, whatever is trained for: epochs, validation, the best weights, and nothing lost when it is stopped.

A training goes on where it was stopped, and ends with the same numbers as if it had not been: order, crops and mixtures
follow from (seed, epoch, step), and all else is in the state that is written after each epoch.
"""

import contextlib
import dataclasses
import math
import os
import shutil
import time
from typing import Any, Callable, Optional

import keras
import numpy as np
import tensorflow as tf

from lib.errors import DivergenceError, WorkError
from lib.measures import metrics
from lib.measures.losses import penalties, whole_batch
from lib.models.keras_files import save_model
from lib.storage.states import load_state, save_state
from lib.system.memory import amount
from lib.system.processes import postponed
from lib.system.progress import progress
from lib.training import optimizers, randomness
from lib.training.batches import feeds, over_replicas, stacked
from lib.training.history import draw_history, goodness, write_epochs, write_history

_SO_FAR = "best-so-far.keras"
_LOOK_SECONDS = 10  # how often the loss is looked at within an epoch, which makes the device wait
_DRAW_SECONDS = 30
_AGREE_STEPS = 4  # after how many executions several workers ask each other whether one was told to stop


@dataclasses.dataclass(frozen=True)
class Task:
    """What is trained, and how a step goes.

    Attributes:
        team: a `lib.system.devices.Team`.
        model: the Keras model, made in the scope of the team's strategy.
        template: the same model outside of it, to be saved.
        optimizer: a Keras optimizer, made in that scope.
        steps: how many an epoch has.
        batch: how many images one has, over all replicas.
        classes: how many there are.
        feed: called with epoch and step from 0, the number of a replica and how many there are; returns its part of
            the batch as a `NamedTuple` of arrays.
        examples: from those as tensors to `lib.training.batches.Examples`, on the device.
        loss: from those `Examples`, logits and the whole `lib.measures.losses.Batch` to float32 `(B,)`.
        score: of `lib.training.validation.build_scorer`.
        seed: of what the model's layers draw at random.
        penalised: whether the penalties of the model's layers are part of the loss.
        taught: whether the examples hold a teacher's logits.
    """

    team: Any
    model: Any
    template: Any
    optimizer: Any
    steps: int
    batch: int
    classes: int
    feed: Callable
    examples: Callable
    loss: Callable
    score: Callable
    seed: int = 0
    penalised: bool = True
    taught: bool = False


@dataclasses.dataclass(frozen=True)
class Conduct:
    """How a training is carried out; none of it changes what it results in, but for rounding.

    Attributes:
        epochs: at most how many.
        patience: how many epochs without a better `monitor` end it.
        monitor: the metric whose best epoch's weights are the result; the lowest of a loss, else the highest.
        save_epochs: whether the model of each epoch is saved, too.
        keep: of those, so many best ones stay; None for all.
        steps_per_execution: how many steps the device does without coming back.
        jit: whether XLA compiles the step.
        tensorboard: whether the metrics are written for TensorBoard.
        evaluate_first: whether the metrics before the training are reported.
        fresh: whether to begin anew whatever there is to go on from.
        watch: called with the history after each epoch, which is saved then; what it raises ends the training.
        rate_option, batch_option: what sets the learning rate and the size of a batch, for messages.
    """

    epochs: int
    patience: int
    monitor: str = "val_f1"
    save_epochs: bool = False
    keep: Optional[int] = None
    steps_per_execution: int = 1
    jit: bool = False
    tensorboard: bool = False
    evaluate_first: bool = False
    fresh: bool = False
    watch: Optional[Callable] = None
    rate_option: str = "-l/--learning"
    batch_option: str = "-b/--batch"


@dataclasses.dataclass
class _Progress:
    """Where a training is; what is written to go on from, the arrays aside."""

    epoch: int = 0  # how many are finished
    step: int = 0  # how many steps of the next one are
    best: float = -math.inf  # of the monitor's `lib.training.history.goodness`
    best_epoch: int = 0
    history: dict = dataclasses.field(default_factory=dict)


def fit(task, conduct, run, report, tell=print):
    """Train, or go on with it, until it is complete.

    Args:
        task: a `Task`.
        conduct: a `Conduct`.
        run: the `lib.storage.runs.Run`; at the end its model is there.
        report: called with each message for the user.
        tell: called with each result for the user.

    Raises:
        DivergenceError: the loss is no number any more.
        WorkError: there is no room on the disk, the state is damaged, another version's or another run's.
        KeyboardInterrupt and others: the process was told to stop; the state is written.
    """
    trainer = _Trainer(task, conduct, run)
    now = trainer.now
    if now.epoch or now.step:
        within = f" and {now.step} steps" if now.step else ""
        report(f"Resuming after {now.epoch} of at most {conduct.epochs} epochs{within}.")
    if task.team.chief:
        _check_disk(task, conduct, run, now.epoch)
    if conduct.evaluate_first and not (now.epoch or now.step):
        tell(f"Before training: {_line(task.score())}")
    with _events(run, conduct, task) as write_events, postponed() as told:
        drawn = time.monotonic()
        while now.epoch < conduct.epochs and now.epoch - now.best_epoch < conduct.patience:
            values, rate = trainer.epoch(told)
            if values is None:
                trainer.save_within_epoch()
                same = "the same command without --fresh" if conduct.fresh else "the same command"
                report(f"Stopped after {now.epoch} epochs and {now.step} steps; {same} resumes there.")
                if not told:
                    raise WorkError("Another worker was told to stop, so all do.")
                return  # what this process was told happens then
            better = now.best_epoch == now.epoch
            weights = trainer.weights() if conduct.save_epochs else None  # on all workers, as in `save`
            if task.team.chief:
                if conduct.save_epochs:
                    _save_epoch(task, conduct, run, now, weights)
                write_history(run, now.history)
                write_events(now.epoch, values)
                if time.monotonic() - drawn > _DRAW_SECONDS:
                    draw_history(run, now.history, conduct.monitor)
                    drawn = time.monotonic()
            trainer.save()
            report(
                f"Epoch {now.epoch} of {conduct.epochs}: {_line(values)}; {rate:,.0f} images a second"
                f"{', the best so far' if better else ''}."
            )
            if conduct.watch is not None:
                conduct.watch(now.history)
        if task.team.chief:
            draw_history(run, now.history, conduct.monitor)
            save_weights_as(task.template, trainer.best, run.model)
            for path in (run.state, run.file(_SO_FAR)):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
    patience = "" if now.epoch == conduct.epochs else f", the last {conduct.patience} of them without a better one"
    report(
        f"Finished after {now.epoch} epochs{patience}: the best {conduct.monitor} is "
        f"{now.history[conduct.monitor][now.best_epoch - 1]:.4f}, that of epoch {now.best_epoch}."
    )


class _Trainer:
    """A training at work: the compiled step, where it is, and what it goes on from."""

    def __init__(self, task, conduct, run):
        self._task, self._conduct, self._run = task, conduct, run
        strategy = task.team.strategy
        self._counters = metrics.Counters(strategy, task.classes)
        with strategy.scope():
            task.optimizer.build(task.model.trainable_variables)
            # How many steps of an epoch had a finite loss before the first that had not; and whether none had so far.
            self._good, self._finite = (
                tf.Variable(
                    value,
                    trainable=False,
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.MEAN,
                )
                for value in (0.0, 1.0)
            )
        self._execute = self._compile()
        self._asked = 0
        self.now, self.best = _Progress(), []
        if not conduct.fresh:
            self.load()
        if task.team.workers > 1:
            self._compare_workers()

    def _compile(self):
        """Compile the function that does the steps of a feed."""
        task, model, optimizer = self._task, self._task.model, self._task.optimizer
        strategy = task.team.strategy
        replicas = strategy.num_replicas_in_sync
        compiled = tf.function(jit_compile=True) if self._conduct.jit else _unchanged

        @compiled
        def differentiate(examples, batch):
            with tf.GradientTape() as tape:
                logits = tf.cast(model(examples.pixels, training=True), "float32")
                losses = task.loss(examples, logits, batch)
                penalty = penalties(model) if task.penalised else tf.constant(0.0)
                total = tf.reduce_sum(losses) / batch.images + penalty / replicas
                scaled = optimizers.scaled(optimizer, total)
            return logits, losses + penalty, tape.gradient(scaled, model.trainable_variables)

        def step(feed, number):
            examples = task.examples(type(feed)(*(values[number] for values in feed)))
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

    def epoch(self, told):
        """Do an epoch, or the rest of one, and score the model.

        Args:
            told: true as soon as the process is told to stop.

        Returns:
            The metrics, and how many images were trained on in a second; None, None if told to stop.
        """
        task, now = self._task, self.now
        stopped = self._agreed(told)
        start, first = time.monotonic(), now.step
        if not self._steps(stopped):
            return None, None
        trained = metrics.summarise(self._counters.read(), task.taught)
        rate = (now.step - first) * task.batch / (time.monotonic() - start)
        scores = task.score(stopped)
        if scores is None:
            return None, None
        values = {**trained, **{f"val_{name}": value for name, value in scores.items()}}
        values["learning_rate"] = optimizers.learning_rate(task.optimizer)
        if not math.isfinite(values["val_loss"]):
            raise self._no_number(task.steps, "in validation after")
        for name, value in values.items():
            now.history.setdefault(name, []).append(value)
        now.epoch, now.step = now.epoch + 1, 0
        found = goodness(self._conduct.monitor, values[self._conduct.monitor])
        if found > now.best:
            now.best, now.best_epoch, self.best = found, now.epoch, self.weights()
        return values, rate

    def _steps(self, stopped):
        """Do the steps that an epoch still has; False if stopped before the last."""
        task, now = self._task, self.now
        if now.step == 0:
            self._counters.assign(metrics.no_counts(task.classes))
            randomness.reseed(task.model, task.seed, now.epoch)
        self._good.assign(0.0)
        self._finite.assign(1.0)
        epoch, begun, many = now.epoch, now.step, self._conduct.steps_per_execution
        items = [range(step, min(step + many, task.steps)) for step in range(begun, task.steps, many)]

        def make(steps, *replica):
            return stacked([task.feed(epoch, step, *replica) for step in steps])

        images = (task.steps - begun) * task.batch if task.team.chief else 0
        looked = time.monotonic()
        made = feeds(task.team.strategy, items, make)
        with contextlib.closing(made), progress(images, "images", lines=False) as advance:
            for steps, feed in zip(items, made):
                if stopped():
                    self._look(begun)  # so that nothing bad is written over what is good
                    return False
                self._execute(feed, len(steps))
                now.step = steps[-1] + 1
                advance(len(steps) * task.batch)
                if task.team.workers == 1 and time.monotonic() - looked > _LOOK_SECONDS:
                    self._look(begun)
                    looked = time.monotonic()
        self._look(begun)
        return True

    def _look(self, begun):
        """Raise DivergenceError if the loss has become no number."""
        good = int(self._good.read_value().numpy())
        if good < self.now.step - begun:
            raise self._no_number(begun + good + 1, "at")

    def _no_number(self, step, where):
        """The error of a loss that is no number; the best weights so far are saved."""
        kept = "no epoch was finished"
        if self.best:
            kept = f"the best model before is {self._run.file(_SO_FAR)}"
            if self._task.team.chief:
                save_weights_as(self._task.template, self.best, self._run.file(_SO_FAR))
        return DivergenceError(
            f"The loss became infinite or NaN in epoch {self.now.epoch + 1} {where} step {step}; {kept}: try a lower "
            f"{self._conduct.rate_option}."
        )

    def _agreed(self, told):
        """A function that says whether to stop, to be called before each step.

        All workers stop between the same two steps, whichever of them was told.
        """
        if self._task.team.workers == 1:
            return lambda: bool(told)

        def ask():
            self._asked += 1
            return self._asked % _AGREE_STEPS == 0 and self._sum(float(bool(told))) > 0

        return ask

    def _sum(self, value):
        """The sum over all replicas of a number of each worker."""
        strategy = self._task.team.strategy
        values = strategy.experimental_distribute_values_from_function(lambda context: tf.constant(value, "float32"))
        return float(strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None))

    def _compare_workers(self):
        """Raise WorkError unless all workers go on from the same place."""
        place = self.now.epoch * self._task.steps + self.now.step
        mean = self._sum(place) / self._task.team.strategy.num_replicas_in_sync
        if self._sum(abs(place - mean)) > 0.001:
            raise WorkError(
                f"{self._run.best}: the workers find different states there; it must be a shared directory."
            )

    def weights(self):
        """The model's weights as arrays."""
        return [_array(weight) for weight in self._task.model.weights]

    def save(self, counts=()):
        """Write all that the training goes on from; with the counts of an unfinished epoch."""
        # On all workers, since reading a variable may take them all.
        groups = {name: list(map(_array, variables)) for name, variables in self._variables().items()}
        if not self._task.team.chief:
            return
        facts = {"progress": dataclasses.asdict(self.now), "versions": _versions(), "run": self._name}
        save_state(self._run.state, facts, {**groups, "best": self.best, "counts": counts})

    def save_within_epoch(self):
        """The same between two steps of an epoch."""
        if not all(np.isfinite(weight).all() for weight in self.weights()):
            raise self._no_number(self.now.step, "after")
        self.save(self._counters.read())

    @property
    def _name(self):
        """What tells the run from all others."""
        return os.path.basename(self._run.best)

    def load(self):
        """Go on from what was saved, if there is anything. WorkError: it is damaged, or not of this training."""
        facts, groups = load_state(self._run.state)
        if facts is None:
            return
        try:
            self._restore(facts, groups)
        except (AttributeError, KeyError, TypeError, ValueError, tf.errors.OpError) as error:
            raise WorkError(f"{self._run.state} doesn't hold a state of this training; --fresh starts over.") from error

    def _restore(self, facts, groups):
        """Go on from facts and arrays. KeyError, TypeError, ValueError: they are not what `save` writes."""
        if facts.get("run", self._name) != self._name:  # former versions wrote no name
            raise WorkError(f"{self._run.state} is of another run, {facts['run']}; --fresh starts over.")
        wrote, runs = facts["versions"], _versions()
        if wrote != runs:
            wrote, runs = (" and ".join(map(" ".join, versions.items())) for versions in (wrote, runs))
            raise WorkError(
                f"{self._run.state} was written by {wrote}, and this is {runs}: use the former, or start --fresh."
            )
        now = _Progress(**facts["progress"])
        self._check_progress(now)
        groups = {"best": [], "counts": [], "layers": [], **groups}
        variables = self._variables()
        none = metrics.no_counts(self._task.classes)
        of_variables = {name: [(weight.shape, weight.dtype) for weight in found] for name, found in variables.items()}
        wanted = {
            **of_variables,
            "best": of_variables["weights"] if now.best_epoch else [],
            "counts": [(count.shape, count.dtype) for count in none] if now.step or groups["counts"] else [],
        }
        if set(groups) != set(wanted):
            raise ValueError("it has other arrays")
        for name, arrays in groups.items():
            _check_arrays(name, arrays, wanted[name])
        self.now, self.best = now, groups["best"]
        for name, found in variables.items():
            for variable, value in zip(found, groups[name]):
                variable.assign(value)
        if groups["counts"]:
            self._counters.assign(metrics.Counts(*groups["counts"]))

    def _check_progress(self, now):
        """Raise KeyError, TypeError or ValueError unless a `_Progress` is one that this training can come to."""
        whole = all(type(number) is int for number in (now.epoch, now.step, now.best_epoch))
        if not whole or not 0 <= now.epoch <= self._conduct.epochs or not 0 <= now.step <= self._task.steps:
            raise ValueError("its place is none of this training")
        trained = metrics.summarise(metrics.no_counts(self._task.classes), self._task.taught)
        names = {*trained, *(f"val_{name}" for name in trained), "learning_rate"} if now.epoch else set()
        if set(now.history) != names or any(len(values) != now.epoch for values in now.history.values()):
            raise ValueError("its history is not that of its epochs")
        if not all(type(value) is float for values in now.history.values() for value in values):
            raise TypeError("its history is not of numbers")
        found = [goodness(self._conduct.monitor, value) for value in now.history.get(self._conduct.monitor, ())]
        best = max(found, default=-math.inf)
        if (now.best, now.best_epoch) != (best, found.index(best) + 1 if found else 0):
            raise ValueError("its best epoch is not that of its history")

    def _variables(self):
        task = self._task
        return {
            "weights": task.model.weights,
            "optimizer": optimizers.state_of(task.optimizer),
            "layers": randomness.states(task.model),
        }


def save_weights_as(template, weights, path):
    """Save a model with other weights, which it has from then on."""
    for weight, value in zip(template.weights, weights):
        weight.assign(value)
    save_model(template, path)


def _check_arrays(name, arrays, wanted):
    """Raise ValueError unless arrays are finite numbers of these shapes and types."""
    if len(arrays) != len(wanted):
        raise ValueError(f"it has {len(arrays)} arrays {name}, not {len(wanted)}")
    for array, (shape, dtype) in zip(arrays, wanted):
        if array.shape != tuple(shape) or array.dtype != tf.as_dtype(dtype).as_numpy_dtype:
            raise ValueError(f"it has an array {name} of another shape or type")
        if not np.isfinite(array).all():
            raise ValueError(f"it has infinite or NaN values in {name}")


def _array(variable):
    return tf.convert_to_tensor(variable).numpy()


def _unchanged(function):
    return function


def _versions():
    """What a state fits: the optimizers' variables differ from version to version."""
    return {"TensorFlow": tf.__version__, "Keras": keras.__version__}


def _line(values):
    """Metrics as a line of text."""
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def _save_epoch(task, conduct, run, now, weights):
    """Save an epoch's model and list it; keep only the best ones."""
    os.makedirs(run.intermediate, exist_ok=True)
    save_weights_as(task.template, weights, run.epoch_model(now.epoch))
    scores = [goodness(conduct.monitor, value) for value in now.history[conduct.monitor]]
    ranked = sorted(range(1, now.epoch + 1), key=lambda epoch: (-scores[epoch - 1], epoch))
    kept = set(ranked[: conduct.keep])
    for epoch in range(1, now.epoch + 1):
        if epoch not in kept:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(run.epoch_model(epoch))
    files = {epoch: os.path.basename(run.epoch_model(epoch)) for epoch in sorted(kept)}
    write_epochs(os.path.join(run.intermediate, "epochs.tsv"), now.history, files)


def _check_disk(task, conduct, run, done):
    """Raise WorkError if what is still to be written won't fit on the disk."""
    weights = sum(4 * math.prod(weight.shape) for weight in task.model.weights)
    state = 2 * 4 * weights  # them, the optimizer's two for each, and the best ones; while it is replaced, twice
    models = 1
    if conduct.save_epochs:
        models += min(conduct.epochs - done, conduct.keep or conduct.epochs)
    need = state + models * (weights + (1 << 18))
    free = shutil.disk_usage(run.best).free
    if need > free:
        cure = "; --keep N keeps the N best ones" if conduct.save_epochs else ""
        what = f"the models of {models - 1:,} epochs (-Q/--quantity)" if conduct.save_epochs else "the training"
        raise WorkError(f"{run.best}: {what} would take about {amount(need)}, and {amount(free)} are free{cure}.")


@contextlib.contextmanager
def _events(run, conduct, task):
    """A function that writes an epoch's metrics for TensorBoard, if that is wanted."""
    if not conduct.tensorboard or not task.team.chief:
        yield lambda epoch, values: None
        return
    # Not by tf.summary, which needs the package tensorboard, of which today's TensorFlow brings no more.
    folder = os.path.join(run.best, "tensorboard")
    os.makedirs(folder, exist_ok=True)
    writer = tf.io.TFRecordWriter(os.path.join(folder, f"events.out.tfevents.{time.time():.0f}.{os.getpid()}"))
    writer.write(tf.compat.v1.Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())

    def write(epoch, values):
        scalars = [tf.compat.v1.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        summary = tf.compat.v1.Summary(value=scalars)
        writer.write(tf.compat.v1.Event(wall_time=time.time(), step=epoch, summary=summary).SerializeToString())
        writer.flush()

    try:
        yield write
    finally:
        writer.close()
