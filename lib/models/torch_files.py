"""The arrays in PyTorch checkpoints and `.safetensors` files, read without running anything that is in them.

A PyTorch checkpoint is a pickle, which is a program. Here it may only name what arrays are made of, and a few other
classes, which are replaced by one without effect; anything else is refused.
"""

import collections
import functools
import io
import math
import operator
import os
import pickle
import pickletools
import struct
import zipfile
from typing import Callable, NamedTuple, Tuple

import numpy as np

from lib.storage.untrusted import RefusedError, check_zip_member, parse_json, refusing

_MARKER = "patch_embed.proj.weight"  # an array that every vision transformer has
_LARGEST_PICKLE = 64 << 20  # bytes; that of a model with thousands of arrays is 1 MB
_LARGEST_HEADER = 100 << 20  # bytes, by the format's definition
_DEEPEST = 4  # nested dictionaries that are searched
_MOST_TUPLES = 40_000  # of a pickle; an array takes four, and Python crashes on 200,000 within each other

# The names of number types in PyTorch, safetensors and numpy; bfloat16 is the upper half of a float32.
_DTYPES = (
    *(("Double", "F64", "<f8"), ("Float", "F32", "<f4"), ("Half", "F16", "<f2"), ("BFloat16", "BF16", "bfloat16")),
    *(("Long", "I64", "<i8"), ("Int", "I32", "<i4"), ("Short", "I16", "<i2"), ("Char", "I8", "i1")),
    *(("Byte", "U8", "u1"), ("Bool", "BOOL", "?")),
)
_STORAGES = {f"{name}Storage": dtype for name, _, dtype in _DTYPES}
_SAFE_TENSORS = {name: dtype for _, name, dtype in _DTYPES}

# What else a checkpoint may hold, such as the settings of its training; it is ignored.
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
    """Accepts anything and does nothing."""

    def __init__(self, *arguments, **options):
        pass

    def __setstate__(self, state):  # fails on the class itself, which a pickle could change
        pass

    __setitem__ = __init__
    append = extend = __setstate__


def read_arrays(path, key=None):
    """Find a model's arrays in a checkpoint.

    Args:
        path: a `.safetensors` file or one by `torch.save`, in its current format or that before 2020.
        key: the name of the dictionary that holds them; None to look for it.

    Returns:
        A dictionary: name -> `Tensor`; a prefix that names have in the file, such as `module.`, is removed.

    Raises:
        UsageError: the file is none of these, damaged, holds no such arrays, or tries to run code.
    """
    with refusing(path, "checkpoint"):
        content = _safe_tensors(path) if path.endswith(".safetensors") else _torch(path)
        arrays = _choose(content, key)
        # Several arrays may share their numbers, so a small file could describe a model that fills the memory.
        if sum(math.prod(tensor.shape) for tensor in arrays.values()) > os.path.getsize(path):
            raise RefusedError("describes more numbers than it has")
    checked = refusing(path, "checkpoint")
    return {name: Tensor(tensor.shape, checked(tensor.read)) for name, tensor in arrays.items()}


def _choose(content, key):
    """The arrays of a checkpoint that belong to a model."""
    found = [arrays for place, arrays in _dictionaries(content) if key is None or key in (".".join(place), *place[-1:])]
    if key is not None and not found:
        raise RefusedError(f"has no dictionary {key!r}")
    for arrays in found:
        for name in arrays:
            if name == _MARKER or name.endswith("." + _MARKER):
                prefix = len(name) - len(_MARKER)
                return {known[prefix * known.startswith(name[:prefix]) :]: arrays[known] for known in arrays}
    where = "" if key is None else f" in {key!r}"
    raise RefusedError(f"holds no array {_MARKER!r}{where}, which every vision transformer in timm's naming has")


def _dictionaries(value, place=()):
    """Yield the place and the arrays of each dictionary within a value that holds any."""
    if isinstance(value, dict) and len(place) <= _DEEPEST:
        arrays = {name: item for name, item in value.items() if isinstance(name, str) and isinstance(item, Tensor)}
        if arrays:
            yield place, arrays
        for name, item in value.items():
            yield from _dictionaries(item, (*place, str(name)))


