"""Distilling a teacher into a student on records (arXiv:1503.02531)."""

import dataclasses
import functools
import logging
from typing import Optional, Tuple

from lib.errors import WorkError, concerning, option
from lib.training.hyperparameters import best_row, read_log
from lib.training.run import Execution, describe, record, started

log = logging.getLogger(__name__)

MONITORS = ("val_f1", "val_loss", "agreement")


@dataclasses.dataclass(frozen=True)
class Distillation:
    """What a student follows from besides `Hyperparameters`, and where it goes.

    Attributes:
        student: the `.keras` file to start from.
        teacher: the `.keras` file or SavedModel directory to learn from; None to learn from the records' labels.
        categories: their number.
        train, validate: record files.
        output: the directory for all runs, or for a search's log.
        teacher_output: the output of a SavedModel to use; see `open_teacher`.
        teacher_size: height and width of the teacher's images.
        student_size: height and width of the student's images, resized from the teacher's.
        temperature_squared: whether to multiply the loss by the square of the temperature.
        epochs: the maximum.
        seed: of all random draws.
        precision: the dtype policy of the student's layers.
        skip_bad: whether to leave out bad records.
    """

    student: str
    teacher: Optional[str]
    categories: int
    train: Tuple[str, ...]
    validate: Tuple[str, ...]
    output: str
    teacher_output: Optional[str] = None
    teacher_size: int = 224
    student_size: int = 64
    temperature_squared: bool = False
    epochs: int = 32
    seed: int = 123456789
    precision: str = "float32"
    skip_bad: bool = False


@dataclasses.dataclass(frozen=True)
class Settings(Execution, Distillation):
    """All settings; for the order of the bases see `lib.training.classifier.Settings`.

    Attributes:
        log: the directory with `optimization-log.tsv`; None where the hyperparameters come from elsewhere.
        mixup: the probability of mixing an image with another one, used instead of the log's.
        patience: early stopping after this many epochs without a better `monitor`.
        monitor: one of `MONITORS`.
    """

    log: Optional[str] = None
    mixup: float = 1.0
    patience: int = 16
    monitor: str = MONITORS[0]


def metric_of(monitor):
    """The metric of a history that one of `MONITORS` stands for."""
    return "val_agreement" if monitor == "agreement" else monitor


def distill(settings):
    """Distil with the best hyperparameters of a log, resume, or find the run complete.

    Args:
        settings: `Settings`.

    Returns:
        The path of the student; None on workers that don't write it.

    Raises:
        UsageError: settings that don't fit the student, the teacher or the records.
        WorkError: bad records, a damaged state, an infinite or NaN loss, no room.
    """
    with concerning("log"):
        row = best_row(read_log(settings.log))
    log.info(f"Training with the settings of iteration {row.iteration} of the log (F1 {row.f1:g}).")
    return train_student(settings, row.settings)


def train_student(settings, hyperparameters, watch=None):
    """Distil with given `Hyperparameters`, resume, or find the run complete; returns and raises as `distill` does.

    Args:
        settings: `Settings`, whose `log` is ignored.
        hyperparameters: of augmentation and training.
        watch: see `lib.training.loop.fit`.
    """
    with started(settings, log=dataclasses.asdict(hyperparameters)) as start:
        if start.team is not None:
            _train(settings, hyperparameters, start, watch)
    return start.result


def distillation_loss(teacher, student, temperature):
    """KL(softmax(teacher / T) ‖ softmax(student / T)) of each image.

    Args:
        teacher, student: float `(B, categories)` logits.
        temperature: T.

    Returns:
        float32 `(B,)`, 0 or more. Computed from logarithms, so that small probabilities aren't clipped.
    """
    import tensorflow as tf

    expected = tf.nn.log_softmax(tf.cast(teacher, "float32") / temperature)
    given = tf.nn.log_softmax(tf.cast(student, "float32") / temperature)
    return tf.reduce_sum(tf.exp(expected) * (expected - given), axis=-1)


def _train(settings, hyperparameters, start, watch):
    """Train in the run's directory."""
    from lib.models.teacher_files import open_teacher
    from lib.training import augmentation, randomness
    from lib.training.inputs import open_data, open_trainee
    from lib.training.loop import fit

    team, teach = start.team, None
    randomness.start(settings.seed, settings.deterministic)
    trainee = open_trainee(settings, "student", "student_size", team.strategy)
    bands = trainee.model.input_shape[-1]
    if settings.teacher is not None:
        with concerning("teacher"), team.strategy.scope():
            size, output = settings.teacher_size, settings.teacher_output
            teach = open_teacher(settings.teacher, settings.categories, size, bands, output)
    data = open_data(settings, bands, team, hyperparameters.batch, "log")
    augmentation.check_square(data.train, hyperparameters, "log")
    task = build_task(settings, hyperparameters, team, trainee, teach, data)
    record(start, settings, data, hyperparameters=dataclasses.asdict(hyperparameters))
    fit(task, settings, start.run, watch)
    prepare = functools.partial(_resized, size=settings.student_size)
    describe(start, settings, trainee.template, data.validate, hyperparameters.batch, prepare)


