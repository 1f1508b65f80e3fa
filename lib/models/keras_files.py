"""`.keras` files of any Keras since 2.12, opened and written by the Keras that runs."""

import contextlib
import errno
import io
import json
import math
import os
import re
import shutil
import struct
import tempfile
import zipfile
from typing import Any, NamedTuple

import h5py
import keras
import numpy as np

from lib.errors import UsageError
from lib.models import keras_graphs
from lib.storage.files import whole_file
from lib.storage.untrusted import parse_json

# A member of a file that was shrunk more than this is refused if it is larger than that.
LARGEST_SHRINKING = 20
SMALL_BYTES = 32 << 20

_SMALL_CHUNK = 1 << 20  # numbers that a chunk of an array may have, however small that is

# Of the places in HDF5 where texts are stored together: what begins one, and what begins a text in it.
_HEAP_HEAD = struct.Struct("<8sQ")
_HEAP_ITEM = struct.Struct("<H6xQ")

# The groups of a weights file that hold a training's state, not a model's.
_TRAINING_STATE = ("optimizer", "metrics", "compile_metrics", "_metrics")


def load_model(path, outputs=None, precision="float32"):
    """Open a `.keras` file.

    Any Keras since 2.12 may have written it (2.12 writes HDF5 under that ending, which is opened, too). Its logits
    are those that Keras 2.13 computes, and the penalties of frozen layers are part of the model's `losses`.

    Args:
        path: the file.
        outputs: how many outputs the model must have; None for any number.
        precision: the dtype policy of its layers, `mixed_float16` or `mixed_bfloat16`; weights, the scaling of pixels,
            normalizations and the logits are float32 anyway.

    Returns:
        A functional Keras model, not compiled. For the project's models: float32 `(batch, height, width, bands)`,
        0-255, to logits `(batch, outputs)`. Its attribute `image_size` is the side in pixels of the images that it was
        made for, None if the file doesn't say.

    Raises:
        UsageError: no such file, not a Keras file, cut short, holding other things than plain layers (a Lambda, a
            class of somebody's own), with weights that are no finite numbers, or with another number of outputs.
    """
    return open_model(path, outputs, precision).model


class Opened(NamedTuple):
    """A model with what it takes to give it the weights of other files.

    Attributes:
        model: the Keras model.
        parts: its `lib.models.keras_graphs.Part`s in the file's order.
        outline: of `lib.models.keras_graphs.outline`.
    """

    model: Any
    parts: list
    outline: list


def open_model(path, outputs=None, precision="float32"):
    """The same as `load_model`, as an `Opened`."""
    path = os.fspath(path)
    with _sentences(path):
        description, weights, image_size = _read(path)
        with _hdf5(weights) as file:
            graph = description or _hdf5_description(file)
            if precision != "float32":
                graph = keras_graphs.with_precision(graph, precision)
            most = max(LARGEST_SHRINKING * len(weights), SMALL_BYTES) // 4
            model, parts = keras_graphs.build_model(graph, most)
            _restore(model, parts, file, description is None)
    check_outputs(model, outputs, path)
    model.image_size = image_size
    return Opened(model, parts, keras_graphs.outline(graph))


def load_weights(opened, path):
    """Give a model the weights of another file of the same architecture, without building that one's model.

    Args:
        opened: of `open_model`; its weights are of no use if the file is bad.
        path: the file.

    Raises:
        UsageError: as of `load_model`, or another architecture.
    """
    path = os.fspath(path)
    with _sentences(path):
        description, weights, _ = _read(path)
        with _hdf5(weights) as file:
            if keras_graphs.outline(description or _hdf5_description(file)) != opened.outline:
                raise keras_graphs.GraphError("has another architecture")
            _restore(opened.model, opened.parts, file, description is None)


def read_outline(path):
    """The `lib.models.keras_graphs.outline` of a file's model, without its weights; errors as of `load_model`."""
    with _sentences(path), zipfile.ZipFile(path) as archive:
        return keras_graphs.outline(parse_json(_inflate(archive, "config.json")))


