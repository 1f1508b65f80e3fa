"""The arrays in PyTorch checkpoints and `.safetensors` files, read without running anything that is in them.

A PyTorch checkpoint is a pickle, which is a program. Here it may only name what arrays are made of, and a few kinds of
remarks beside them, for which something without effect is put; whatever else it names is refused.
"""

import collections
import io
import math
import os
import pickle
import pickletools
import struct
import zipfile
from typing import Any, Callable, NamedTuple, Tuple

import numpy as np

from lib.storage.untrusted import RefusedError, check_zip_member, parse_json, refusing

_LARGEST_PICKLE = 64 << 20  # bytes; that of a model with thousands of arrays is 1 MB
_LARGEST_HEADER = 100 << 20  # bytes, by the format's definition
_MOST_DIMENSIONS = 32  # numpy's limit
_DEEPEST = 4  # dictionaries within each other that are searched
_MOST_STEPS = 4_000_000  # of a pickle; an array takes some thirty
_MOST_TUPLES = 40_000  # of a pickle; an array takes four, and Python crashes on 200,000 within each other

# PyTorch's and safetensors' names of numbers, and numpy's; bfloat16 is the upper half of a float32.
_DTYPES = (
    ("Double", "F64", "<f8"),
    ("Float", "F32", "<f4"),
    ("Half", "F16", "<f2"),
    ("BFloat16", "BF16", "bfloat16"),
    ("Long", "I64", "<i8"),
    ("Int", "I32", "<i4"),
    ("Short", "I16", "<i2"),
    ("Char", "I8", "i1"),
    ("Byte", "U8", "u1"),
    ("Bool", "BOOL", "?"),
)
_STORAGES = {f"{name}Storage": dtype for name, _, dtype in _DTYPES}
_SAFE_TENSORS = {name: dtype for _, name, dtype in _DTYPES}

# What may stand beside the arrays, such as the settings of the training: nothing is made of it.
_REMARKS = {
    *(("argparse", "Namespace"), ("numpy", "dtype"), ("_codecs", "encode"), ("builtins", "set")),
    *(("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar")),
    *(("torch", "device"), ("torch", "Size"), ("pathlib", "PosixPath"), ("pathlib", "WindowsPath")),
}
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class Tensor(NamedTuple):
    """An array of a checkpoint that has not been read yet.

    Attributes:
        shape: its shape.
        read: called without arguments; returns it, float32 if it holds floats.
    """

    shape: Tuple[int, ...]
    read: Callable[[], np.ndarray]


class _Remark:
    """Stands for a remark: takes whatever it is given and does nothing."""

    def __init__(self, *arguments, **options):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    append = extend = __setstate__


class _Kind(NamedTuple):
    """The class that a pickle names for a dtype."""

    dtype: str


class _Storage(NamedTuple):
    """Numbers one after the other, still to be read."""

    dtype: str
    count: int
    read: Callable[[], bytes]


def read_arrays(path, key=None, marker="patch_embed.proj.weight"):
    """Find a model's arrays in a checkpoint.

    Args:
        path: a `.safetensors` file, or what `torch.save` writes, in its format of today or that before 2020.
        key: the name of the dictionary that holds them; None to look for it.
        marker: the name of one of the arrays, by which the dictionary is known. What stands before it in its name,
            such as `module.`, is taken off all names.

    Returns:
        A dictionary: name -> `Tensor`.

    Raises:
        UsageError: the file is none of these, damaged, holds no such arrays, or tries to run code.
    """
    with refusing(path, "checkpoint"):
        content = _safe_tensors(path) if path.endswith(".safetensors") else _torch(path)
        arrays = _choose(content, key, marker)
        # Several arrays may share their numbers: else a small file could stand for a model that fills the memory.
        if sum(math.prod(tensor.shape) for tensor in arrays.values()) > os.path.getsize(path):
            raise RefusedError("describes more numbers than it has")
        return {name: Tensor(tensor.shape, _reader(path, tensor)) for name, tensor in arrays.items()}


def _reader(path, tensor):
    def read():
        with refusing(path, "checkpoint"):
            return tensor.read()

    return read


