"""What a `.keras` file holds, read without Keras: a model's description, its arrays, the size of its images.

Any Keras since 2.12 may have written it: a zip of a description in JSON and arrays in HDF5 or, by 2.12, HDF5 alone.
"""

import contextlib
import io
import math
import os
import re
import struct
import zipfile
from typing import Any, NamedTuple, Optional

import h5py

from lib.models.keras_descriptions import functional_config, layer_name, snake_case
from lib.storage.untrusted import check_zip_member, parse_json

# What a file may take in memory: a multiple of its own bytes, or this many bytes if that is more.
_SHRINKING = 20
_SMALL_BYTES = 32 << 20

NOWHERE = "its weights are not where any Keras puts them"

_SMALL_CHUNK = 1 << 20  # numbers that a chunk of an array may have, however small the array is

# The head of a text in HDF5's global heaps.
_HEAP_ITEM = struct.Struct("<H6xQ")


class Content(NamedTuple):
    """The content of a file.

    Attributes:
        description: of the model, as Keras has it in `config.json`.
        arrays: the HDF5 group that holds the weights.
        named: whether these lie under the layers' names, as Keras 2.12 writes HDF5; else under those of their classes.
        size: bytes of the HDF5.
        image_size: the side in pixels of the images that the model is for; None if the file doesn't say.
        written_by: the version of the Keras that wrote the file; empty if the file doesn't say.
    """

    description: dict
    arrays: Any
    named: bool
    size: int
    image_size: Optional[int]
    written_by: str


@contextlib.contextmanager
def open_archive(path):
    """Open a file; yields its `Content`. What is wrong with it raises any error of zipfile, h5py and others."""
    with open(path, "rb") as file:
        named = file.read(8) == b"\x89HDF\r\n\x1a\n"
        file.seek(0)
        if named:
            content, metadata = file.read(), {}
        else:
            with zipfile.ZipFile(file) as archive:
                description = parse_json(_inflate(archive, "config.json"))
                recorded = "metadata.json" in archive.namelist()
                metadata = parse_json(_inflate(archive, "metadata.json")) if recorded else {}
                content = _inflate(archive, "model.weights.h5")
    with open_hdf5(content) as hdf5:
        if named:
            description = parse_json(hdf5.attrs["model_config"])
        size = metadata.get("image_size")
        size = size if type(size) is int and 0 < size <= 8192 else None
        version = str(hdf5.attrs.get("keras_version", "") if named else metadata.get("keras_version", ""))
        arrays = group(hdf5, "model_weights") if named else hdf5
        yield Content(description, arrays, named, len(content), size, version)


def read_description(path):
    """A file's description without its arrays; raises as `open_archive` does."""
    with zipfile.ZipFile(path) as archive:
        return parse_json(_inflate(archive, "config.json"))


def count_outputs(path):
    """The number of a classifier's outputs, those of its last dense or convolutional layer, without Keras.

    Returns:
        None if the description has no such layer. What is wrong with the file raises as `open_archive` does.
    """

    def units(layers):
        for entry in reversed(layers):
            config = entry["config"]
            found = config.get("units") or config.get("filters") or units(config.get("layers", ()))
            if found:
                return found
        return None

    with open_archive(path) as content:
        return units(functional_config(content.description)["layers"])


def _inflate(archive, name):
    size = os.fstat(archive.fp.fileno()).st_size
    check_zip_member(archive.getinfo(name), size, _SHRINKING, _SMALL_BYTES)
    return archive.read(name)


