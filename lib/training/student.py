"""Distilling a teacher into a student on records: the student learns to answer as it does (arXiv:1503.02531)."""

import dataclasses
import functools
import os
import sys
from typing import Optional, Tuple

from lib.cli.execution import Execution
from lib.errors import UsageError, WorkError
from lib.training.hyperparameters import KEYS, Hyperparameters
from lib.training.run import carry_out

PATIENCE = 16  # epochs
MONITORS = ("val_f1", "val_loss", "agreement")

INPUTS = ("student", "teacher", "train", "validate")  # the attributes of `Settings` that name files


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that a student follows from; the options of `distillOptimizeImagesR.py` by other names.

    Attributes:
        student: the `.keras` file to begin with.
        teacher: the `.keras` file or SavedModel directory to learn from; None to learn from the records' labels.
        outputs: how many categories there are.
        train, validate: record files.
        search: how images are changed and the student is trained.
        teacher_output: which output of a SavedModel; see `lib.models.teacher_files.open_teacher`.
        teacher_size: height and width that images are cropped and resized to, for the teacher.
        student_size: height and width of what of those the student sees.
        mixup: with what probability an image is mixed with another one.
        temperature_squared: whether the loss is multiplied by the square of the temperature.
        epochs, patience: at most how many, and how many without a better `monitor`.
        monitor: one of `MONITORS`.
        seed: of all that is drawn at random.
        precision: the dtype policy of the student's layers.
        skip_bad: whether bad records are left out.
    """

    student: str
    teacher: Optional[str]
    outputs: int
    train: Tuple[str, ...]
    validate: Tuple[str, ...]
    search: Hyperparameters = Hyperparameters()  # noqa: RUF009 - it is frozen
    teacher_output: Optional[str] = None
    teacher_size: int = 224
    student_size: int = 64
    mixup: float = 1.0
    temperature_squared: bool = False
    epochs: int = 32
    patience: int = PATIENCE
    monitor: str = "val_f1"
    seed: int = 123456789
    precision: str = "float32"
    skip_bad: bool = False


def distill(settings, output, execution=None, command=(), report=print, tell=print, watch=None):
    """Distil, go on with it, or find that it is done.

    Args:
        settings: `Settings`.
        output: the directory for the run's.
        execution: `lib.cli.execution.Execution`.
        command: the command line, to be recorded.
        report: called with each message for the user.
        tell: called with each result for the user.
        watch: see `lib.training.loop.Conduct`.

    Returns:
        The path of the student; None on workers that don't write it.

    Raises:
        UsageError: settings that don't fit the student, the teacher or the records.
        WorkError: bad records, a damaged state, a loss that is no number, no room.
    """
    execution = execution or Execution()
    prepare = functools.partial(_prepare, settings, execution, watch)
    return carry_out(settings, INPUTS, output, execution, prepare, command, report, tell)


def distill_telling(settings, output, execution, command, tell_scores):
    """Distil as `distill` does, messages to stderr; what a search calls, in a process of its own.

    Args:
        settings, output, execution, command: see `distill`.
        tell_scores: called after each epoch with the validation F1s so far.

    Returns:
        The validation F1s of all epochs.
    """
    from lib.training.history import read_history

    student = distill(
        settings,
        output,
        execution,
        command,
        functools.partial(print, file=sys.stderr),
        watch=lambda history: tell_scores(history["val_f1"]),
    )
    return read_history(os.path.join(os.path.dirname(student), "training-history.tsv"))["val_f1"]


def fitting_ranges(settings, ranges):
    """The ranges of a search that fit its records and its teacher, if it has one.

    Args:
        settings: `Settings`.
        ranges: `lib.training.hyperparameters.Key` -> lowest and highest value.

    Returns:
        The same with one for `batch`, no higher than the records allow, and without a teacher one temperature.

    Raises:
        UsageError: the ranges go beyond what there are records.
        WorkError: bad records, unless they are skipped.
    """
    from lib.data.records import open_records

    keys = {key.attribute: key for key in KEYS}
    batch, temperature = keys["batch_power"], keys["distill_temperature"]
    count = len(open_records(settings.train, "train", settings.outputs, skip_bad=settings.skip_bad))
    most = count.bit_length() - 1
    if batch in ranges and ranges[batch][1] > most:
        raise UsageError(f"--ranges: {batch.name} can be at most {most}, since -t/--train has {count:,} records.")
    found = {batch: tuple(min(power, most) for power in batch.range), **ranges}
    if settings.teacher is None:
        found[temperature] = (Hyperparameters().distill_temperature,) * 2
    return found


def distillation_loss(teacher, student, temperature):
    """KL(softmax(teacher / T) ‖ softmax(student / T)) of each image.

    Args:
        teacher, student: float `(B, classes)` logits.
        temperature: T.

    Returns:
        float32 `(B,)`, 0 or more. From the logarithms, so that no probability is cut off, however many classes.
    """
    import tensorflow as tf

    expected = tf.nn.log_softmax(tf.cast(teacher, "float32") / temperature)
    given = tf.nn.log_softmax(tf.cast(student, "float32") / temperature)
    return tf.reduce_sum(tf.exp(expected) * (expected - given), axis=-1)


def _prepare(settings, execution, watch, team, report):
    """Open student, teacher and records and check that they fit.

    Returns:
        The `lib.training.loop.Task`, the `lib.training.loop.Conduct`, and what is worth recording, for JSON.
    """
    from lib.models.inference import try_out
    from lib.training.augmentation import draw, epoch_order
    from lib.training.batches import mixed_examples, training_feed
    from lib.training.loop import Conduct, Task
    from lib.training.optimizers import build_optimizer
    from lib.training.preparation import (
        check_size,
        circumstances,
        conduct_options,
        open_images,
        open_trainee,
        start_randomness,
    )
    from lib.training.schedules import CyclicalLearningRate

    search = settings.search
    start_randomness(settings.seed, execution.deterministic)
    strategy = team.strategy
    trainee = open_trainee(
        "-s/--student", settings.student, settings.outputs, settings.precision, settings.student_size, strategy
    )
    model = trainee.model
    if not model.trainable_weights:
        raise UsageError(f"-s/--student: all layers of {settings.student} are frozen, so it can't learn.")
    check_size(trainee, settings.student, "-S/--size", settings.student_size)
    teach = _open_teacher(settings, model.input_shape[-1], strategy)
    images, validation, left_out = open_images(
        settings.train,
        settings.validate,
        settings.outputs,
        model.input_shape[-1],
        search.batch,
        f"-l/--log: the batch size 2^{search.batch_power}",
        strategy.num_replicas_in_sync,
        execution,
        None,
        settings.skip_bad,
        report,
    )
    if images.shape[0] != images.shape[1] and (search.rotate_one or search.rotate_three):
        raise UsageError(
            f"-l/--log: rotateOne and rotateThree need square images, but those of -t/--train are "
            f"{images.shape[1]} x {images.shape[0]}."
        )
    half_cycle = max(1, round(search.clr_step * search.batch))  # steps
    schedule = CyclicalLearningRate(search.learning_rate / 4, search.learning_rate, half_cycle)
    with strategy.scope():
        optimizer = build_optimizer("aw", schedule, search.weight_decay, settings.precision)

    order = functools.lru_cache(maxsize=1)(functools.partial(epoch_order, settings.seed, count=len(images)))

    def feed(epoch, step, replica, replicas):
        crops = (search.scale_low, search.scale_high), (search.ratio_low, search.ratio_high)
        draws = draw(settings.seed, epoch, step, search.batch, *crops, search, settings.mixup)
        indices = order(epoch)[step * search.batch : (step + 1) * search.batch]
        return training_feed(images, indices, draws, replica, replicas)

    def examples(feed):
        mixed = mixed_examples(feed, settings.teacher_size, settings.outputs, search=search)
        answers = None if teach is None else teach(mixed.pixels)
        return mixed._replace(pixels=_resized(mixed.pixels, settings.student_size), teacher=answers)

    try_out(
        trainee.template,
        f"-s/--student: {settings.student}",
        (settings.student_size, settings.student_size, images.shape[-1]),
    )
    loss = _build_loss(settings)
    task = Task(
        team=team,
        model=model,
        template=trainee.template,
        optimizer=optimizer,
        steps=len(images) // search.batch,
        batch=search.batch,
        classes=settings.outputs,
        feed=feed,
        examples=examples,
        loss=loss,
        score=_build_scorer(settings, model, loss, validation, teach, strategy, report),
        seed=settings.seed,
        penalised=teach is None,
        taught=teach is not None,
    )
    conduct = Conduct(
        epochs=settings.epochs,
        patience=settings.patience,
        monitor="val_agreement" if settings.monitor == "agreement" else settings.monitor,
        watch=watch,
        rate_option="learningRate in the log",
        batch_option="batch in the log",
        **conduct_options(execution),
    )
    return task, conduct, circumstances(execution, strategy, images, validation, left_out)


def _open_teacher(settings, bands, strategy):
    """The function of `lib.models.teacher_files.open_teacher`; None without a teacher."""
    if settings.teacher is None:
        return None
    from lib.cli import legacy as cli
    from lib.models.teacher_files import open_teacher

    with cli.naming("-m/--model"), strategy.scope():
        return open_teacher(settings.teacher, settings.outputs, settings.teacher_size, bands, settings.teacher_output)


def _build_loss(settings):
    """The loss, from `lib.training.batches.Examples`, logits and the whole batch to float32 `(B,)`."""
    from lib.measures.losses import build_loss

    temperature = settings.search.distill_temperature
    if settings.teacher is None:
        supervised = build_loss("ce")
        return lambda examples, logits, batch: supervised(examples.labels, logits, batch)
    factor = temperature**2 if settings.temperature_squared else 1.0
    return lambda examples, logits, batch: factor * distillation_loss(examples.teacher, logits, temperature)


def _resized(pixels, size):
    """Images `(B, height, width, bands)` at a size, bilinear without antialiasing."""
    import tensorflow as tf

    return pixels if pixels.shape[1:3] == (size, size) else tf.image.resize(pixels, (size, size))


def _build_scorer(settings, model, loss, validation, teach, strategy, report):
    """The `build_scorer` of the validation images as they are; the teacher answers each once."""
    from lib.training.batches import plain_examples, plain_feed, taught_feed
    from lib.training.validation import build_scorer

    batch = settings.search.batch
    answers = None if teach is None else _answers(settings, validation, teach, report)

    def feed(start, *replica):
        if answers is None:
            return plain_feed(validation, start, batch, *replica)
        return taught_feed(validation, answers, start, batch, *replica)

    def examples(feed):
        plain = plain_examples(feed, settings.outputs)
        given = getattr(feed, "teacher", None)
        if given is None and teach is not None:
            given = teach(_resized(plain.pixels, settings.teacher_size))
        return plain._replace(pixels=_resized(plain.pixels, settings.student_size), teacher=given)

    return build_scorer(
        strategy,
        model,
        loss,
        len(validation),
        settings.outputs,
        batch,
        feed,
        examples,
        penalised=teach is None,
        taught=teach is not None,
    )


def _answers(settings, validation, teach, report):
    """The teacher's logits of all validation images, float32 `(images, outputs)`; None if there is no room for them."""
    import numpy as np

    from lib.data.records import choose_cache, make_room
    from lib.system.progress import progress
    from lib.training.validation import answer

    shape = (len(validation), settings.outputs)
    cache = choose_cache(4 * int(np.prod(shape)))
    answers, done = make_room(cache, shape, "float32"), 0
    if answers is None:
        report("Not enough room to keep the teacher's outputs for validation: they are recomputed in each epoch.")
        return None
    report(f"Running the teacher on the {len(validation):,} images of -v/--validate.")

    def compute(pixels):
        return teach(_resized(pixels, settings.teacher_size))

    with progress(len(validation), "images") as advance:
        for logits in answer(validation, compute, settings.search.batch, threads=1):
            if not np.isfinite(logits).all():
                raise WorkError(
                    f"-m/--model: {settings.teacher} gives infinite or NaN outputs for images of -v/--validate."
                )
            answers[done : done + len(logits)] = logits
            done += len(logits)
            advance(len(logits))
    return answers
