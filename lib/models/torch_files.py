"""The arrays in checkpoints of PyTorch and in `.safetensors` files, read without running anything that is in them.

A checkpoint of PyTorch is a pickle, which is a program. Here it may only name what arrays are made of; whatever else it
names is refused, but for a few kinds of remarks beside the arrays, in whose place something without effect is put.
"""

import collections
import contextlib
import io
import math
import os
import pickle
import pickletools
import struct
import zipfile
from typing import Any, Callable, NamedTuple, Tuple

import numpy as np

from lib.errors import UsageError
from lib.storage.untrusted import parse_json

_LARGEST_PICKLE = 64 << 20  # bytes; that of a model with thousands of arrays has one
_LARGEST_HEADER = 100 << 20  # bytes, as the format has it
_LARGEST_WORD = 64  # bytes, of a member of a zip that holds one
_DEEPEST = 4  # how many dictionaries within each other are looked into
_DEEPEST_TUPLE = 100  # how many tuples within each other a pickle may make; Python crashes on very many
_MOST_STEPS = 4_000_000  # of a pickle; some thirty make an array
_MOST_SIDES = 32  # of an array, as numpy has it

# How PyTorch calls the kinds of numbers -> how numpy stores them; bfloat16 is the upper half of a float32.
_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_SAFE_TENSORS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "bfloat16",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}

