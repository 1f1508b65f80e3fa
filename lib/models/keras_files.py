"""`.keras` files of any Keras since 2.12, opened and written by the Keras that runs."""

import errno
import itertools
import json
import math
import os
import shutil
import tempfile
import zipfile
from typing import Any, NamedTuple

import keras
import numpy as np

from lib.errors import UsageError
from lib.models import keras_archives, keras_descriptions, keras_graphs
from lib.models.keras_endings import without_activation
from lib.storage.files import whole_file
from lib.storage.untrusted import RefusedError, one_line, refusing


def load_model(path, categories=None, precision="float32"):
    """Open a `.keras` file.

    Any Keras since 2.12 may have written it (2.12 writes HDF5 under that ending, which is opened, too). Its logits
    are those that Keras 2.13 computes, and the penalties of frozen layers are part of the model's `losses`.

    Args:
        path: the file.
        categories: how many logits the model must give; None for any number.
        precision: the dtype policy of its layers, `mixed_float16` or `mixed_bfloat16`; weights, the scaling of pixels,
            normalizations and the logits are float32 anyway.

    Returns:
        A functional Keras model, not compiled. For the project's models: float32 `(batch, height, width, bands)`,
        0-255, to logits `(batch, categories)`. Its attribute `image_size` is the side in pixels of the images that it
        was made for, None if the file doesn't say. Its attribute `output_activation` is `softmax` or `sigmoid` if that
        is what the file's model ends in, which the model itself does without, else None.

    Raises:
        UsageError: no such file, not a Keras file, cut short, holding other things than plain layers (a Lambda, a
            custom class), with weights that are not finite, or with another number of logits.
    """
    return open_model(path, categories, precision).model


class Opened(NamedTuple):
    """A model with what it takes to give it the weights of other files.

    Attributes:
        model: the Keras model.
        parts: its `keras_graphs.Part`s in the file's order.
        outline: of `keras_graphs.outline`.
    """

    model: Any
    parts: list
    outline: list


def open_model(path, categories=None, precision="float32"):
    """The same as `load_model`, as an `Opened`."""
    with refusing(path, ".keras file"), keras_archives.open_archive(path) as content:
        description, activation = without_activation(content.description)
        if precision != "float32":
            description = keras_graphs.with_precision(description, precision)
        most = keras_archives.most_numbers(content)
        model, parts = keras_graphs.build_model(description, most, content.written_by or keras.__version__)
        model.image_size, model.output_activation = content.image_size, activation
        opened = Opened(model, parts, keras_graphs.outline(content.description))
        _restore(opened, content)
    check_outputs(model, categories, path)
    return opened


def load_weights(opened, path):
    """Give a model the weights of another file of the same architecture, without building that one's model.

    Args:
        opened: of `open_model`; its weights are of no use if the file is bad.
        path: the file.

    Raises:
        UsageError: as of `load_model`, or another architecture.
    """
    with refusing(path, ".keras file"), keras_archives.open_archive(path) as content:
        if keras_graphs.outline(content.description) != opened.outline:
            raise RefusedError("has another architecture")
        _restore(opened, content)


def read_outline(path):
    """The `keras_graphs.outline` of a file's model, without its weights; errors as of `load_model`."""
    with refusing(path, ".keras file"):
        return keras_graphs.outline(keras_archives.read_description(path))


def check_outputs(model, categories, path):
    """Raise UsageError unless the model of a file gives one row of `categories` logits; None for any number."""
    shape = getattr(model.output, "shape", None)
    if shape is None or len(shape) != 2 or shape[-1] is None:
        raise UsageError(f"{path} does not give one row of logits for an image.")
    if categories is not None and shape[-1] != categories:
        raise UsageError(f"{path} has {shape[-1]} outputs where {categories} are needed.")


