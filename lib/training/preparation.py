"""What every training begins with: the model and the records, opened and checked against each other."""

import dataclasses
import platform
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from lib.cli import legacy as cli
from lib.data.records import check_bands, load_images, open_records, tell_left_out
from lib.errors import UsageError
from lib.models.inference import try_out
from lib.models.keras_files import load_model
from lib.training import randomness


class Trainee(NamedTuple):
    """A model that is to be trained.

    Attributes:
        model: the Keras model, made in the scope of the team's strategy.
        template: the same outside of it, to be saved.
    """

    model: Any
    template: Any


def start_randomness(seed, deterministic):
    """Let all that is drawn from now on follow from a seed; if `deterministic`, each run give the same bits."""
    keras.utils.set_random_seed(seed % 2**32)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    randomness.prepare()


def open_trainee(option, path, outputs, precision, size, strategy):
    """Open a `.keras` file to train it on images of a size.

    Args:
        option: what names the file, for messages.
        path, outputs, precision: see `lib.models.keras_files.load_model`.
        size: the height and width of the images, in pixels.
        strategy: a `tf.distribute.Strategy`.

    Returns:
        A `Trainee`, which records `size` where it is saved.

    Raises:
        UsageError: the file can't be used, or takes images of bands that records don't have.
    """
    with cli.naming(option):
        template = load_model(path, outputs)
        check_bands(template, path)
        with strategy.scope():
            model = load_model(path, outputs, precision)
    template.image_size = size
    return Trainee(model, template)


def check_size(trainee, path, option, size):
    """Raise UsageError if the model of a file takes no images of a size, which an option tells.

    It is tried out, in the template: what a model learns by that is not to be in the one that is trained.
    """
    height, width, bands = trainee.template.input_shape[1:]
    if {height, width} - {None, size}:
        raise UsageError(f"{option}: {path} takes {width} x {height} images, not {size} x {size}.")
    try_out(trainee.template, f"{option}: {path}", (size, size, bands), training=True)


def open_images(
    train, validate, outputs, bands, batch, batch_option, replicas, execution, number_map, skip_bad, report
):
    """Open and decode the records to train on and to validate with.

    Args:
        train, validate: paths of record files.
        outputs: how many categories there are.
        bands: 3 or 1.
        batch: how many images a step has.
        batch_option: what says so, for messages.
        replicas: how many devices share it.
        execution: `lib.cli.execution.Execution`.
        number_map: a dictionary old -> new category; None for none.
        skip_bad: whether bad records are left out.
        report: called with each message for the user.

    Returns:
        `lib.data.records.Images` of both, and sentences about what was left out.

    Raises:
        UsageError: records or a batch that don't fit.
        WorkError: bad records.
    """
    opened = [
        open_records(files, setting, outputs, number_map, skip_bad)
        for files, setting in ((train, "train"), (validate, "validate"))
    ]
    if batch > len(opened[0]):
        raise UsageError(f"{batch_option}: {batch} is more than the {len(opened[0]):,} records of -t/--train.")
    if batch % replicas:
        raise UsageError(f"{batch_option}: {batch} can't be divided evenly among {replicas} devices.")
    images, validation = (
        load_images(records, bands, execution.cache, execution.processors, skip_bad) for records in opened
    )
    if batch > len(images):
        raise UsageError(f"{batch_option}: {batch} is more than the {len(images):,} usable images of -t/--train.")
    return images, validation, tell_left_out((images, validation))


def circumstances(execution, strategy, images, validation, left_out):
    """What is worth recording of how a training is carried out and on what, for JSON."""
    return {
        "execution": dataclasses.asdict(execution),
        "devices": [device.name for device in tf.config.list_logical_devices()],
        "replicas": strategy.num_replicas_in_sync,
        "versions": {"Python": platform.python_version(), "TensorFlow": tf.__version__, "Keras": keras.__version__},
        "training_records": len(images),
        "validation_records": len(validation),
        "left_out": left_out,
    }


def conduct_options(execution):
    """The arguments of `lib.training.loop.Conduct` that follow from `Execution`."""
    names = ("steps_per_execution", "jit", "tensorboard", "evaluate_first", "fresh")
    return {name: getattr(execution, name) for name in names}