def _choose(content, key, marker):
    """The arrays of a checkpoint that belong to a model."""
    found = list(_dictionaries(content, (), {}))
    if key is not None:
        found = [(place, arrays) for place, arrays in found if key in (".".join(place), *place[-1:])]
        if not found:
            raise RefusedError(f"has no dictionary {key!r}")
    for _, arrays in found:
        for name in arrays:
            if name == marker or name.endswith("." + marker):
                prefix = name[: -len(marker)]
                return {
                    known[len(prefix) :] if known.startswith(prefix) else known: tensor
                    for known, tensor in arrays.items()
                }
    where = "" if key is None else f" in {key!r}"
    raise RefusedError(f"holds no array {marker!r}{where}, which every vision transformer in timm's naming has")


def _dictionaries(value, place, seen):
    """Yield the place and the arrays of each dictionary within a value that holds any; fills `seen`."""
    if not isinstance(value, dict) or len(place) > _DEEPEST:
        return
    # What stands in many places is looked into once: a few hundred bytes can hold more places than anybody can count.
    known = id(value) in seen
    if not known:
        items = value.items()
        seen[id(value)] = {name: item for name, item in items if isinstance(name, str) and isinstance(item, Tensor)}
    if seen[id(value)]:
        yield place, seen[id(value)]
    for name, item in () if known else value.items():
        yield from _dictionaries(item, (*place, str(name)), seen)