def open_hdf5(content):
    """Open the bytes of an HDF5 file; raises ValueError for one that HDF5 would never finish reading."""
    # HDF5 walks through a heap by the sizes of its texts, and never gets past one of size 0.
    steps = 0
    for heap in re.finditer(b"GCOL\x01.{3}(.{8})", content, re.DOTALL):
        place, end = heap.end(), min(heap.start() + int.from_bytes(heap[1], "little"), len(content))
        while place + _HEAP_ITEM.size <= end:
            number, size = _HEAP_ITEM.unpack_from(content, place)
            steps += 1
            if (number == 0 and size < _HEAP_ITEM.size) or size > len(content) or steps > len(content):
                raise ValueError("its HDF5 is damaged")
            place += -(-size // 8) * 8 + (_HEAP_ITEM.size if number else 0)
    return h5py.File(io.BytesIO(content), "r")


def groups_by_class(parent):
    """The groups of layers that have arrays: class's name in snake case -> their names, in the layers' order.

    A layer's arrays lie under its class's name and, from the second on, a number. How the numbers run differs (Keras
    2.13 counts each layer twice), their order is that of the layers in every Keras.
    """
    found = {}
    for name in parent:
        kind, number = re.fullmatch(r"(.*?)(?:_(\d+))?", name).groups()
        if holds_arrays(group(parent, name)):
            found.setdefault(kind, []).append((int(number or 0), name))
    return {kind: [name for _, name in sorted(numbered)] for kind, numbered in found.items()}


def layer_groups(content):
    """The HDF5 group of each layer of a model that holds arrays, for `layer_arrays`: layer's name -> group.

    A model in the model is one such layer. Raises ValueError if the file has its weights elsewhere.
    """
    config = functional_config(content.description)
    entries = [(entry["class_name"], layer_name(entry)) for entry in config["layers"]]
    if content.named:
        named = [(name, group(content.arrays, name)) for _, name in entries if name in content.arrays]
        return {name: parent for name, parent in named if holds_arrays(parent)}
    parent, found = container(content.arrays), {}
    if parent is None:
        raise ValueError(NOWHERE)
    places = groups_by_class(parent)
    for kind in {kind for kind, _ in entries}:
        names = [name for other, name in entries if other == kind]
        stored = places.get(snake_case(kind), [])
        if len(stored) == len(names):  # else some of them have no weights: which ones, only Keras knows
            found.update((name, group(parent, place)) for name, place in zip(names, stored))
    return found


def container(arrays):
    """The group that holds a model's layers in its group of a file that Keras wrote as a zip; None without any."""
    names = [name for name in ("layers", "_layer_checkpoint_dependencies") if name in arrays]
    return group(arrays, names[0]) if names else None


def most_numbers(content):
    """How many numbers all arrays of a file may have together, so that a small file can't fill the memory."""
    return max(_SHRINKING * content.size, _SMALL_BYTES) // 4


def places_of_arrays(parent, named):
    """The group that has the arrays of a layer, and their names in Keras's order; see `layer_arrays`."""
    if named:
        return parent, [name.decode() if isinstance(name, bytes) else name for name in parent.attrs["weight_names"]]
    variables = group(parent, "vars")
    return variables, sorted(variables, key=int)


def layer_arrays(parent, named, most):
    """The arrays of one layer, in Keras's order, such as kernel and bias.

    Args:
        parent: the layer's group, of `layer_groups`.
        named: as of `Content`.
        most: how many numbers each may have.
    """
    parent, names = places_of_arrays(parent, named)
    return [array(parent, name, most) for name in names]


def holds_arrays(parent):
    """Whether a group holds any array, also in groups within it; the state of random generators is none."""
    members = (_member(parent, name) for name in parent if "generator" not in name)
    return any(isinstance(item, h5py.Dataset) or holds_arrays(item) for item in members)


def group(parent, name):
    """A group in a group; raises ValueError if it isn't there."""
    item = _member(parent, name)
    if not isinstance(item, h5py.Group):
        raise ValueError(f"{item.name} is not a group of weights")
    return item


def array(parent, name, most):
    """An array in a group, of at most `most` numbers: one of no bytes in the file may have more than memory holds."""
    dataset = _member(parent, name)
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiub" or dataset.dtype.itemsize > 8:
        raise ValueError(f"{dataset.name} is not an array of numbers")
    if dataset.shape is None or dataset.size > most:
        raise ValueError(f"{dataset.name} has the shape {dataset.shape}, which is larger than the layer's weights")
    # HDF5 unpacks whole chunks, however little of them belongs to the array.
    if dataset.chunks and math.prod(dataset.chunks) > max(most, _SMALL_CHUNK):
        raise ValueError(f"{dataset.name} is stored in chunks of {dataset.chunks}, larger than the layer's weights")
    return dataset[()]


def _member(parent, path):
    """A member of a group that lies in the same file: HDF5 can point to others, which no model needs."""
    item = parent
    for name in path.split("/"):
        if not isinstance(item.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} in {item.name} is missing or points elsewhere")
        item = item[name]
    if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
        raise ValueError(f"{item.name} keeps its numbers in another file")
    return item