def save_model(model, path):
    """Write a model as a `.keras` file that holds its layers and weights and no state of a training.

    The file appears whole or not at all. The same model gives the same bytes.

    Args:
        model: a functional or sequential Keras model; its attribute `image_size`, if it has one, is recorded, and its
            `output_activation` is added at the end.
        path: where to write; should end in `.keras`.

    Raises:
        OSError: the folder is missing or can't be written to, or the disk is full; a former file is as it was.
    """
    model = _with_activation(model)
    description = keras_graphs.plain_description(keras.saving.serialize_keras_object(model))
    metadata = {"keras_version": keras.__version__}
    if getattr(model, "image_size", None) is not None:
        metadata["image_size"] = model.image_size
    path = os.path.realpath(path)
    with whole_file(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, content in (("metadata.json", metadata), ("config.json", description)):
            archive.writestr(zipfile.ZipInfo(name), json.dumps(content))  # with no date: the same bytes each time
        _check_room(model, path)
        with tempfile.TemporaryDirectory(prefix=f".{os.path.basename(path)}.", dir=os.path.dirname(path)) as folder:
            weights = os.path.join(folder, "model.weights.h5")
            keras.Model(model.inputs, model.outputs, name=model.name).save_weights(
                weights
            )  # without a training's state
            member = zipfile.ZipInfo("model.weights.h5")
            member.file_size = os.path.getsize(weights)
            with open(weights, "rb") as source, archive.open(member, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def _with_activation(model):
    """A model with its `output_activation` at the end, if it has one."""
    activation = getattr(model, "output_activation", None)
    if activation is None:
        return model
    names = {layer.name for layer in model.layers}
    name = next(name for name in (activation, f"output_{activation}", f"final_{activation}") if name not in names)
    outputs = keras.layers.Activation(activation, name=name)(model.output)
    ending = type(model)(model.input, outputs, name=model.name, trainable=model.trainable)
    ending.image_size = getattr(model, "image_size", None)
    return ending


def _restore(opened, content):
    if content.named:
        _restore_named(opened.parts, content.arrays)
    else:
        _restore_parts(opened.parts, content.arrays)
    if not all(np.isfinite(weight.numpy()).all() for weight in opened.model.weights):  # one at a time, to save memory
        raise RefusedError("has infinite or NaN weights")


def _restore_named(parts, arrays):
    """Give layers the weights of an HDF5 file, where each layer's lie under its name in their order."""
    for part in parts:
        if not _count(part.layer):
            continue
        stored = keras_archives.group(arrays, part.name)
        stored, names = keras_archives.places_of_arrays(stored, named=True)
        weights = list(part.layer.trainable_weights) + list(part.layer.non_trainable_weights)
        if len(names) != len(weights):
            raise ValueError(f"it holds {len(names)} weights for the layer {part.name!r}")
        for weight, name in zip(weights, names):
            weight.assign(keras_archives.array(stored, name, math.prod(weight.shape)))


def _restore_parts(parts, arrays):
    """Give the layers of a model the weights from its group of a weights file."""
    stored = keras_archives.container(arrays)
    if stored is not None:
        _restore_in_order(parts, stored)
    elif any(_count(part.layer) for part in parts):
        raise ValueError(keras_archives.NOWHERE)


def _restore_in_order(parts, arrays):
    places = keras_archives.groups_by_class(arrays)
    for part in parts:
        if not _count(part.layer):
            continue
        waiting = places.get(keras_descriptions.snake_case(part.class_name))
        if not waiting:
            raise ValueError(f"it holds no weights for the layer {part.layer.name!r}")
        stored = keras_archives.group(arrays, waiting.pop(0))
        if part.parts is not None:
            _restore_parts(part.parts, stored)
        elif _restore_layer(part.layer, stored) < _count(part.layer):
            raise ValueError(f"it lacks weights of the layer {part.layer.name!r}")
    surplus = sorted(itertools.chain(*places.values()))
    if surplus:
        raise ValueError(f"it holds weights that belong to no layer ({', '.join(surplus[:3])})")


def _restore_layer(layer, stored):
    """Restore the weights of a layer, and of the layers that it holds as attributes; returns their number."""
    restored = 0
    for name in stored:
        part = keras_archives.group(stored, name)
        # Keras 2 writes the attribute's name as it is, Keras 3 without its underscore.
        held = getattr(layer, name, getattr(layer, "_" + name, None))
        if name == "vars":
            restored += _load_variables(layer, part)
        elif not keras_archives.holds_arrays(part):
            continue
        elif isinstance(held, keras.layers.Layer):
            restored += _restore_layer(held, part)
        elif isinstance(held, (list, tuple)):
            _restore_in_order(
                [keras_graphs.Part(type(item).__name__, item.name, item, None, item) for item in held], part
            )
            restored += sum(map(_count, held))
        else:
            raise ValueError(f"it holds weights for a part {name!r} that {layer.name!r} does not have")
    return restored


def _load_variables(layer, variables):
    if len(variables) > len(layer.weights):
        raise ValueError(f"it holds {len(variables)} arrays for the layer {layer.name!r}")
    most = sum(math.prod(weight.shape) for weight in layer.weights)
    try:
        if len(variables):
            layer.load_own_variables({name: keras_archives.array(variables, name, most) for name in variables})
    except ValueError as error:
        raise ValueError(f"the weights of {layer.name!r} don't fit: {one_line(error)}") from error
    return len(variables)


def _count(layer):
    """How many weights of a layer a file has to hold; the state of random generators isn't one."""
    return sum("float" in str(weight.dtype) for weight in getattr(layer, "weights", ()))


def _check_room(model, path):
    """Raise OSError unless the disk takes a model twice: HDF5 kills the process when it finds the disk full."""
    need = 2 * 4 * sum(math.prod(weight.shape) for weight in model.weights) + (4 << 20)
    if shutil.disk_usage(os.path.dirname(path)).free < need:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
