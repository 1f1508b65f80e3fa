"""The inputs of a training: the model and the records, opened and checked against each other."""

import logging
from typing import Any, NamedTuple

from lib.data.records import check_bands, load_images, open_records, tell_left_out
from lib.errors import UsageError, concerning, option
from lib.models.inference import try_out
from lib.models.keras_files import load_model
from lib.models.published import PUBLISHED_SIZE, is_published
from lib.models.transfer import freeze_before

DEFAULT_SIZE = 64  # of models whose files don't say theirs

log = logging.getLogger(__name__)


class Trainee(NamedTuple):
    """A model to train.

    Attributes:
        model: the Keras model, made in the scope of the team's strategy.
        template: the same outside of it, for saving.
        size: the height and width of its images, in pixels.
    """

    model: Any
    template: Any
    size: int


class Data(NamedTuple):
    """The data of a training.

    Attributes:
        train, validate: `lib.data.records.Images`.
        left_out: a sentence about each bad record that was left out.
    """

    train: Any
    validate: Any
    left_out: list


def open_trainee(settings, model, size, strategy):
    """Open a `.keras` file to train it.

    Args:
        settings: with `categories`, `precision` and perhaps `train_from`, the first layer to train.
        model: the name of the setting for the file.
        size: the name of the setting for the height and width of its images, in pixels; its value may be None, for the
            model's own.
        strategy: a `tf.distribute.Strategy`.

    Returns:
        A `Trainee`, which is saved with the size.

    Raises:
        UsageError: the file can't be used, doesn't take such images, or has nothing to train.
    """
    path = getattr(settings, model)
    with concerning(model):
        template = load_model(path, settings.categories)
        check_bands(template, path)
        side = getattr(settings, size) or _own_size(template, path)
        with strategy.scope():
            trainee = Trainee(load_model(path, settings.categories, settings.precision), template, side)
    height, width, bands = template.input_shape[1:]
    if {height, width} - {None, side}:
        raise UsageError(f"{path} takes {width} x {height} images, not {side} x {side}.", size)
    with concerning(size):  # the template, since this changes moving means
        try_out(template, path, (side, side, bands), training=True)
    template.image_size = side
    if template.output_activation is not None:
        ending = f"{path} ends in a {template.output_activation}"
        log.info(f"{ending}: the logits before it are trained, and are what the trained model gives.")
        template.output_activation = None
    train_from = getattr(settings, "train_from", None)
    for each in trainee[:2] if train_from is not None else ():
        freeze_before(each, train_from)
    if not trainee.model.trainable_weights:
        cure = f"; name the first layer to train with {option('train_from')}" if hasattr(settings, "train_from") else ""
        raise UsageError(f"all layers of {path} are frozen, so it can't be trained{cure}.", model)
    return trainee


def _own_size(model, path):
    """The height and width of the images that a model, of a file, is for."""
    fixed = [side for side in model.input_shape[1:3] if side is not None]
    return (fixed or [model.image_size])[0] or (PUBLISHED_SIZE if is_published(path) else DEFAULT_SIZE)


def open_data(settings, bands, team, batch, batch_setting="batch", number_map=None):
    """Open and decode the records for training and validation.

    Args:
        settings: with `train`, `validate`, `categories`, `skip_bad`, `cache` and `processors`.
        bands: 3 or 1.
        team: a `lib.system.devices.Team`, whose devices share each batch.
        batch: images per step.
        batch_setting: the name of the setting for it.
        number_map: a dictionary old -> new category; None for none.

    Returns:
        `Data`.

    Raises:
        UsageError: records or a batch that don't fit.
        WorkError: bad records.
    """
    records = [
        open_records(getattr(settings, name), name, settings.categories, number_map, settings.skip_bad)
        for name in ("train", "validate")
    ]
    replicas = team.strategy.num_replicas_in_sync
    with concerning(batch_setting):
        _check_batch(batch, len(records[0]), "records")
        if batch % replicas:
            raise UsageError(f"a batch of {batch} can't be divided evenly among {replicas} devices.")
    train, validate = (
        load_images(each, bands, settings.cache, settings.processors, settings.skip_bad) for each in records
    )
    with concerning(batch_setting):
        _check_batch(batch, len(train), "usable images")
    return Data(train, validate, tell_left_out((train, validate)))


def _check_batch(batch, count, what):
    if batch > count:
        raise UsageError(f"a batch of {batch} is more than the {count:,} {what} of {option('train')}.")
