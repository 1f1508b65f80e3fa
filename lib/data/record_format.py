"""What a record of a labelled image holds, and how a `.tfr` file holds records. Nothing here needs TensorFlow.

A file is a TFRecord file. A record is a `tf.train.Example` with two features: `category`, one int64 from 0, and
`image`, the bytes of one JPEG.
"""

import functools
import os
import struct
from typing import NamedTuple, Optional

import google_crc32c
import simplejpeg
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from lib.data.images import check_scans
from lib.errors import WorkError

BANDS = (1, 3)  # grey, or red, green and blue
MAX_RECORD_PIXELS = 1 << 26  # more is damage, or made to fill the memory

_MAX_LENGTH = 1 << 30  # bytes; a greater length is damage
_HEAD = struct.Struct("<QI")  # a record's length and the checksum of that
_TAIL = struct.Struct("<I")  # the checksum of its content


class BadRecordError(ValueError):
    """A record can't be used; the message is a clause about it."""


class Scanned(NamedTuple):
    """A record as it lies in a file.

    Attributes:
        number: its place among the file's records, from 0.
        offset: where its content begins, in bytes.
        content: its bytes.
        problem: what is wrong with it, as a clause; None if nothing.
    """

    number: int
    offset: int
    content: bytes
    problem: Optional[str] = None


def make_record(category, jpeg):
    """The bytes in a `.tfr` file of one record, those that TensorFlow writes.

    Args:
        category: its category, from 0.
        jpeg: the bytes of a JPEG.
    """
    example = _example_class()()
    example.features.feature["category"].int64_list.value.append(category)
    example.features.feature["image"].bytes_list.value.append(jpeg)
    return frame(example.SerializeToString(deterministic=True))


def frame(content):
    """The bytes in a TFRecord file of a record with this content."""
    length = struct.pack("<Q", len(content))
    return length + _TAIL.pack(_checksum(length)) + content + _TAIL.pack(_checksum(content))


def parse_record(content):
    """The category and the JPEG of a record's content.

    Raises:
        BadRecordError: it is not what a record of this project holds.
    """
    try:
        features = _example_class().FromString(content).features.feature
    except DecodeError:
        raise BadRecordError("is not a tf.train.Example") from None
    for name in ("category", "image"):
        if name not in features:
            raise BadRecordError(f"has no feature {name!r}")
    categories, images = features["category"].int64_list.value, features["image"].bytes_list.value
    if len(categories) != 1 or len(images) != 1:
        raise BadRecordError("does not hold one int64 as its category and the bytes of one image")
    if not images[0].startswith(b"\xff\xd8"):
        raise BadRecordError("holds an image that is not a JPEG")
    return categories[0], images[0]


def scan(path):
    """Yield the `Scanned` records of a file, up to one that hides where the next begins.

    Raises:
        WorkError: the file can't be read.
    """
    number = 0
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            while True:
                head = file.read(_HEAD.size)
                if not head:
                    return
                offset = file.tell()
                if len(head) < _HEAD.size:
                    yield Scanned(number, offset, b"", "is cut short, and so is the file")
                    return
                length, check = _HEAD.unpack(head)
                if check != _checksum(head[:8]) or length > _MAX_LENGTH:
                    yield Scanned(number, offset, b"", "has a damaged length, so it and all after it can't be read")
                    return
                if offset + length + _TAIL.size > size:
                    yield Scanned(number, offset, b"", "is cut short, and so is the file")
                    return
                content = file.read(length)
                (check,) = _TAIL.unpack(file.read(_TAIL.size))
                problem = None if check == _checksum(content) else "has a broken checksum"
                yield Scanned(number, offset, content, problem)
                number += 1
    except OSError as error:
        raise WorkError(f"{path} can't be read ({error.strerror}).") from error


def decode(jpeg, bands=3):
    """Decode a JPEG to the pixels that TensorFlow's `decode_jpeg` gives.

    Args:
        jpeg: its bytes.
        bands: 3 for red, green and blue, 1 for grey.

    Returns:
        uint8 `(height, width, bands)`.

    Raises:
        BadRecordError: it can't be decoded whole.
    """
    colours = {1: "GRAY", 3: "RGB"}[bands]
    try:
        height, width = simplejpeg.decode_jpeg_header(jpeg, strict=False)[:2]
        if height * width > MAX_RECORD_PIXELS:
            raise BadRecordError(f"holds a JPEG of {width} x {height} pixels, more than {MAX_RECORD_PIXELS:,}")
        check_scans(jpeg)
        try:
            return simplejpeg.decode_jpeg(jpeg, colours, fastdct=True, strict=True)
        except ValueError as error:
            # Some of what it complains about, such as bytes too many, takes nothing from the picture.
            if b"\xff\xd9" in jpeg[-64:] and "extraneous" in str(error):
                return simplejpeg.decode_jpeg(jpeg, colours, fastdct=True, strict=False)
            raise
    except BadRecordError:
        raise
    except (ValueError, KeyError) as error:  # KeyError: of a kind of JPEG that simplejpeg has no name for
        reason = "its header is damaged or cut short" if str(error) == "-1" else error
        raise BadRecordError(f"holds a JPEG that can't be decoded ({reason})") from error


def _checksum(data):
    """The masked CRC-32C that TFRecord files use."""
    value = google_crc32c.value(data)
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


# The fields of TensorFlow's example.proto and feature.proto, in the order of their numbers: name, type, repeated.
_MESSAGES = {
    "BytesList": [("value", FieldDescriptorProto.TYPE_BYTES, True)],
    "FloatList": [("value", FieldDescriptorProto.TYPE_FLOAT, True)],
    "Int64List": [("value", FieldDescriptorProto.TYPE_INT64, True)],
    "Feature": [
        ("bytes_list", "BytesList", False),
        ("float_list", "FloatList", False),
        ("int64_list", "Int64List", False),
    ],
    "Features": [("feature", "Features.FeatureEntry", True)],
    "Features.FeatureEntry": [("key", FieldDescriptorProto.TYPE_STRING, False), ("value", "Feature", False)],
    "Example": [("features", "Features", False)],
}


@functools.lru_cache(maxsize=None)
def _example_class():
    """`tf.train.Example` without TensorFlow, whose import takes longer than making a small collection's records.

    It is registered in a pool of its own, since TensorFlow, where it is imported too, registers the same names.
    """
    file = FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    made = {}
    for name, fields in _MESSAGES.items():
        parent, _, own = name.rpartition(".")
        made[name] = (made[parent].nested_type if parent else file.message_type).add(name=own)
        for number, (field, kind, repeated) in enumerate(fields, start=1):
            label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
            added = made[name].field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".tensorflow.{kind}"
            else:
                added.type = kind
    made["Features.FeatureEntry"].options.map_entry = True
    made["Feature"].oneof_decl.add(name="kind")
    for field in made["Feature"].field:
        field.oneof_index = 0
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))