# What may stand beside the arrays, such as the settings of the training: nothing is made of it.
_REMARKS = {
    ("argparse", "Namespace"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
    ("torch", "device"),
    ("torch", "Size"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("builtins", "set"),
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001


class CheckpointError(ValueError):
    """A checkpoint can't be used; the message is a clause about it."""


class Tensor(NamedTuple):
    """An array of a checkpoint that has not been read yet.

    Attributes:
        shape: its shape.
        read: called without arguments; returns it, float32 if it holds floats.
    """

    shape: Tuple[int, ...]
    read: Callable[[], np.ndarray]


class _Remark:
    """What is put in the place of a remark: it takes whatever it is given and does nothing."""

    def __init__(self, *arguments, **options):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, value):
        """Take a value."""

    def extend(self, values):
        """Take values."""


class _Kind(NamedTuple):
    """A kind of numbers, as a name of PyTorch's stands for it."""

    dtype: str


class _Storage(NamedTuple):
    """Numbers one after the other, still to be read: their kind, how many, and a function that reads them."""

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
    with _sentences(path):
        content = _safe_tensors(path) if path.endswith(".safetensors") else _torch(path)
        arrays = _choose(content, key, marker)
        # Several arrays may share their numbers: else a small file could stand for a model that fills the memory.
        if sum(math.prod(tensor.shape) for tensor in arrays.values()) > os.path.getsize(path):
            raise CheckpointError("describes more numbers than it has")
        return {name: Tensor(tensor.shape, _reader(path, tensor)) for name, tensor in arrays.items()}


@contextlib.contextmanager
def _sentences(path):
    """Raise UsageError, naming the file, for whatever is wrong with it."""
    try:
        yield
    except CheckpointError as error:
        raise UsageError(f"{path} {error}.") from error
    except FileNotFoundError:
        raise UsageError(f"{path} doesn't exist; give an existing checkpoint.") from None
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes pickle, zipfile and struct raise whatever they like
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{path} is not a whole checkpoint ({reason}).") from error


def _reader(path, tensor):
    """A tensor's `read`, whose errors are sentences, too."""

    def read():
        with _sentences(path):
            return tensor.read()

    return read


def _choose(content, key, marker):
    """The arrays of a checkpoint that belong to a model."""
    found = list(_dictionaries(content, (), {}))
    if key is not None:
        found = [(place, arrays) for place, arrays in found if key in (".".join(place), *place[-1:])]
        if not found:
            raise CheckpointError(f"has no dictionary {key!r}")
    for _, arrays in found:
        for name in arrays:
            if name == marker or name.endswith("." + marker):
                prefix = name[: -len(marker)]
                return {
                    known[len(prefix) :] if known.startswith(prefix) else known: tensor
                    for known, tensor in arrays.items()
                }
    where = "" if key is None else f" in {key!r}"
    raise CheckpointError(f"holds no array {marker!r}{where}, which every vision transformer in timm's naming has")


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
            raise CheckpointError("is not a whole .safetensors file")
        header = parse_json(file.read(length))
    begin, tensors = 8 + length, {}
    for name, about in header.items():
        if name == "__metadata__":
            continue
        kind, shape, (start, end) = about["dtype"], tuple(about["shape"]), about["data_offsets"]
        if kind not in _SAFE_TENSORS:
            raise CheckpointError(f"holds {name!r} in {kind}, which is not read here")
        dtype = _SAFE_TENSORS[kind]
        plausible = all(type(n) is int and n >= 0 for n in (*shape, start, end)) and _is_shape(shape)
        if not plausible or not start <= end <= size - begin:
            raise CheckpointError(f"says that {name!r} lies outside of it")
        if end - start != math.prod(shape) * _size(dtype):
            raise CheckpointError(f"has {end - start} bytes for {name!r}, which takes another number")

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
            raise CheckpointError("is a zip, but not one that torch.save wrote")
        folder = programs[0][: -len("data.pkl")]
        # PyTorch never packs; so nothing here can be larger than the file.
        for member in members.values():
            if member.compress_type != zipfile.ZIP_STORED:
                raise CheckpointError(f"holds {member.filename!r} packed, which torch.save never does")
        order = members.get(folder + "byteorder")
        if order and (order.file_size > _LARGEST_WORD or archive.read(order).strip() != b"little"):
            raise CheckpointError("was written by a big-endian machine, which is not read here")
        if members[programs[0]].file_size > _LARGEST_PICKLE:
            raise CheckpointError("has a description of its arrays that is too large to be one")
        program = archive.read(programs[0])

    def storage(kind, key, count):
        member = members.get(f"{folder}data/{key}")
        if member is None:
            raise CheckpointError(f"lacks the numbers {key!r} of an array")
        if member.file_size < count * _size(kind.dtype):
            raise CheckpointError(f"has other numbers {key!r} than it says")

        def read():
            with zipfile.ZipFile(path) as archive:
                return archive.read(member)[: count * _size(kind.dtype)]

        return _Storage(kind.dtype, count, read)

    return _load(io.BytesIO(program), storage)


def _torch_legacy(path):
    """The format before 2020: pickles one after the other, then the numbers of all arrays."""
    places, counts = {}, {}

    def storage(kind, key, count):
        counts[key] = (kind, count)

        def read():
            with open(path, "rb") as file:
                file.seek(places[key])
                return file.read(count * _size(kind.dtype))

        return _Storage(kind.dtype, count, read)

    with open(path, "rb") as file:
        begin = io.BytesIO(file.read(_LARGEST_PICKLE))  # of which nothing can be read that is not there
        if _load(begin, None) != _LEGACY_MAGIC or _load(begin, None) != _LEGACY_PROTOCOL:
            raise CheckpointError("is not what torch.save writes")
        if _load(begin, None).get("little_endian") is not True:
            raise CheckpointError("was written by a big-endian machine, which is not read here")
        content, keys, size = _load(begin, storage), _load(begin, None), os.path.getsize(path)
        file.seek(begin.tell())
        for key in keys:
            kind, count = counts[key]
            (written,) = struct.unpack("<q", file.read(8))
            places[key] = file.tell()
            if written != count or places[key] + count * _size(kind.dtype) > size:
                raise CheckpointError("is cut short")
            file.seek(count * _size(kind.dtype), os.SEEK_CUR)
    if set(counts) - set(places):
        raise CheckpointError("lacks the numbers of an array")
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
    """Raise CheckpointError if a pickle would fill the memory or crash Python.

    The one by numbering what it puts aside higher than it has steps, since memory is taken for all lower numbers, too;
    the other by tuples within tuples, which Python looks through without minding how deep they are.
    """
    begin = file.tell()
    stack, aside = [], {}  # how deep the tuples are that Python would have there; None for a mark
    for step, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        name = opcode.name
        if step > _MOST_STEPS:
            raise CheckpointError("has a description of its arrays that is too large to be one")
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(aside) if name == "MEMOIZE" else argument
            if place > step:
                raise CheckpointError("puts something aside where nothing is, as no writer of checkpoints does")
            aside[place] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(aside[argument])
        elif name == "MARK":
            stack.append(None)
        elif name == "POP":
            stack.pop()
        elif name == "DUP":
            stack.append(stack[-1])
        else:
            taken = _take(stack, opcode)
            if opcode.stack_after:  # else it leaves nothing behind, such as the end
                # Lists and dictionaries end the search that crashes; what a call returns may be what it was given.
                grows = name in _GROWING
                depth = max(taken, default=0) if grows or name in _CALLS else 0
                stack.append(depth + grows)
                if depth >= _DEEPEST_TUPLE:
                    raise CheckpointError("has tuples within tuples too deep to be one")
    file.seek(begin)


_GROWING = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET")
_CALLS = ("REDUCE", "NEWOBJ", "NEWOBJ_EX", "INST", "OBJ", "BUILD", "BINPERSID", "PERSID")


def _take(stack, opcode):
    """Take from a stack what a step of a pickle takes: the depths."""
    wanted = opcode.stack_before
    if pickletools.markobject in wanted:
        above = []
        while stack[-1] is not None:
            above.append(stack.pop())
        stack.pop()
        below = wanted.index(pickletools.markobject)
    else:
        above, below = [], len(wanted)
    return above + [stack.pop() or 0 for _ in range(below)]


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
        raise CheckpointError(f"tries to run code: {module}.{name} has no place in a checkpoint")

    def persistent_load(self, given):
        if self.storage is None or not isinstance(given, tuple) or len(given) < 5 or given[0] != "storage":
            raise CheckpointError("points to something that is no array")
        _, kind, key, _, count = given[:5]
        if len(given) > 5 and given[5] is not None:
            raise CheckpointError("holds a view of other numbers, as PyTorch did long ago, which is not read here")
        if not isinstance(kind, _Kind) or type(count) is not int or count < 0:
            raise CheckpointError("holds an array of an unknown kind")
        return self.storage(kind, str(key), count)


def _rebuild_tensor(storage, offset, shape, strides, *others):
    """An array: what PyTorch's function of that name gives."""
    shape, strides = tuple(shape), tuple(strides)
    numbers = (offset, *shape, *strides)
    if (
        not isinstance(storage, _Storage)
        or len(shape) != len(strides)
        or not _is_shape(shape)
        or any(type(n) is not int or n < 0 for n in numbers)
    ):
        raise CheckpointError("describes an array that can't be")
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides))
    if 0 not in shape and last >= storage.count:
        raise CheckpointError("describes an array that lies outside of its numbers")
    # Else a small file could stand for an array that fills the memory.
    if math.prod(shape) > storage.count:
        raise CheckpointError("describes an array with more numbers than it has")

    def read():
        values = _floats(storage.read(), storage.dtype)
        if 0 in shape:
            return np.zeros(shape, values.dtype)
        steps = [stride * values.itemsize for stride in strides]
        return np.array(np.lib.stride_tricks.as_strided(values[offset:], shape, steps, writeable=False))

    return Tensor(shape, read)


def _is_shape(shape):
    """Whether an array that is any use can have such whole numbers of 0 or more as its shape."""
    return len(shape) <= _MOST_SIDES and all(side < 1 << 48 for side in shape)


def _rebuild_parameter(tensor, *others):
    """A parameter is its array."""
    return tensor


class _Maker(NamedTuple):
    """A function without attributes, since a pickle could set those of a plain one."""

    make: Callable

    def __call__(self, *arguments):
        return self.make(*arguments)


_PARTS = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Maker(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Maker(_rebuild_parameter),
}


def _size(dtype):
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _floats(content, dtype):
    """Bytes as numbers: floats of any size as float32."""
    if dtype == "bfloat16":
        return (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4")
    values = np.frombuffer(content, dtype)
    return values.astype("float32", copy=False) if values.dtype.kind == "f" else values
