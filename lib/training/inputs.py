"""What a training begins with: the model and the records, opened and checked against each other."""

from typing import Any, NamedTuple

from lib.data.records import check_bands, load_images, open_records, tell_left_out
from lib.errors import UsageError, concerning, option
from lib.models.inference import try_out
from lib.models.keras_files import load_model


class Trainee(NamedTuple):
    """A model that is to be trained.

    Attributes:
        model: the Keras model, made in the scope of the team's strategy.
        template: the same outside of it, to be saved.
    """

    model: Any
    template: Any


class Data(NamedTuple):
    """What a model is trained on, and what it is validated with.

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
        settings: with `categories` and `precision`.
        model: the name of the setting that names the file.
        size: the name of that which is the height and width of its images, in pixels.
        strategy: a `tf.distribute.Strategy`.

    Returns:
        A `Trainee`, which records the size where it is saved.

    Raises:
        UsageError: the file can't be used, or takes no such images.
    """
    path, side = getattr(settings, model), getattr(settings, size)
    with concerning(model):
        template = load_model(path, settings.categories)
        check_bands(template, path)
        with strategy.scope():
            trainee = Trainee(load_model(path, settings.categories, settings.precision), template)
    height, width, bands = template.input_shape[1:]
    if {height, width} - {None, side}:
        raise UsageError(f"{path} takes {width} x {height} images, not {side} x {side}.", size)
    with concerning(size):  # in the template: what it learns by that, such as moving means, is not to be trained on
        try_out(template, path, (side, side, bands), training=True)
    template.image_size = side
    return trainee


def open_data(settings, bands, team, batch, batch_setting="batch", number_map=None):
    """Open and decode the records to train on and to validate with.

    Args:
        settings: with `train`, `validate`, `categories`, `skip_bad`, `cache` and `processors`.
        bands: 3 or 1.
        team: a `lib.system.devices.Team`, whose devices share each batch.
        batch: images of a step.
        batch_setting: the name of the setting that says so.
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