def _safe_tensors(path):
    """The arrays of a `.safetensors` file."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(_LARGEST_HEADER, size - 8):
            raise RefusedError("is not a whole .safetensors file")
        header = parse_json(file.read(length))
    begin, tensors = 8 + length, {}
    for name, about in header.items():
        if name == "__metadata__":
            continue
        kind, shape, (start, end) = about["dtype"], tuple(about["shape"]), about["data_offsets"]
        if kind not in _SAFE_TENSORS:
            raise RefusedError(f"holds {name!r} in {kind}, which is not supported")
        dtype = _SAFE_TENSORS[kind]
        plausible = all(type(n) is int and n >= 0 for n in (*shape, start, end)) and _is_shape(shape)
        if not plausible or not start <= end <= size - begin:
            raise RefusedError(f"says that {name!r} lies outside of it")
        if end - start != math.prod(shape) * _size(dtype):
            raise RefusedError(f"has {end - start} bytes for {name!r}, which is not what its shape takes")

        def read(start=begin + start, length=end - start, dtype=dtype, shape=shape):
            with open(path, "rb") as file:
                file.seek(start)
                return _floats(file.read(length), dtype).reshape(shape)

        tensors[name] = Tensor(shape, read)
    return tensors


def _torch(path):
    """What `torch.save` wrote, arrays as `Tensor`s."""
    if zipfile.is_zipfile(path):
        return _torch_zip(path)
    return _torch_legacy(path)


def _torch_zip(path):
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        programs = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(programs) != 1:
            raise RefusedError("is a zip, but not one that torch.save wrote")
        folder = programs[0][: -len("data.pkl")]
        for member in members.values():
            check_zip_member(member, os.path.getsize(path))
        order = members.get(folder + "byteorder")
        if order and archive.read(order).strip() != b"little":
            raise RefusedError("was written by a big-endian machine, which is not supported")
        if members[programs[0]].file_size > _LARGEST_PICKLE:
            raise RefusedError("has too large a description of its arrays")
        program = archive.read(programs[0])

    def storage(kind, key, count):
        member = members.get(f"{folder}data/{key}")
        if member is None:
            raise RefusedError(f"lacks the numbers {key!r} of an array")
        if member.file_size < count * _size(kind.dtype):
            raise RefusedError(f"has fewer numbers {key!r} than it says")

        def read():
            with zipfile.ZipFile(path) as archive:
                return archive.read(member)[: count * _size(kind.dtype)]

        return _Storage(kind.dtype, count, read)

    return _load(io.BytesIO(program), storage)


def _torch_legacy(path):
    """The format before 2020: several pickles, then the numbers of all arrays."""
    places, counts = {}, {}

    def storage(kind, key, count):
        counts[key] = (kind, count)

        def read():
            with open(path, "rb") as file:
                file.seek(places[key])
                return file.read(count * _size(kind.dtype))

        return _Storage(kind.dtype, count, read)

    with open(path, "rb") as file:
        begin = io.BytesIO(file.read(_LARGEST_PICKLE))  # which a pickle can't claim to be longer than it is
        if _load(begin, None) != _LEGACY_MAGIC or _load(begin, None) != _LEGACY_PROTOCOL:
            raise RefusedError("is not what torch.save writes")
        if _load(begin, None).get("little_endian") is not True:
            raise RefusedError("was written by a big-endian machine, which is not supported")
        content, keys, size = _load(begin, storage), _load(begin, None), os.path.getsize(path)
        file.seek(begin.tell())
        for key in keys:
            kind, count = counts[key]
            (written,) = struct.unpack("<q", file.read(8))
            places[key] = file.tell()
            if written != count or places[key] + count * _size(kind.dtype) > size:
                raise RefusedError("is cut short")
            file.seek(count * _size(kind.dtype), os.SEEK_CUR)
    if set(counts) - set(places):
        raise RefusedError("lacks the numbers of an array")
    return content


def _load(file, storage):
    """Read one pickle.

    Args:
        file: open for reading.
        storage: called with a `_Kind`, a key and a count, for the numbers of arrays; None if there can't be any.
    """
    _check_steps(file)
    unpickler = _Unpickler(file)
    unpickler.storage = storage
    return unpickler.load()


def _check_steps(file):
    """Raise RefusedError if a pickle would fill the memory or crash Python.

    The one by a memo with a high index, for which memory is taken up to there; the other by tuples deep within tuples.
    """
    begin, tuples = file.tell(), 0
    for step, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        tuples += opcode.name.startswith(("TUPLE", "FROZENSET"))
        if step > _MOST_STEPS or tuples > _MOST_TUPLES:
            raise RefusedError("has too large a description of its arrays")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > step:
            raise RefusedError("has a memo with an index that no writer of checkpoints gives")
    file.seek(begin)


class _Unpickler(pickle.Unpickler):
    """Makes arrays, dictionaries, lists, texts and numbers, and nothing else."""

    storage: Any = None

    def find_class(self, module, name):
        if (module, name) in _PARTS:
            return _PARTS[module, name]
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _Kind(_STORAGES[name])
        if (module, name) in _REMARKS:
            return _Remark
        raise RefusedError(f"tries to run code: {module}.{name} has no place in a checkpoint")

    def persistent_load(self, given):
        if self.storage is None or not isinstance(given, tuple) or len(given) < 5 or given[0] != "storage":
            raise RefusedError("refers to something that is not an array")
        _, kind, key, _, count = given[:5]
        if len(given) > 5 and given[5] is not None:
            raise RefusedError("holds a view of other numbers, as PyTorch once did, which is not supported")
        if not isinstance(kind, _Kind) or type(count) is not int or count < 0:
            raise RefusedError("holds an array of an unknown kind")
        return self.storage(kind, str(key), count)


def _rebuild_tensor(storage, offset, shape, strides, *others):
    """PyTorch's function of that name."""
    shape, strides = tuple(shape), tuple(strides)
    numbers = (offset, *shape, *strides)
    if (
        not isinstance(storage, _Storage)
        or len(shape) != len(strides)
        or not _is_shape(shape)
        or any(type(n) is not int or n < 0 for n in numbers)
    ):
        raise RefusedError("describes an impossible array")
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides))
    if 0 not in shape and last >= storage.count:
        raise RefusedError("describes an array that lies outside of its numbers")
    # Else a small file could stand for an array that fills the memory.
    if math.prod(shape) > storage.count:
        raise RefusedError("describes an array with more numbers than it has")

    def read():
        values = _floats(storage.read(), storage.dtype)
        if 0 in shape:
            return np.zeros(shape, values.dtype)
        steps = [stride * values.itemsize for stride in strides]
        return np.array(np.lib.stride_tricks.as_strided(values[offset:], shape, steps, writeable=False))

    return Tensor(shape, read)


def _is_shape(shape):
    return len(shape) <= _MOST_DIMENSIONS and all(side < 1 << 48 for side in shape)


class _Maker(NamedTuple):
    """A function without attributes, since a pickle could set those of a plain one."""

    make: Callable

    def __call__(self, *arguments):
        return self.make(*arguments)


_PARTS = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Maker(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Maker(lambda tensor, *others: tensor),
}


def _size(dtype):
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _floats(content, dtype):
    """Bytes as numbers: floats of any size as float32."""
    if dtype == "bfloat16":
        return (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4")
    values = np.frombuffer(content, dtype)
    return values.astype("float32", copy=False) if values.dtype.kind == "f" else values
