"""Training a classifier on records, from the settings of a command line to a saved model."""

import dataclasses
import functools
from typing import Dict, Optional, Tuple

import numpy as np

from lib.cli.execution import Execution
from lib.errors import UsageError
from lib.measures.recipes import DEFAULT_RECIPE, Recipe, cover
from lib.training.run import carry_out

_INPUTS = ("model", "train", "validate", "number_map")  # the attributes of `Settings` that name files


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that a trained model follows from; the options of `trainImagesC.py` by other names.

    Attributes:
        model: the `.keras` file to begin with.
        outputs: how many categories there are.
        train, validate: record files.
        number_map: a table that gives categories other numbers.
        recipe: loss and optimizer.
        batch: images of a step.
        epochs, patience: at most how many, and how many without a better validation macro F1.
        size: height and width that images are cropped and resized to for training.
        learning_rate: the highest.
        decay: the decoupled weight decay.
        focal_alpha, focal_gamma, beta, gamma, tau, ccm: parameters of losses, see `lib.measures.losses.build_loss`.
        class_counts: images of each class; None for those of `train`.
        class_weights: what a loss is multiplied with, for each class; None for 1.
        remix, remix_kappa, remix_tau: see `lib.training.augmentation.remix`.
        first: the first layer that is trained; None to train what the file says.
        seed: of all that is drawn at random.
        precision: the dtype policy of the layers.
        skip_bad: whether bad records are left out.
        save_epochs, keep: see `lib.training.loop.Conduct`.
    """

    model: str
    outputs: int
    train: Tuple[str, ...]
    validate: Tuple[str, ...]
    number_map: Optional[str] = None
    recipe: Recipe = DEFAULT_RECIPE
    batch: int = 16
    epochs: int = 256
    patience: int = 256
    size: int = 64
    learning_rate: float = 0.005
    decay: float = 0.0001
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    beta: float = 0.99
    gamma: float = 1.0
    tau: float = 0.0
    ccm: Tuple[float, ...] = (1.0, 1.0, 1.0)
    class_counts: Optional[Dict[int, float]] = None
    class_weights: Optional[Dict[int, float]] = None
    remix: bool = False
    remix_kappa: float = 1.0
    remix_tau: float = 0.0
    first: Optional[str] = None
    seed: int = 123456789
    precision: str = "float32"
    skip_bad: bool = False
    save_epochs: bool = False
    keep: Optional[int] = None


def train(settings, output, execution=None, command=(), report=print, tell=print):
    """Train a model, go on with it, or find that it is trained already.

    Args:
        settings: `Settings`.
        output: the directory for the run's.
        execution: `Execution`.
        command: the command line, to be recorded.
        report: called with each message for the user.
        tell: called with each result for the user.

    Returns:
        The path of the trained model; None on workers that don't write it.

    Raises:
        UsageError: settings that don't fit the model or the records.
        WorkError: bad records, a damaged state, a loss that is no number, no room.
    """
    execution = execution or Execution()
    counts = _covering("-y/--ycount", settings.class_counts, settings.outputs)
    weights = _covering("-w/--weight", settings.class_weights, settings.outputs)
    prepare = functools.partial(_prepare, settings, execution, counts, weights)
    return carry_out(settings, _INPUTS, output, execution, prepare, command, report, tell)


def _covering(option, numbers, classes):
    """A dictionary of numbers for each class as an array; None for None."""
    if numbers is None:
        return None
    try:
        found = np.array(cover(numbers, classes), "float32")
    except ValueError as error:
        raise UsageError(f"{option}: it {error}.") from None
    if not found.any():
        raise UsageError(f"{option}: at least one category needs a number above 0.")
    return found


def _prepare(settings, execution, counts, weights, team, report):
    """Open the model and the records and check that they fit.

    Returns:
        The `Task`, the `Conduct`, and what is worth recording, for JSON.
    """
    import tensorflow as tf

    from lib.data.records import read_number_map
    from lib.measures.losses import build_loss
    from lib.models.inference import try_out
    from lib.models.transfer import freeze_before
    from lib.training.augmentation import draw, epoch_order, remix
    from lib.training.batches import mixed_examples, plain_examples, plain_feed, training_feed
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
    from lib.training.validation import build_scorer

    start_randomness(settings.seed, execution.deterministic)
    strategy = team.strategy
    trainee = open_trainee("-m/--model", settings.model, settings.outputs, settings.precision, settings.size, strategy)
    model = trainee.model
    for each in trainee:
        if settings.first is not None:
            freeze_before(each, settings.first)
    if not model.trainable_weights:
        raise UsageError(
            f"-m/--model: all layers of {settings.model} are frozen; name the first layer to train with -s/--smooth."
        )
    check_size(trainee, settings.model, "-i/--input", settings.size)
    height, width, bands = model.input_shape[1:]
    images, validation, left_out = open_images(
        settings.train,
        settings.validate,
        settings.outputs,
        bands,
        settings.batch,
        "-b/--batch",
        strategy.num_replicas_in_sync,
        execution,
        None if settings.number_map is None else read_number_map(settings.number_map),
        settings.skip_bad,
        report,
    )
    if {height, width} - {None, *validation.shape[:2]}:
        raise UsageError(
            f"-v/--validate: {settings.model} takes {width} x {height} images, but these are "
            f"{validation.shape[1]} x {validation.shape[0]}."
        )
    try_out(trainee.template, f"-v/--validate: {settings.model}", validation.shape)

    there = np.bincount(images.records.category, minlength=settings.outputs).astype("float32")
    counts = there if counts is None else counts
    loss = build_loss(
        settings.recipe.loss,
        class_counts=counts,
        cb_beta=settings.beta,
        cb_gamma=settings.gamma,
        la_tau=settings.tau,
        ccm_weights=settings.ccm,
        focal_alpha=settings.focal_alpha,
        focal_gamma=settings.focal_gamma,
    )
    half_cycle = 4 * settings.batch  # steps
    schedule = CyclicalLearningRate(settings.learning_rate / 4, settings.learning_rate, half_cycle)
    with strategy.scope():
        optimizer = build_optimizer(settings.recipe.optimizer, schedule, settings.decay, settings.precision)

    def relabel(labels, others, shares):
        return remix(labels, others, shares, counts, settings.remix_kappa, settings.remix_tau)

    order = functools.lru_cache(maxsize=1)(functools.partial(epoch_order, settings.seed, count=len(images)))

    def feed(epoch, step, replica, replicas):
        draws = draw(settings.seed, epoch, step, settings.batch)
        indices = order(epoch)[step * settings.batch : (step + 1) * settings.batch]
        return training_feed(images, indices, draws, replica, replicas)

    def examples(feed):
        return mixed_examples(feed, settings.size, settings.outputs, relabel if settings.remix else None)

    def weighted_loss(examples, logits, batch):
        losses = loss(examples.labels, logits, batch)
        return losses if weights is None else losses * tf.gather(weights, tf.argmax(examples.labels, axis=-1))

    score = build_scorer(
        strategy,
        model,
        lambda examples, logits, batch: loss(examples.labels, logits, batch),
        len(validation),
        settings.outputs,
        settings.batch,
        lambda start, *replica: plain_feed(validation, start, settings.batch, *replica),
        lambda feed: plain_examples(feed, settings.outputs),
    )
    task = Task(
        team=team,
        model=model,
        template=trainee.template,
        optimizer=optimizer,
        steps=len(images) // settings.batch,
        batch=settings.batch,
        classes=settings.outputs,
        feed=feed,
        examples=examples,
        loss=weighted_loss,
        score=score,
        seed=settings.seed,
    )
    conduct = Conduct(
        epochs=settings.epochs,
        patience=settings.patience,
        save_epochs=settings.save_epochs,
        keep=settings.keep,
        **conduct_options(execution),
    )
    about = circumstances(execution, strategy, images, validation, left_out)
    return task, conduct, {**about, "class_counts": [float(count) for count in counts]}