def _hdf5(content):
    """Open the bytes of an HDF5 file.

    Raises:
        ValueError: it is none, or one that HDF5 would read for ever.
    """
    # HDF5 goes through texts that are stored together by adding up their sizes, and over one of size 0 never gets.
    steps = 0
    for heap in re.finditer(b"GCOL\x01", content):
        place = heap.start() + _HEAP_HEAD.size
        if place > len(content):
            break
        end = min(heap.start() + _HEAP_HEAD.unpack_from(content, heap.start())[1], len(content))
        while place + _HEAP_ITEM.size <= end:
            number, size = _HEAP_ITEM.unpack_from(content, place)
            steps += 1
            if (number == 0 and size < _HEAP_ITEM.size) or size > len(content) or steps > len(content):
                raise ValueError("its HDF5 is damaged")
            place += -(-size // 8) * 8 + (_HEAP_ITEM.size if number else 0)
    return h5py.File(io.BytesIO(content), "r")


@contextlib.contextmanager
def _sentences(path):
    """Raise UsageError, naming the file, for whatever is wrong with it."""
    try:
        yield
    except MemoryError:
        raise
    except keras_graphs.GraphError as error:
        raise UsageError(f"{path} {error}.") from error
    except FileNotFoundError:
        raise UsageError(f"{path} doesn't exist; give an existing .keras file.") from None
    except Exception as error:  # A damaged file makes zipfile, zlib, json, h5py and Keras raise whatever they like.
        raise UsageError(f"{path} is not a whole .keras file ({_one_line(error)}).") from error


def _restore(model, parts, file, is_hdf5):
    if is_hdf5:
        _restore_hdf5(model, file["model_weights"])
    else:
        _restore_parts(parts, file)
    if not all(np.isfinite(weight.numpy()).all() for weight in model.weights):  # one at a time, to save memory
        raise keras_graphs.GraphError("has infinite or NaN weights")


def save_model(model, path):
    """Write a model as a `.keras` file that holds its layers and weights and no state of a training.

    The file appears whole or not at all. The same model gives the same bytes.

    Args:
        model: a functional or sequential Keras model; its attribute `image_size`, if it has one, is recorded.
        path: where to write; should end in `.keras`.

    Raises:
        OSError: the folder is not there or can't be written to, or the disk is full; a former file is as it was.
    """
    description = keras_graphs.plain_description(keras.saving.serialize_keras_object(model))
    metadata = {"keras_version": keras.__version__}
    if getattr(model, "image_size", None) is not None:
        metadata["image_size"] = model.image_size
    path = os.path.realpath(path)
    _check_room(model, path)
    with contextlib.ExitStack() as stack:
        try:
            draft = tempfile.TemporaryDirectory(prefix=f".{os.path.basename(path)}.", dir=os.path.dirname(path))
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from error  # the name that the caller knows
        folder = stack.enter_context(draft)
        weights = os.path.join(folder, "model.weights.h5")
        model.save_weights(weights)
        _drop_training_state(weights)
        with whole_file(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            for name, content in (("metadata.json", metadata), ("config.json", description)):
                archive.writestr(zipfile.ZipInfo(name), json.dumps(content))  # with no date: the same bytes each time
            member = zipfile.ZipInfo("model.weights.h5")
            member.file_size = os.path.getsize(weights)
            with open(weights, "rb") as source, archive.open(member, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def check_outputs(model, outputs, path):
    """Raise UsageError unless the model of a file has one output of `outputs` logits; None for any number."""
    shape = getattr(model.output, "shape", None)
    if shape is None or len(shape) != 2 or shape[-1] is None:
        raise UsageError(f"{path} does not give one row of logits for an image.")
    if outputs is not None and shape[-1] != outputs:
        raise UsageError(f"{path} has {shape[-1]} outputs where {outputs} are needed.")


def _read(path):
    """A file's parsed description, its weights as HDF5, and its recorded image size.

    The description is None where the HDF5 holds it, too; the size where there is none.
    """
    with open(path, "rb") as file:
        if file.read(8) == b"\x89HDF\r\n\x1a\n":
            file.seek(0)
            return None, file.read(), None
        if not zipfile.is_zipfile(file):
            raise ValueError("it is not a zip, or cut short")
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if "config.json" not in names or "model.weights.h5" not in names:
                raise ValueError("it is a zip without config.json and model.weights.h5")
            description = parse_json(_inflate(archive, "config.json"))
            if not isinstance(description, dict):
                raise ValueError("its config.json describes no model")
            size = _image_size(_inflate(archive, "metadata.json")) if "metadata.json" in names else None
            return description, _inflate(archive, "model.weights.h5"), size


def _image_size(metadata):
    """The size that `save_model` recorded; None if there is none, or something else in its place."""
    recorded = parse_json(metadata)
    size = recorded.get("image_size") if isinstance(recorded, dict) else None
    return size if type(size) is int and 0 < size <= 8192 else None


def _inflate(archive, name):
    """A member of a zip, unless it is one that is made to fill the memory: no model shrinks that much."""
    member = archive.getinfo(name)
    packed = min(member.compress_size, os.fstat(archive.fp.fileno()).st_size)  # the zip may say anything
    if member.file_size > max(LARGEST_SHRINKING * packed, SMALL_BYTES):
        raise ValueError(f"its {name} would take {member.file_size:,} bytes")
    # Of the others a few bytes become gigabytes at once, before Python counts them; no Keras writes them.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"its {name} is packed in another way than stored or deflated")
    return archive.read(name)


def _hdf5_description(file):
    if "model_config" not in file.attrs:
        raise ValueError("it is HDF5 without a model's description")
    return parse_json(file.attrs["model_config"])


def _one_line(error):
    return " ".join(str(error.args[0] if error.args else error).split()) or type(error).__name__


def _restore_hdf5(model, group):
    """Give a model the weights of an HDF5 file, where each layer's lie under its name in their order."""
    for layer in model.layers:
        if not _needs_values(layer):
            continue
        stored = _group(group, layer.name)
        names = [name.decode() if isinstance(name, bytes) else name for name in stored.attrs["weight_names"]]
        weights = list(layer.trainable_weights) + list(layer.non_trainable_weights)
        if len(names) != len(weights):
            raise ValueError(f"it holds {len(names)} weights for the layer {layer.name!r}")
        for weight, name in zip(weights, names):
            weight.assign(_values(stored, name, math.prod(weight.shape)))


def _restore_parts(parts, group):
    """Give the layers of a model the weights from its group of a weights file.

    A layer's weights lie under its class's name in snake case and, from the second on, a number. How the numbers run
    differs (Keras 2.13 counts each layer twice), their order is that of the layers in every Keras.
    """
    for container in ("layers", "_layer_checkpoint_dependencies"):
        if container in group:
            _restore_in_order(parts, _group(group, container))
            return
    if any(_needs_values(part.layer) for part in parts):
        raise ValueError("its weights are not where any Keras keeps them")


def _restore_in_order(parts, group):
    places = {}
    for name in group:
        match = re.fullmatch(r"(.*?)(?:_(\d+))?", name)
        if _holds_values(_group(group, name)):
            places.setdefault(match.group(1), []).append((int(match.group(2) or 0), name))
    places = {kind: [name for _, name in sorted(numbered)] for kind, numbered in places.items()}
    for part in parts:
        if not _needs_values(part.layer):
            continue
        waiting = places.get(keras_graphs.snake_case(part.class_name))
        if not waiting:
            raise ValueError(f"it holds no weights for the layer {part.layer.name!r}")
        stored = _group(group, waiting.pop(0))
        if part.parts is None:
            _restore_layer(part.layer, stored)
        else:
            _restore_parts(part.parts, stored)
    left = [name for names in places.values() for name in names]
    if left:
        raise ValueError("it holds weights that belong to no layer ({})".format(", ".join(sorted(left)[:3])))


def _restore_layer(layer, group):
    """Give one layer, and the layers that it holds as attributes, their weights."""
    if "vars" in group:
        stored = _group(group, "vars")
        if len(stored):
            try:
                most = sum(math.prod(weight.shape) for weight in layer.weights)
                if len(stored) > len(layer.weights):
                    raise ValueError(f"it holds {len(stored)} arrays")
                layer.load_own_variables({name: _values(stored, name, most) for name in stored})
            except ValueError as error:
                raise ValueError(f"the weights of {layer.name!r} don't fit: {_one_line(error)}") from error
    for name in group:
        if name == "vars" or not _holds_values(_group(group, name)):
            continue
        # Keras 2 writes the attribute's name as it is, Keras 3 without its underscore.
        held = next((getattr(layer, known) for known in (name, "_" + name) if hasattr(layer, known)), None)
        if isinstance(held, keras.layers.Layer):
            _restore_layer(held, _group(group, name))
        elif isinstance(held, (list, tuple)):
            parts = [keras_graphs.Part(type(item).__name__, item, None) for item in held]
            _restore_in_order(parts, _group(group, name))
        else:
            raise ValueError(f"it holds weights for a part {name!r} that {layer.name!r} does not have")


def _needs_values(layer):
    """Whether a layer has weights to be read from a file: the state of a random generator is none."""
    return any("float" in str(weight.dtype) for weight in getattr(layer, "weights", ()))


def _holds_values(group, seen=None):
    """Whether there is any weight below a group of a weights file, the state of random generators aside."""
    # A group may lie in many places, even within itself: each is looked into once, in `seen` by its place in the file.
    seen = set() if seen is None else seen
    seen.add(h5py.h5o.get_info(group.id).addr)
    for name in group:
        if "generator" in name:
            continue
        item = _member(group, name)
        if isinstance(item, h5py.Dataset):
            return True
        if h5py.h5o.get_info(item.id).addr not in seen and _holds_values(item, seen):
            return True
    return False


def _group(group, name):
    item = _member(group, name)
    if not isinstance(item, h5py.Group):
        raise ValueError(f"{item.name} is not a group of weights")
    return item


def _values(group, name, most):
    """An array of at most so many numbers: one that is empty in the file can stand for more than memory holds."""
    dataset = _member(group, name)
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiub" or dataset.dtype.itemsize > 8:
        raise ValueError(f"{dataset.name} is not an array of numbers")
    if dataset.shape is None or dataset.size > most:
        raise ValueError(f"{dataset.name} has the shape {dataset.shape}, which is larger than the layer's weights")
    # HDF5 unpacks whole chunks, however little of them belongs to the array.
    if dataset.chunks and math.prod(dataset.chunks) > max(most, _SMALL_CHUNK):
        raise ValueError(f"{dataset.name} is stored in chunks of {dataset.chunks}, larger than the layer's weights")
    return dataset[()]


def _member(group, path):
    """A member of a group that lies in the same file: HDF5 can point to others, which no model needs."""
    item = group
    for name in path.split("/"):
        if not isinstance(item.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} in {item.name} is not there or points elsewhere")
        item = item[name]
    if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
        raise ValueError(f"{item.name} keeps its numbers in another file")
    return item


def _check_room(model, path):
    """Raise OSError unless the disk takes a model twice: HDF5 kills the process when it finds the disk full."""
    need = 2 * 4 * sum(math.prod(weight.shape) for weight in model.weights) + (4 << 20)
    if shutil.disk_usage(os.path.dirname(path)).free < need:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def _drop_training_state(path):
    """Remove the state of an optimizer or of metrics from a weights file."""
    with h5py.File(path, "r") as source:
        if not any(name in source for name in _TRAINING_STATE):
            return
        with h5py.File(path + ".clean", "w") as target:
            for name in source:
                if name not in _TRAINING_STATE:
                    source.copy(name, target)
    os.replace(path + ".clean", path)