def build_task(settings, hyperparameters, team, trainee, teach, data):
    """Build the task of a student's training.

    Args:
        settings, hyperparameters: see `train_student`.
        team: a `lib.system.devices.Team`.
        trainee: the student, a `lib.training.inputs.Trainee`.
        teach: of `lib.models.teacher_files.open_teacher`; None without a teacher.
        data: of `lib.training.inputs.open_data`.

    Returns:
        A `lib.training.loop.Task`.
    """
    from lib.training.loop import Task
    from lib.training.optimizers import build_optimizer

    rate, half_cycle = hyperparameters.learning_rate, max(1, round(hyperparameters.clr_step * hyperparameters.batch))
    with team.strategy.scope():
        optimizer = build_optimizer("aw", rate, half_cycle, hyperparameters.weight_decay, settings.precision)
    loss = _build_loss(settings, hyperparameters)
    return Task(
        team=team,
        model=trainee.model,
        template=trainee.template,
        optimizer=optimizer,
        batch=hyperparameters.batch,
        training=_training(settings, hyperparameters, data.train, teach, loss),
        validation=_validation(settings, hyperparameters, data.validate, teach, loss),
        taught=teach is not None,
        monitor=metric_of(settings.monitor),
        rate_option="learningRate in the log",
        batch_option="batch in the log",
    )


def _build_loss(settings, hyperparameters):
    """The `loss` of both phases."""
    from lib.measures.losses import build_loss
    from lib.training.batches import supervised

    if settings.teacher is None:
        return supervised(build_loss("ce"))
    temperature = hyperparameters.distill_temperature
    factor = temperature**2 if settings.temperature_squared else 1.0
    return lambda examples, logits, batch: factor * distillation_loss(examples.teacher, logits, temperature)


def _training(settings, hyperparameters, images, teach, loss):
    """The `Phase` of training; teacher and student see the same augmented images."""
    from lib.training.batches import mixed_examples, training_phase

    size = settings.student_size if teach is None else settings.teacher_size

    def examples(feed):
        mixed = mixed_examples(feed, size, settings.categories, settings=hyperparameters)
        answers = None if teach is None else teach(mixed.pixels)
        return mixed._replace(pixels=_resized(mixed.pixels, settings.student_size), teacher=answers)

    drawn = dataclasses.replace(hyperparameters, mixup=settings.mixup)
    return training_phase(images, settings.seed, hyperparameters.batch, examples, loss, drawn)


def _validation(settings, hyperparameters, images, teach, loss):
    """The `Phase` of validation; the teacher answers each image only once if there is room for the answers."""
    from lib.training.batches import plain_examples, validation_phase

    answers = None if teach is None else _answers(settings, images, teach, hyperparameters.batch)

    def examples(feed):
        plain = plain_examples(feed, settings.categories)
        pixels = _resized(plain.pixels, settings.student_size)
        if teach is None:
            return plain._replace(pixels=pixels)
        given = teach(_resized(plain.pixels, settings.teacher_size)) if answers is None else feed.teacher
        return plain._replace(pixels=pixels, teacher=given)

    return validation_phase(images, hyperparameters.batch, examples, loss, answers)


def _resized(pixels, size):
    """Images `(B, height, width, bands)` resized, bilinear without antialiasing."""
    import tensorflow as tf

    return pixels if pixels.shape[1:3] == (size, size) else tf.image.resize(pixels, (size, size))


def _answers(settings, images, teach, batch):
    """The teacher's logits of all validation images, float32 `(images, categories)`; None if there is no room."""
    import numpy as np

    from lib.data.records import choose_cache, make_room
    from lib.system.progress import progress
    from lib.training.validation import answer

    shape = (len(images), settings.categories)
    answers, done = make_room(choose_cache(4 * int(np.prod(shape))), shape, "float32"), 0
    if answers is None:
        log.info("Not enough room to keep the teacher's outputs for validation: they are recomputed in each epoch.")
        return None
    log.info(f"Running the teacher on the {len(images):,} images of {option('validate')}.")

    def compute(pixels):
        return teach(_resized(pixels, settings.teacher_size))

    with progress(len(images), "images") as advance:
        for logits in answer(images, compute, batch, threads=1):
            if not np.isfinite(logits).all():
                wrong = f"infinite or NaN outputs for images of {option('validate')}"
                raise WorkError(f"{settings.teacher} gives {wrong}.", "teacher")
            answers[done : done + len(logits)] = logits
            done += len(logits)
            advance(len(logits))
    return answers
