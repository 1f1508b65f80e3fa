"""The last layer of a model in a `.keras` file, read and replaced without Keras.

It takes the pooled features to the logits. Everything else in the file stays as it is, byte by byte, unless the number
of categories changes: then the layer's `units` in the description do, too, and HDF5 arranges its arrays anew.
"""

import copy
import hashlib
import io
import json
import zipfile
from typing import NamedTuple

import h5py
import numpy as np

from lib.models import keras_archives
from lib.models.keras_descriptions import FEATURES, functional_config, layer_name, read_call, read_ends, references_in
from lib.models.keras_endings import without_activation
from lib.storage.files import whole_file
from lib.storage.untrusted import RefusedError, refusing

_KIND = ".keras file"
_PASSING = ("Dropout",)  # layers that may stand around the last one


class OutputLayer(NamedTuple):
    """The weights of the last layer: logits = features @ kernel + bias.

    Attributes:
        kernel: float32 `(width, categories)`.
        bias: float32 `(categories,)`.
    """

    kernel: np.ndarray
    bias: np.ndarray


def read_output_layer(path):
    """Read the last layer of a `.keras` file.

    Args:
        path: the file, which any Keras since 2.12 may have written.

    Returns:
        `OutputLayer`.

    Raises:
        UsageError: it can't be read, or doesn't end with a dense layer that takes the features to logits or to their
            softmax.
    """
    with refusing(path, _KIND), keras_archives.open_archive(path) as content:
        kernel, bias = _datasets(content, _find_layer(content.description))
        layer = OutputLayer(kernel[()].astype("float32"), bias[()].astype("float32"))
        if not np.isfinite(layer.kernel).all() or not np.isfinite(layer.bias).all():
            raise RefusedError("has infinite or NaN weights")
    return layer


def have_equal_features(path, other):
    """Whether two `.keras` files differ at most in the last layer, so that their features are the same.

    Raises:
        UsageError: see `read_output_layer`.
    """
    return _digest_of_others(path) == _digest_of_others(other)


def _digest_of_others(path):
    """A checksum of the description and the arrays of all layers but the last."""
    digest = hashlib.sha256()
    with refusing(path, _KIND), keras_archives.open_archive(path) as content:
        name = _find_layer(content.description)
        description = _with_units(content.description, name, 0)
        digest.update(json.dumps(description or content.description, sort_keys=True).encode())
        own = {dataset.name for dataset in _datasets(content, name)}
        places = []
        content.arrays.visititems(lambda _, item: places.append(item) if isinstance(item, h5py.Dataset) else None)
        for item in sorted(places, key=lambda item: item.name):
            if item.name not in own:
                digest.update(item.name.encode())
                digest.update(keras_archives.array(item.parent, item.name.rsplit("/", 1)[1], content.size).tobytes())
    return digest.hexdigest()


def write_output_layer(source, target, kernel, bias):
    """Write a copy of a `.keras` file whose last layer has other weights, perhaps of other categories.

    Args:
        source: the file to copy, see `read_output_layer`.
        target: where to write; appears whole or not at all.
        kernel, bias: float `(width, categories)` and `(categories,)`.

    Raises:
        UsageError: see `read_output_layer`.
        OSError: it can't be written.
    """
    with refusing(source, _KIND), keras_archives.open_archive(source) as content:
        name, named = _find_layer(content.description), content.named
        places = [dataset.name for dataset in _datasets(content, name)]
        description = _with_units(content.description, name, len(bias))
    weights = dict(zip(places, (kernel, bias)))
    if named:
        with refusing(source, _KIND), open(source, "rb") as file:
            changed = _with_weights(file.read(), weights, description)
        with whole_file(target, "wb") as file:
            file.write(changed)
        return
    with refusing(source, _KIND), zipfile.ZipFile(source) as archive:
        members = [(copy.copy(info), archive.read(info)) for info in archive.infolist()]
    with whole_file(target, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for info, content in members:
            if info.filename == "model.weights.h5":
                content = _with_weights(content, weights)
            elif info.filename == "config.json" and description is not None:
                content = json.dumps(description).encode()
            archive.writestr(info, content, info.compress_type)


def _find_layer(description):
    """The name of the dense layer that gives the logits; RefusedError if there is none, or it takes no features."""
    stripped, activation = without_activation(description)
    config = functional_config(stripped)
    layers = {layer_name(entry): entry for entry in config["layers"]}
    (end,) = read_ends(config["output_layers"])
    name = _pass_over(layers, end.layer)
    entry = layers[name]
    linear = entry["class_name"] == "Dense" and entry["config"].get("activation", "linear") == "linear"
    if activation == "sigmoid" or not linear or not entry["config"].get("use_bias", True):
        raise RefusedError("doesn't end with a dense layer with a bias that gives logits, or their softmax")
    source = _pass_over(layers, _source_of(entry))
    if FEATURES in layers and source != FEATURES:
        raise RefusedError(f"has the layer {source} between the pooled features and the last layer")
    return name


def _pass_over(layers, name):
    """The name of the first layer, going back from one, that does something."""
    while layers[name]["class_name"] in _PASSING:
        name = _source_of(layers[name])
    return name


def _source_of(entry):
    """The name of the layer that a layer takes its input from."""
    (node,) = entry["inbound_nodes"]
    (reference,) = references_in(read_call(node, lambda value: value))
    return reference.layer


def _datasets(content, name):
    """A layer's kernel and bias in HDF5, after a look at their shapes."""
    parent = keras_archives.layer_groups(content)[name]
    kernel, bias = keras_archives.layer_arrays(parent, content.named, content.size)
    if kernel.ndim != 2 or bias.shape != kernel.shape[1:] or not kernel.size:
        raise ValueError(f"the weights of {name} have the shapes {kernel.shape} and {bias.shape}")
    parent, names = keras_archives.places_of_arrays(parent, content.named)
    return [parent[name] for name in names]


def _with_units(description, name, units):
    """A description whose layer has another number of units; None if it has that number."""
    description = copy.deepcopy(description)
    for entry in description["config"]["layers"]:
        if name == layer_name(entry):
            former, entry["config"]["units"] = entry["config"]["units"], units
    return None if former == units else description


def _with_weights(content, weights, description=None):
    """The bytes of an HDF5 file with other arrays, path -> array, and, unless None, another description."""
    content = bytearray(content)
    with h5py.File(io.BytesIO(content), "r") as file:
        former = {place: file[place] for place in weights}
        kinds = {place: dataset.dtype for place, dataset in former.items()}
        starts = {place: dataset.id.get_offset() for place, dataset in former.items()}  # None if not in one piece
        fits = all(dataset.shape == weights[place].shape for place, dataset in former.items())
    if fits and None not in starts.values() and description is None:
        for place, start in starts.items():
            array = np.ascontiguousarray(weights[place], kinds[place]).tobytes()
            content[start : start + len(array)] = array
        return bytes(content)
    changed = io.BytesIO(content)
    with h5py.File(changed, "r+") as file:
        for place, array in weights.items():
            del file[place]
            file.create_dataset(place, data=np.asarray(array, kinds[place]))
        if description is not None:
            file.attrs["model_config"] = json.dumps(description)
    return changed.getvalue()
