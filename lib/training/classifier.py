"""Training a classifier on records, from the settings of a command line to a saved model."""

import dataclasses
from typing import Dict, Optional, Tuple

from lib.errors import UsageError, concerning, option
from lib.measures.recipes import cover, parse_recipe
from lib.training.run import Execution, record, started


@dataclasses.dataclass(frozen=True)
class Classification:
    """What a trained classifier follows from, and where it goes.

    Attributes:
        model: the `.keras` file to begin with.
        categories: their number.
        train, validate: record files.
        output: the directory for the runs'.
        number_map: a table that gives categories other numbers.
        recipe: loss and optimizer; see `parse_recipe`.
        batch: images of a step.
        epochs: at most how many.
        patience: how many epochs without a better validation macro F1 end the training (early stopping).
        size: height and width that images are cropped and resized to for training.
        learning_rate: the highest.
        decay: the decoupled weight decay.
        focal_alpha, focal_gamma, beta, gamma, tau, ccm: parameters of losses; see `build_loss`.
        class_counts: images of each class; None for those of `train`.
        class_weights: what a loss is multiplied with, for each class; None for 1.
        remix, remix_kappa, remix_tau: see `lib.training.augmentation.remix`.
        train_from: the first layer that is trained; None to train what the file says.
        seed: of all that is drawn at random.
        precision: the dtype policy of the layers.
        skip_bad: whether bad records are left out.
        save_epochs: whether the model of each epoch is saved, too.
        keep: of those, so many best ones stay; None for all.
    """

    model: str
    categories: int
    train: Tuple[str, ...]
    validate: Tuple[str, ...]
    output: str
    number_map: Optional[str] = None
    recipe: str = "ce+clr+aw"
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
    train_from: Optional[str] = None
    seed: int = 123456789
    precision: str = "float32"
    skip_bad: bool = False
    save_epochs: bool = False
    keep: Optional[int] = None


@dataclasses.dataclass(frozen=True)
class Settings(Execution, Classification):
    """All of it: Python 3.8 puts the fields of the last base first, so that those without a default can come first."""


def train(settings):
    """Train a model, resume, or find that it is trained already.

    Args:
        settings: `Settings`.

    Returns:
        The path of the trained model; None on workers that don't write it.

    Raises:
        UsageError: settings that don't fit the model or the records.
        WorkError: bad records, a damaged state, an infinite or NaN loss, no room.
    """
    if settings.keep is not None and not settings.save_epochs:
        raise UsageError(f"it needs {option('save_epochs')}.", "keep")
    counts, weights = (_of_each_class(settings, name) for name in ("class_counts", "class_weights"))
    with started(settings) as start:
        if start.team is not None:
            _train(settings, start, counts, weights)
    return start.result


def _of_each_class(settings, name):
    """A setting's numbers for each class as float32 `(categories,)`; None for None."""
    import numpy as np

    numbers = getattr(settings, name)
    if numbers is None:
        return None
    try:
        found = np.array(cover(numbers, settings.categories), "float32")
    except ValueError as error:
        raise UsageError(f"it {error}.", name) from None
    if not found.any():
        raise UsageError("at least one category needs a number above 0.", name)
    return found


def _train(settings, start, counts, weights):
    """Train in the run's directory, given what `_of_each_class` made of `class_counts` and `class_weights`."""
    import numpy as np

    from lib.data.records import read_number_map
    from lib.models.inference import try_out
    from lib.training import randomness
    from lib.training.inputs import open_data
    from lib.training.loop import Task, fit
    from lib.training.optimizers import build_optimizer, cycling
    from lib.training.validation import check_size

    team = start.team
    randomness.start(settings.seed, settings.deterministic)
    trainee = _open_trainee(settings, team.strategy)
    number_map = None if settings.number_map is None else read_number_map(settings.number_map)
    data = open_data(settings, trainee.model.input_shape[-1], team, settings.batch, number_map=number_map)
    with concerning("model"):
        check_size(trainee.template, data.validate, settings.model, "validate")
    with concerning("validate"):
        try_out(trainee.template, settings.model, data.validate.shape)
    if counts is None:
        counts = np.bincount(data.train.records.category, minlength=settings.categories).astype("float32")

    recipe = parse_recipe(settings.recipe)
    rates = cycling(settings.learning_rate, half_cycle=4 * settings.batch)
    with team.strategy.scope():
        optimizer = build_optimizer(recipe.optimizer, rates, settings.decay, settings.precision)
    loss = _build_loss(settings, recipe.loss, counts)
    task = Task(
        team=team,
        model=trainee.model,
        template=trainee.template,
        optimizer=optimizer,
        batch=settings.batch,
        training=_training(settings, data.train, _weighted(loss, weights), counts),
        validation=_validation(settings, data.validate, loss),
        keep=settings.keep if settings.save_epochs else 0,
    )
    record(start, settings, data, class_counts=[float(count) for count in counts])
    fit(task, settings, start.run)


def _open_trainee(settings, strategy):
    """The `Trainee`, its first layers frozen."""
    from lib.models.transfer import freeze_before
    from lib.training.inputs import open_trainee

    trainee = open_trainee(settings, "model", "size", strategy)
    if settings.train_from is not None:
        for model in trainee:
            freeze_before(model, settings.train_from)
    if not trainee.model.trainable_weights:
        cure = f"name the first layer to train with {option('train_from')}"
        raise UsageError(f"all layers of {settings.model} are frozen; {cure}.", "model")
    return trainee


def _build_loss(settings, name, counts):
    """The loss of `Examples`, logits and the whole `Batch`."""
    from lib.measures.losses import build_loss

    loss = build_loss(
        name,
        class_counts=counts,
        cb_beta=settings.beta,
        cb_gamma=settings.gamma,
        la_tau=settings.tau,
        ccm_weights=settings.ccm,
        focal_alpha=settings.focal_alpha,
        focal_gamma=settings.focal_gamma,
    )
    return lambda examples, logits, batch: loss(examples.labels, logits, batch)


def _weighted(loss, weights):
    """The loss times the weight of an image's largest label; itself without weights."""
    import tensorflow as tf

    if weights is None:
        return loss

    def weighted(examples, logits, batch):
        return loss(examples, logits, batch) * tf.gather(weights, tf.argmax(examples.labels, axis=-1))

    return weighted


def _training(settings, images, loss, counts):
    """The `Phase` of training: all images in random order, cropped and mixed, without a last partial batch."""
    from lib.training.augmentation import remix
    from lib.training.batches import Phase, mixed_examples, shuffled

    def relabel(labels, others, shares):
        return remix(labels, others, shares, counts, settings.remix_kappa, settings.remix_tau)

    def examples(feed):
        return mixed_examples(feed, settings.size, settings.categories, relabel if settings.remix else None)

    steps = len(images) // settings.batch
    return Phase(steps, shuffled(images, settings.seed, settings.batch), examples, loss)


def _validation(settings, images, loss):
    """The `Phase` of validation: all images as they are."""
    from lib.training.batches import Phase, plain_examples, plain_feed

    def feed(step, *replica):
        return plain_feed(images, step * settings.batch, settings.batch, *replica)

    return Phase(-(-len(images) // settings.batch), feed, lambda feed: plain_examples(feed, settings.categories), loss)
