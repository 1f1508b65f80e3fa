"""The format of records of labelled images, and of `.tfr` files. Nothing here needs TensorFlow.

A file is a TFRecord file. A record is a `tf.train.Example` with two features: `category`, one int64 from 0, and
`image`, the bytes of one JPEG.
"""

import functools
import itertools
import os
import struct
import zlib
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
        problem: a clause about what is wrong with it; None if nothing is.
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
        BadRecordError: it is not the content of a record of this project.
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
        WorkError: the file can't be read, or is compressed.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            for number in itertools.count():
                head = file.read(_HEAD.size)
                if not head:
                    return
                offset = file.tell()
                length, check = _HEAD.unpack(head.ljust(_HEAD.size, b"\0"))
                if len(head) == _HEAD.size and check != _checksum(head[:8]):
                    if number == 0 and _is_compressed(head + file.read(100)):
                        raise WorkError(
                            f"{path} is compressed (GZIP or ZLIB); give the file unpacked, as gunzip does it."
                        )
                    yield Scanned(number, offset, b"", "has a damaged length, so it and all after it can't be read")
                    return
                if offset + length + _TAIL.size > size:
                    yield Scanned(number, offset, b"", "is cut short, and so is the file")
                    return
                content = file.read(length)
                broken = file.read(_TAIL.size) != _TAIL.pack(_checksum(content))
                yield Scanned(number, offset, content, "has a broken checksum" if broken else None)
    except OSError as error:
        raise WorkError(f"{path} can't be read ({error.strerror}).") from error


def _is_compressed(start):
    """Whether a file with this start is compressed in one of the ways that TensorFlow has for records."""
    try:
        zlib.decompressobj(wbits=47).decompress(start)  # finds out itself whether it is gzip or zlib
    except zlib.error:
        return False
    return True


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
    options = {"colorspace": {1: "GRAY", 3: "RGB"}[bands], "fastdct": True}
    try:
        height, width = simplejpeg.decode_jpeg_header(jpeg, strict=False)[:2]
        if height * width > MAX_RECORD_PIXELS:
            raise BadRecordError(f"holds a JPEG of {width} x {height} pixels, more than {MAX_RECORD_PIXELS:,}")
        check_scans(jpeg)
        try:
            return simplejpeg.decode_jpeg(jpeg, strict=True, **options)
        except ValueError as error:
            # Some complaints, such as about extra bytes, don't affect the picture.
            if b"\xff\xd9" in jpeg[-64:] and "extraneous" in str(error):
                return simplejpeg.decode_jpeg(jpeg, strict=False, **options)
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


def _field(number, name, kind, **more):
    """A field of a message, as the arguments of a `FieldDescriptorProto`; `kind` is its type or another message."""
    if isinstance(kind, str):
        more.update(type=FieldDescriptorProto.TYPE_MESSAGE, type_name=f".tensorflow.{kind}")
    return {"number": number, "name": name, "type": kind, "label": FieldDescriptorProto.LABEL_OPTIONAL, **more}


@functools.lru_cache(maxsize=None)
def _example_class():
    """`tf.train.Example` without TensorFlow, whose import takes longer than making a small collection's records.

    It is registered in a pool of its own, since TensorFlow, where it is imported too, registers the same names.
    """
    kinds, repeated = FieldDescriptorProto, {"label": FieldDescriptorProto.LABEL_REPEATED}
    lists = [("bytes", kinds.TYPE_BYTES), ("float", kinds.TYPE_FLOAT), ("int64", kinds.TYPE_INT64)]
    values = [
        _field(number, f"{kind}_list", f"{kind.title()}List", oneof_index=0)
        for number, (kind, _) in enumerate(lists, start=1)
    ]
    entry = [_field(1, "key", kinds.TYPE_STRING), _field(2, "value", "Feature")]
    entry = {"name": "FeatureEntry", "field": entry, "options": {"map_entry": True}}
    feature = _field(1, "feature", "Features.FeatureEntry", **repeated)
    messages = [
        *({"name": f"{kind.title()}List", "field": [_field(1, "value", type_, **repeated)]} for kind, type_ in lists),
        {"name": "Feature", "field": values, "oneof_decl": [{"name": "kind"}]},
        {"name": "Features", "field": [feature], "nested_type": [entry]},
        {"name": "Example", "field": [_field(1, "features", "Features")]},
    ]
    pool = DescriptorPool()
    pool.Add(FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3", message_type=messages))
    return GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))
