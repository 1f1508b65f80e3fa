"""Distilling a teacher into a student on records: the student learns to answer as it does (arXiv:1503.02531)."""

import dataclasses
import logging
from typing import Optional, Tuple

from lib.errors import UsageError, WorkError, concerning, option
from lib.training.hyperparameters import best_row, read_log
from lib.training.run import Execution, record, started

log = logging.getLogger(__name__)

MONITORS = ("val_f1", "val_loss", "agreement")


@dataclasses.dataclass(frozen=True)
class Distillation:
    """What a student follows from besides `Hyperparameters`, and where it goes.

    Attributes:
        student: the `.keras` file to begin with.
        teacher: the `.keras` file or SavedModel directory to learn from; None to learn from the records' labels.
        categories: their number.
        train, validate: record files.
        output: the directory for the runs', or for a search's log.
        teacher_output: which output of a SavedModel; see `open_teacher`.
        teacher_size: height and width that images are cropped and resized to, for the teacher; without one the
            student's are.
        student_size: height and width of what the student sees of those.
        temperature_squared: whether the loss is multiplied by the square of the temperature.
        epochs: at most how many.
        seed: of all that is drawn at random.
        precision: the dtype policy of the student's layers.
        skip_bad: whether bad records are left out.
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
    """All of it. The fields of the last base come first, as in `lib.training.classifier.Settings`.

    Attributes:
        log: the directory with `optimization-log.tsv`; None where the hyperparameters come from elsewhere.
        mixup: with what probability an image is mixed with another one, whatever the log says.
        patience: how many epochs without a better `monitor` end the training.
        monitor: one of `MONITORS`.
    """

    log: Optional[str] = None
    mixup: float = 1.0
    patience: int = 16
    monitor: str = MONITORS[0]


def distill(settings):
    """Distil with the best hyperparameters of a log, resume, or find that it is done.

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
    """The same with given `Hyperparameters`.

    Args:
        settings: `Settings`, whose `log` is passed over.
        hyperparameters: how images are changed and the student is trained.
        watch: see `lib.training.loop.fit`.
    """
    with started(settings, log=dataclasses.asdict(hyperparameters)) as start:
        if start.team is not None:
            _train(settings, hyperparameters, start, watch)
    return start.result


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


def _train(settings, hyperparameters, start, watch):
    """Train in the run's directory."""
    from lib.training import randomness
    from lib.training.inputs import open_data
    from lib.training.loop import fit

    team = start.team
    randomness.start(settings.seed, settings.deterministic)
    trainee = _open_trainee(settings, team.strategy)
    bands = trainee.model.input_shape[-1]
    teach = _open_teacher(settings, bands, team.strategy)
    data = open_data(settings, bands, team, hyperparameters.batch, "log")
    _check_turns(hyperparameters, data.train)
    task = build_task(settings, hyperparameters, team, trainee, teach, data)
    record(start, settings, data, hyperparameters=dataclasses.asdict(hyperparameters))
    fit(task, settings, start.run, watch)


def build_task(settings, hyperparameters, team, trainee, teach, data):
    """Put together what a student is trained by.

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
    from lib.training.optimizers import build_optimizer, cycling

    half_cycle = max(1, round(hyperparameters.clr_step * hyperparameters.batch))
    rates = cycling(hyperparameters.learning_rate, half_cycle)
    with team.strategy.scope():
        optimizer = build_optimizer("aw", rates, hyperparameters.weight_decay, settings.precision)
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
        monitor="val_agreement" if settings.monitor == "agreement" else settings.monitor,
        rate="learningRate in the log",
        size="batch in the log",
    )


def _open_trainee(settings, strategy):
    """The student as a `Trainee`."""
    from lib.training.inputs import open_trainee

    trainee = open_trainee(settings, "student", "student_size", strategy)
    if not trainee.model.trainable_weights:
        raise UsageError(f"all layers of {settings.student} are frozen, so it can't learn.", "student")
    return trainee


def _open_teacher(settings, bands, strategy):
    """The function of `open_teacher`; None without a teacher."""
    if settings.teacher is None:
        return None
    from lib.models.teacher_files import open_teacher

    with concerning("teacher"), strategy.scope():
        return open_teacher(
            settings.teacher, settings.categories, settings.teacher_size, bands, settings.teacher_output
        )


def _check_turns(hyperparameters, images):
    """Raise UsageError where images that aren't square would be turned by a quarter."""
    height, width, _ = images.shape
    if height != width and (hyperparameters.rotate_one or hyperparameters.rotate_three):
        theirs = f"those of {option('train')} are {width} x {height}"
        raise UsageError(f"rotateOne and rotateThree need square images, but {theirs}.", "log")


def _build_loss(settings, hyperparameters):
    """The loss of `Examples`, logits and the whole `Batch`."""
    from lib.measures.losses import build_loss

    temperature = hyperparameters.distill_temperature
    if settings.teacher is None:
        supervised = build_loss("ce")
        return lambda examples, logits, batch: supervised(examples.labels, logits, batch)
    factor = temperature**2 if settings.temperature_squared else 1.0
    return lambda examples, logits, batch: factor * distillation_loss(examples.teacher, logits, temperature)


def _training(settings, hyperparameters, images, teach, loss):
    """The `Phase` of training: images changed, cropped and mixed; teacher and student see the same."""
    from lib.training.batches import Phase, mixed_examples, shuffled

    size = settings.student_size if teach is None else settings.teacher_size

    def examples(feed):
        mixed = mixed_examples(feed, size, settings.categories, hyperparameters=hyperparameters)
        answers = None if teach is None else teach(mixed.pixels)
        return mixed._replace(pixels=_resized(mixed.pixels, settings.student_size), teacher=answers)

    drawing = {"crops": hyperparameters.crops, "hyperparameters": hyperparameters, "mixup": settings.mixup}
    feed = shuffled(images, settings.seed, hyperparameters.batch, **drawing)
    return Phase(len(images) // hyperparameters.batch, feed, examples, loss)


def _validation(settings, hyperparameters, images, teach, loss):
    """The `Phase` of validation: images as they are; the teacher answers each once if there is room to keep that."""
    from lib.training.batches import Phase, plain_examples, plain_feed, taught_feed

    batch = hyperparameters.batch
    answers = None if teach is None else _answers(settings, images, teach, batch)

    def feed(step, *replica):
        if answers is None:
            return plain_feed(images, step * batch, batch, *replica)
        return taught_feed(images, answers, step * batch, batch, *replica)

    def examples(feed):
        plain = plain_examples(feed, settings.categories)
        given = getattr(feed, "teacher", None)
        if given is None and teach is not None:
            given = teach(_resized(plain.pixels, settings.teacher_size))
        return plain._replace(pixels=_resized(plain.pixels, settings.student_size), teacher=given)

    return Phase(-(-len(images) // batch), feed, examples, loss)


def _resized(pixels, size):
    """Images `(B, height, width, bands)` at a size, bilinear without antialiasing."""
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
