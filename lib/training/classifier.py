"""Training a classifier on records, from the settings of a command line to a saved model."""

import dataclasses
import functools
import logging
from typing import Dict, Optional, Tuple

from lib.errors import UsageError, concerning, option
from lib.measures.category_numbers import numbers_of_categories
from lib.measures.losses import LOSSES, LossParameters, build_loss
from lib.measures.recipes import parse_recipe
from lib.training.hyperparameters import PUBLISHED, Augmentation
from lib.training.run import Execution, describe, record, started

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Classification:
    """What a trained classifier follows from, and where it goes.

    Attributes:
        model: the `.keras` file to start from.
        categories: their number.
        train, validate: record files.
        output: the directory for all runs.
        number_map: a table of old and new category numbers.
        recipe: loss and optimizer; see `parse_recipe`.
        batch: images per step.
        epochs: the maximum.
        patience: early stopping after this many epochs without a better validation macro F1.
        size: height and width of the crops for training; None for those that the model is for.
        augment: how the images are changed, cropped and mixed.
        learning_rate: the maximum.
        decay: the decoupled weight decay.
        class_counts: the number of images of each category; None for those of `train`.
        class_weights: the weight of each category's loss; None for 1.
        remix, remix_kappa, remix_tau: see `lib.training.augmentation.remix`.
        train_from: the first layer to train; None to train what the file says.
        seed: of all random draws.
        precision: the dtype policy of the layers.
        skip_bad: whether to leave out bad records.
        save_epochs: whether to save the model of each epoch, too.
        keep: the number of these to keep, the best ones; None for all.
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
    size: Optional[int] = None
    augment: Augmentation = PUBLISHED
    learning_rate: float = 0.005
    decay: float = 0.0001
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
class Settings(Execution, LossParameters, Classification):
    """All settings. Dataclasses take the fields of the last base first, and those without defaults must be first."""


def train(settings):
    """Train a model, resume, or find the run complete.

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
    _tell_unused_parameters(settings)
    counts, weights = (_of_each_category(settings, name) for name in ("class_counts", "class_weights"))
    with started(settings) as start:
        if start.team is not None:
            _train(settings, start, counts, weights)
    return start.result


def _tell_unused_parameters(settings):
    """Say which parameters of losses were given though the loss doesn't depend on them."""
    loss_name, _ = parse_recipe(settings.recipe)
    for field in dataclasses.fields(LossParameters):
        if getattr(settings, field.name) != field.default and field.name not in LOSSES[loss_name].parameters:
            log.info(f"{option(field.name)} makes no difference to the loss {loss_name}.")


def _of_each_category(settings, name):
    """A setting's numbers for each category as float32 `(categories,)`; None if there are none."""
    import numpy as np

    if getattr(settings, name) is None:
        return None
    numbers = np.array(numbers_of_categories(getattr(settings, name), settings.categories, name), "float32")
    if not numbers.any():
        raise UsageError("at least one category needs a number above 0.", name)
    return numbers


def _train(settings, start, counts, weights):
    """Train in the run's directory, with the `_of_each_category` of `class_counts` and `class_weights`."""
    import numpy as np

    from lib.data.records import read_number_map
    from lib.models.inference import try_out
    from lib.training import augmentation, batches, randomness
    from lib.training.inputs import open_data, open_trainee
    from lib.training.loop import Task, fit
    from lib.training.optimizers import build_optimizer
    from lib.training.validation import check_size
    from lib.training.verdict import weakest

    team, batch = start.team, settings.batch
    randomness.start(settings.seed, settings.deterministic)
    trainee = open_trainee(settings, "model", "size", team.strategy)
    number_map = None if settings.number_map is None else read_number_map(settings.number_map)
    data = open_data(settings, trainee.model.input_shape[-1], team, batch, number_map=number_map)
    _log_enlarging(settings, data.train, trainee.size)
    with concerning("model"):
        check_size(trainee.template, data.validate, settings.model, "validate")
    with concerning("validate"):
        try_out(trainee.template, settings.model, data.validate.shape)
    if counts is None:
        counts = np.bincount(data.train.records.category, minlength=settings.categories).astype("float32")

    loss_name, optimizer_name = parse_recipe(settings.recipe)
    with team.strategy.scope():
        rate, decay = settings.learning_rate, settings.decay
        optimizer = build_optimizer(optimizer_name, rate, 4 * batch, decay, settings.precision)
    loss = build_loss(loss_name, settings, counts)
    augmentation.check_square(data.train, settings.augment, "augment")
    mixed = _mixed_examples(settings, trainee.size, counts)
    plain = functools.partial(batches.plain_examples, categories=settings.categories)
    weighted = batches.supervised(loss, weights)
    task = Task(
        team=team,
        model=trainee.model,
        template=trainee.template,
        optimizer=optimizer,
        batch=batch,
        training=batches.training_phase(data.train, settings.seed, batch, mixed, weighted, settings.augment),
        validation=batches.validation_phase(data.validate, batch, plain, batches.supervised(loss)),
        keep=settings.keep if settings.save_epochs else 0,
    )
    record(start, settings, data, image_size=trainee.size, class_counts=[float(count) for count in counts])
    fit(task, settings, start.run)
    matrix, labels = describe(start, settings, trainee.template, data.validate, batch)
    if matrix is not None:
        log.info(weakest(matrix, labels))


def _log_enlarging(settings, images, size):
    """Say so where a model's own size makes images larger, which takes time and tells it nothing new."""
    height, width, _ = images.shape
    if settings.size is None and max(height, width) < size:
        enlarged = f"images of {width} x {height} pixels are enlarged to {size} x {size}"
        log.info(f"The model's own size is taken: {enlarged}; {option('size')} gives another.")


def _mixed_examples(settings, size, counts):
    """The `examples` of the `Phase` of training: images changed, cropped to a size and mixed as the settings say."""
    from lib.training import augmentation, batches

    sizes = {"size": size, "categories": settings.categories}
    mixed = functools.partial(batches.mixed_examples, settings=settings.augment, **sizes)
    if settings.remix:
        rules = {"counts": counts, "kappa": settings.remix_kappa, "tau": settings.remix_tau}
        mixed = functools.partial(mixed, remix=functools.partial(augmentation.remix, **rules))
    return mixed