def _safe_tensors(path):
    """The arrays of a `.safetensors` file."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(_LARGEST_HEADER, size - 8):
            raise RefusedError("is not a whole .safetensors file")
        header = parse_json(file.read(length))
    begin, tensors = 8 + length, {}
    header.pop("__metadata__", None)
    for name, about in header.items():
        kind, shape, (start, end) = about["dtype"], tuple(map(operator.index, about["shape"])), about["data_offsets"]
        if kind not in _SAFE_TENSORS:
            raise RefusedError(f"holds {name!r} in {kind}, which is not supported")
        dtype = _SAFE_TENSORS[kind]
        if min((*shape, start)) < 0 or not start <= end <= size - begin:
            raise RefusedError(f"says that {name!r} lies outside of it")
        if end - start != math.prod(shape) * _size(dtype):
            raise RefusedError(f"has {end - start} bytes for {name!r}, which is not what its shape takes")
        tensors[name] = Tensor(shape, functools.partial(_read, path, begin + start, dtype, shape))
    return tensors


def _read(path, begin, dtype, shape):
    """The numbers in a file from a byte on, as an array."""
    with open(path, "rb") as file:
        file.seek(begin)
        return _floats(file.read(math.prod(shape) * _size(dtype)), dtype).reshape(shape)


def _torch(path):
    """What `torch.save` wrote, arrays as `Tensor`s."""
    if not zipfile.is_zipfile(path):
        return _torch_legacy(path)

    def storage(dtype, key, count):
        member = archive.getinfo(f"{folder}data/{key}")
        if member.file_size < count * _size(dtype):
            raise RefusedError(f"has fewer numbers {key!r} than it says")

        def read():
            with zipfile.ZipFile(path) as again:
                return _floats(again.read(member)[: count * _size(dtype)], dtype)

        return Tensor((count,), read)

    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        programs = [name for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(programs) != 1:
            raise RefusedError("is a zip, but not one that torch.save wrote")
        folder = programs[0][: -len("data.pkl")]
        for member in archive.infolist():
            check_zip_member(member, os.path.getsize(path))
        if folder + "byteorder" in names and archive.read(folder + "byteorder").strip() != b"little":
            raise RefusedError("was written by a big-endian machine, which is not supported")
        return _load(io.BytesIO(archive.read(programs[0])), storage)


def _torch_legacy(path):
    """The format before 2020: several pickles, then the numbers of all arrays."""
    places, storages = {}, {}

    def storage(dtype, key, count):
        storages[key] = dtype, count
        return Tensor((count,), lambda: _read(path, places[key], dtype, (count,)))

    with open(path, "rb") as file:
        begin = io.BytesIO(file.read(_LARGEST_PICKLE))  # whose length a pickle can't exaggerate
        if _load(begin) != _LEGACY_MAGIC or _load(begin) != _LEGACY_PROTOCOL:
            raise RefusedError("is not what torch.save writes")
        if _load(begin).get("little_endian") is not True:
            raise RefusedError("was written by a big-endian machine, which is not supported")
        content, keys, size = _load(begin, storage), _load(begin), os.path.getsize(path)
        file.seek(begin.tell())
        for key in keys:
            dtype, count = storages[key]
            (written,) = struct.unpack("<q", file.read(8))
            places[key] = file.tell()
            if written != count or places[key] + count * _size(dtype) > size:
                raise RefusedError("is cut short")
            file.seek(count * _size(dtype), os.SEEK_CUR)
    return content


def _load(file, storage=None):
    """Read one pickle; `storage` is called with dtype, key and count for a flat `Tensor` of the numbers of arrays."""
    begin, tuples = file.tell(), 0
    for step, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        tuples += opcode.name.startswith(("TUPLE", "FROZENSET"))
        # Memory is allocated up to the highest index of a memo.
        if tuples > _MOST_TUPLES or (opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > step):
            raise RefusedError("has too large a description of its arrays")
    file.seek(begin)
    unpickler = _Unpickler(file)
    unpickler.storage = storage
    return unpickler.load()


class _Unpickler(pickle.Unpickler):
    """Makes arrays, dictionaries, lists, texts and numbers, and nothing else."""

    def find_class(self, module, name):
        if (module, name) in _PARTS:
            return _PARTS[module, name]
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) in _REMARKS:
            return _Remark
        raise RefusedError(f"tries to run code: {module}.{name} has no place in a checkpoint")

    def persistent_load(self, given):
        _, dtype, key, _, count, *view = given
        if view not in ([], [None]):
            raise RefusedError("holds a view of other numbers, as PyTorch once did, which is not supported")
        if dtype not in _STORAGES.values() or count < 0:
            raise RefusedError("holds an array of an unknown kind")
        return self.storage(dtype, str(key), count)


def _rebuild_tensor(storage, offset, shape, strides, *others):
    """PyTorch's function of that name."""
    (count,), shape, strides = storage.shape, tuple(shape), tuple(strides)
    if min(map(operator.index, (offset, *shape, *strides))) < 0:
        raise RefusedError("describes an impossible array")
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides))
    if 0 not in shape and last >= count:
        raise RefusedError("describes an array that lies outside of its numbers")
    if math.prod(shape) > count:  # else a small file could describe an array that fills the memory
        raise RefusedError("describes an array with more numbers than it has")

    def read():
        values = storage.read()
        if 0 in shape:
            return np.zeros(shape, values.dtype)
        steps = [stride * values.itemsize for stride in strides]
        return np.array(np.lib.stride_tricks.as_strided(values[offset:], shape, steps, writeable=False))

    return Tensor(shape, read)


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
