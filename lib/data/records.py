"""Records of labelled images, `.tfr`: their content, and how to write and read them. All stages use this module.

A record is a `tf.train.Example` with two features: `category`, one int64 from 0, and `image`, the bytes of one JPEG.

    python -m lib.data.records train.tfr test.tfr

reports what is in record files, finds duplicates between the files and draws a contact sheet.
"""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import os
import struct
import sys
import tempfile
from typing import Tuple

import google_crc32c
import numpy as np
import simplejpeg
from google.protobuf.message import DecodeError

from lib.cli import legacy as cli
from lib.data.categories import read_labels
from lib.data.duplicates import difference_hash, near_groups
from lib.data.images import check_scans
from lib.display.contact_sheet import contact_sheet, fitted
from lib.errors import UsageError, WorkError
from lib.storage.files import whole_file
from lib.storage.untrusted import is_whole_number, read_tsv
from lib.system.devices import import_tensorflow
from lib.system.memory import amount, free_memory
from lib.system.parallel import in_order, reading_threads
from lib.system.progress import progress

CACHES = ("memory", "disk", "none")
BANDS = (1, 3)  # grey, or red, green and blue

_HEAD = struct.Struct("<QI")  # a record's length and the checksum of that
_TAIL = struct.Struct("<I")  # the checksum of its content
_LARGEST = 1 << 30  # bytes; a greater length is damage
_CHUNK = 64  # images that a thread decodes at once, at most,
_CHUNK_BYTES = 64 << 20  # and of how many bytes; one image may have more

LARGEST_PIXELS = 1 << 26  # of a record's picture; more is damage, or made to fill the memory


@dataclasses.dataclass(frozen=True)
class Records:
    """Where the records of some files are, and their categories.

    Attributes:
        files: the paths.
        file: int32 `(records,)`: which of the files each is in.
        number: int64 `(records,)`: the how many-eth it is there, from 0.
        offset, length: int64 `(records,)`: where its content lies there, in bytes.
        category: int32 `(records,)`: its category, after a number map.
        skipped: what bad records were left out: sentences.
    """

    files: Tuple[str, ...]
    file: np.ndarray
    number: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    category: np.ndarray
    skipped: Tuple[str, ...]

    def __len__(self):
        return len(self.category)

    def name(self, index):
        """A record in words, for messages."""
        return f"{self.files[self.file[index]]}, record {self.number[index]}"

    def without(self, indices, reasons):
        """The same without some records, which were bad for the given reasons."""
        kept = np.ones(len(self), bool)
        kept[indices] = False
        arrays = {name: getattr(self, name)[kept] for name in ("file", "number", "offset", "length", "category")}
        return dataclasses.replace(self, skipped=(*self.skipped, *reasons), **arrays)


class BadRecordError(ValueError):
    """A record can't be used; the message is a clause about it."""


def make_record(category, jpeg):
    """The bytes in a `.tfr` file of one record.

    Its content is what `tf.train.Example` serialises to, written out here since importing TensorFlow would take most of
    the time of making a small collection's records.

    Args:
        category: its category, from 0.
        jpeg: the bytes of a JPEG.
    """
    numbers = _message(3, _message(1, _varint(category)))  # Feature.int64_list, Int64List.value
    contents = _message(1, _message(1, jpeg))  # Feature.bytes_list, BytesList.value
    entries = ((b"category", numbers), (b"image", contents))
    features = b"".join(_message(1, _message(1, name) + _message(2, feature)) for name, feature in entries)
    content = _message(1, features)  # Example.features
    length = struct.pack("<Q", len(content))
    return length + _TAIL.pack(_checksum(length)) + content + _TAIL.pack(_checksum(content))


def _message(field, content):
    """A field of Protocol Buffers that holds bytes."""
    return bytes([field << 3 | 2]) + _varint(len(content)) + content


def _varint(number):
    """A number of 0 or more as Protocol Buffers write it."""
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


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


@functools.lru_cache(maxsize=None)
def _example_class():
    """`tf.train.Example`; imported when it is needed, so that options can be checked without TensorFlow."""
    return import_tensorflow().train.Example


def read_number_map(path):
    """Read a table that gives categories other numbers.

    Args:
        path: a TSV with a header, whose first column is the old number and whose second the new one.

    Returns:
        A dictionary: old -> new.

    Raises:
        UsageError: it is something else.
    """
    mapping = {}
    for line, row in read_tsv(path, f"-n/--numberMap: {path}")[1:]:
        if len(row) < 2 or not all(map(is_whole_number, row[:2])):
            raise UsageError(f"-n/--numberMap: {path} line {line} needs an old and a new number, separated by a tab.")
        if int(row[0]) in mapping:
            raise UsageError(f"-n/--numberMap: {path} line {line} repeats the old number {row[0]}.")
        mapping[int(row[0])] = int(row[1])
    if not mapping:
        raise UsageError(f"-n/--numberMap: {path} needs a header and lines of an old and a new number.")
    return mapping


def open_records(files, option, outputs=None, number_map=None, skip_bad=False):
    """Find the records of files and check each, its image's content aside.

    Args:
        files: paths of `.tfr` files.
        option: the option that names them, for messages.
        outputs: how many categories there are; None for any.
        number_map: a dictionary old -> new category; None for none.
        skip_bad: whether to leave out bad records, rather than stop at one.

    Returns:
        `Records`.

    Raises:
        UsageError: no records, a category that is not in the map, or not below `outputs`.
        WorkError: a bad record, unless they are skipped, or a file that can't be read.
    """
    columns = collections.defaultdict(list)
    skipped = []
    for place, path in enumerate(files):
        for number, offset, content, problem in _scan(path):
            try:
                if problem:
                    raise BadRecordError(problem)
                category, _ = parse_record(content)
            except BadRecordError as error:
                if not skip_bad:
                    raise WorkError(f"{path}, record {number}, {error}; --skip-bad leaves such records out.") from error
                skipped.append(f"{path}, record {number}, {error}")
                continue
            if number_map is not None:
                if category not in number_map:
                    raise UsageError(
                        f"-n/--numberMap: the map has no category {category}, which {path}, record {number}, has."
                    )
                category = number_map[category]
            if not 0 <= category < (1 << 31 if outputs is None else outputs):
                right = f"0 to {outputs - 1} are right for -a/--array {outputs}" if outputs else "0 is the lowest"
                raise UsageError(f"{option}: {path}, record {number}, has the category {category}; {right}.")
            row = (place, number, offset, len(content), category)
            for name, value in zip(("file", "number", "offset", "length", "category"), row):
                columns[name].append(value)
    if not columns:
        reason = f" but bad ones: {skipped[0]}" if skipped else ""
        raise UsageError(f"{option}: there are no records in {', '.join(files)}{reason}.")
    types = {"file": "int32", "category": "int32"}
    arrays = {name: np.array(values, types.get(name, "int64")) for name, values in columns.items()}
    return Records(tuple(files), skipped=tuple(skipped), **arrays)


def _scan(path):
    """Yield number, offset, content and what is wrong with it (else None) of each record of a file."""
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
                    yield number, offset, b"", "is cut short, and so is the file"
                    return
                length, check = _HEAD.unpack(head)
                if check != _checksum(head[:8]) or length > _LARGEST:
                    yield number, offset, b"", "has a damaged length, so it and all after it can't be read"
                    return
                if offset + length + _TAIL.size > size:
                    yield number, offset, b"", "is cut short, and so is the file"
                    return
                content = file.read(length)
                (check,) = _TAIL.unpack(file.read(_TAIL.size))
                yield number, offset, content, None if check == _checksum(content) else "has a broken checksum"
                number += 1
    except OSError as error:
        raise WorkError(f"{path} can't be read ({error.strerror}).") from error


def record_ends(path):
    """Where each whole record of a file ends, up to the first that is not whole: int64 `(records,)`, in bytes.

    Raises:
        WorkError: the file can't be read.
    """
    whole = itertools.takewhile(lambda found: not found[3], _scan(path))
    return np.fromiter((offset + len(content) + _TAIL.size for _, offset, content, _ in whole), "int64")


def _checksum(data):
    """The masked CRC-32C that TFRecord files use."""
    value = google_crc32c.value(data)
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def check_bands(model, named):
    """Raise UsageError, which calls a model `named`, if it takes images of as many bands as no record's have."""
    bands = model.input_shape[-1]
    if bands not in BANDS:
        raise UsageError(f"{named} takes images of {bands} bands; those of records have 1 or 3.")


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
        if height * width > LARGEST_PIXELS:
            raise BadRecordError(f"holds a JPEG of {width} x {height} pixels, more than {LARGEST_PIXELS:,}")
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


class Images:
    """The decoded images of records.

    Attributes:
        records: the `Records`, those that can't be decoded left out.
        shape: height, width and bands of each.
    """

    def __init__(self, records, shape, pixels, threads):
        self.records, self.shape = records, shape
        self._pixels, self._threads = pixels, threads

    def __len__(self):
        return len(self.records)

    def take(self, indices):
        """The images of some records: uint8 `(indices, height, width, bands)`."""
        if self._pixels is not None:
            return self._pixels[indices]
        result = np.empty((len(indices), *self.shape), "uint8")
        done = 0
        for _, pictures, failed in _decoded(self.records, self.shape[2], indices, self._threads, self.shape):
            if failed:
                raise WorkError(f"{self.records.name(next(iter(failed)))}, has changed since it was read first.")
            result[done : done + len(pictures)] = pictures
            done += len(pictures)
        return result


def load_images(records, bands=3, cache=None, processors=None, skip_bad=False, report=print):
    """Decode the images of records, once, with progress on stderr.

    Args:
        records: `Records`.
        bands: 3 or 1.
        cache: where to keep the pixels: `memory`, `disk` (a temporary file that goes with the process), or `none`,
            to decode each image whenever it is asked for; None chooses the first of these that fits.
        processors: how many cores to use; None for all.
        skip_bad: whether to leave out images that can't be decoded, rather than stop at one.
        report: called with each message for the user.

    Returns:
        `Images`.

    Raises:
        UsageError: images of different sizes.
        WorkError: an image that can't be decoded, unless they are skipped; no room.
    """
    threads = reading_threads(processors)
    shape = _first_shape(records, bands, skip_bad)
    need = len(records) * int(np.prod(shape))
    chosen = cache or choose_cache(need)
    report(f"{len(records):,} images of {shape[1]} x {shape[0]} pixels, {_CACHED[chosen].format(amount(need))}.")
    try:
        pixels = make_room(chosen, (len(records), *shape))
    except WorkError as error:
        if cache is None:
            raise
        raise WorkError(f"--cache {cache}: {str(error)[:-1]}; give another --cache.") from error
    bad, done = {}, 0
    with progress(len(records), "images") as advance:
        for indices, pictures, failed in _decoded(records, bands, range(len(records)), threads, shape):
            for index, reason in failed.items():
                bad[index] = f"{records.name(index)}, {reason}"
                if not skip_bad:
                    raise WorkError(f"{bad[index]}; --skip-bad leaves such records out.")
            if pixels is not None and pictures:
                pixels[done : done + len(pictures)] = pictures
            done += len(pictures)
            advance(len(indices))
    records = records.without(list(bad), bad.values())
    return Images(records, shape, None if pixels is None else pixels[: len(records)], threads)


def tell_left_out(several, report):
    """Tell the user what bad records were left out, if any: all figures are without them.

    Args:
        several: `Images`.
        report: called with a message for the user.

    Returns:
        A sentence about each, for JSON.
    """
    left_out = [sentence for images in several for sentence in images.records.skipped]
    if left_out:
        report(f"Left out {len(left_out):,} bad records, such as {left_out[0]}.")
    return left_out


_CACHED = {
    "memory": "kept decoded in memory ({})",
    "disk": "kept decoded in a temporary file ({})",
    "none": "decoded each time they are used",
}


def choose_cache(need):
    """Where to keep so many bytes of pixels: see `load_images`."""
    if need <= free_memory() // 2:
        return "memory"
    space = os.statvfs(tempfile.gettempdir())
    return "disk" if need <= space.f_bavail * space.f_frsize // 2 else "none"


def make_room(cache, shape, dtype="uint8"):
    """A place for pixels, or other numbers, of a shape, in a cache of `CACHES`; None for `none`. WorkError: no room."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    try:
        if cache == "memory":
            return np.empty(shape, dtype)
        if cache == "disk":
            # The file has no name, so that nothing is left whatever becomes of the process.
            with tempfile.TemporaryFile() as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                return np.memmap(file, dtype, "r+", shape=shape)
    except (MemoryError, OSError) as error:
        place = {"memory": "in memory", "disk": f"in {tempfile.gettempdir()}"}[cache]
        raise WorkError(f"there is no room for {amount(size)} of pixels or answers {place}.") from error
    return None


def _first_shape(records, bands, skip_bad):
    """The shape of the first image that can be decoded."""
    first = None
    for index in range(len(records)):
        try:
            return decode(read_jpeg(records, index), bands).shape
        except BadRecordError as error:
            reason = f"{records.name(index)}, {error}"
            if not skip_bad:
                raise WorkError(f"{reason}; --skip-bad leaves such records out.") from error
            first = first or reason
    raise WorkError(f"{', '.join(records.files)}: no image can be decoded; {first}.")


def read_jpeg(records, index, file=None):
    """The JPEG of a record; `file` is the open file that it is in, None to open it."""
    if file is None:
        with open(records.files[records.file[index]], "rb") as file:
            return read_jpeg(records, index, file)
    file.seek(records.offset[index])
    return parse_record(file.read(records.length[index]))[1]


def _decoded(records, bands, indices, threads, shape):
    """Decode records of one shape on several threads: see `_seen`, with the pictures, uint8 `(height, width, bands)`.

    Raises:
        UsageError: a picture of another shape.
    """

    def check(index, picture):
        if picture.shape != shape:
            raise UsageError(
                f"{records.name(index)}, is {picture.shape[1]} x {picture.shape[0]} pixels where others are "
                f"{shape[1]} x {shape[0]}; give records of one size."
            )
        return picture

    most = max(1, min(_CHUNK, _CHUNK_BYTES // int(np.prod(shape))))
    return _seen(records, bands, indices, threads, check, most)


def _seen(records, bands, indices, threads, see, most=_CHUNK):
    """Decode records on several threads, and keep what is seen in each picture.

    Args:
        records: `Records`.
        bands: 3 or 1.
        indices: of which records.
        threads: how many.
        see: called with an index and its picture, on a thread; returns what is kept.
        most: how many records a thread decodes before it gives back what it saw.

    Yields:
        In order, of some records at once: their indices, what was seen in those that can be decoded, and a dictionary
        index -> reason of the others.
    """
    _example_class()  # before the threads start, as `in_order` asks for

    def work(chunk):
        pictures, failed, files = [], {}, {}
        with contextlib.ExitStack() as stack:
            for index in chunk:
                path = records.files[records.file[index]]
                if path not in files:
                    files[path] = stack.enter_context(open(path, "rb"))
                try:
                    picture = decode(read_jpeg(records, index, files[path]), bands)
                except BadRecordError as error:
                    failed[index] = str(error)
                    continue
                pictures.append(see(index, picture))
        return pictures, failed

    chunks = [indices[start : start + most] for start in range(0, len(indices), most)]
    with contextlib.closing(in_order(work, chunks, threads, 2 * threads)) as results:
        for chunk, (pictures, failed) in results:
            yield chunk, pictures, failed


def options():
    """The command line of `python -m lib.data.records`."""
    parser = cli.parser(__doc__)
    parser.prog = "python -m lib.data.records"
    parser.add_argument("files", nargs="+", type=cli.record_files, metavar="FILE", help="a .tfr file, list or glob")
    parser.add_argument(
        "--sheet", type=cli.output_file, metavar="FILE", help="contact sheet to draw (the first file's name with .png)"
    )
    parser.add_argument(
        "--labels", type=cli.existing_file, metavar="FILE", help="a TSV with the categories' INDEX and LABEL"
    )
    cli.add_duplicates_option(parser)
    cli.add_skip_option(parser)
    return parser


def main(argv=None):
    """Say what is in files of records; returns the exit status."""
    return cli.run(options(), _inspect, argv)


def _inspect(arguments):
    files = tuple(dict.fromkeys(path for paths in arguments.files for path in paths))
    labels = None if arguments.labels is None else read_labels(arguments.labels)
    records = open_records(files, "FILE", len(labels) if labels else None, skip_bad=arguments.skip_bad)
    sizes, hashes, contents, examples, bad = _look_at_all(records, arguments.skip_bad)
    for sentence in (*records.skipped, *bad):
        print(f"left out: {sentence}", file=sys.stderr)
    names = [os.path.basename(path) for path in files]
    highest = max(examples, default=-1)
    labels = labels or [f"category {category}" for category in range(highest + 1)]
    print("\t".join(["CATEGORY", *names]))
    for category, label in enumerate(labels):
        counts = [int(((records.category == category) & (records.file == place)).sum()) for place in range(len(files))]
        print("\t".join([label, *map(str, counts)]))
    print("\t".join(["all", *(str(int((records.file == place).sum())) for place in range(len(files)))]))
    for (width, height), count in sorted(sizes.items()):
        print(f"{count:,} images of {width} x {height} pixels")
    for one, other, equal, near in _shared(records, hashes, contents, arguments.duplicates):
        print(f"{names[one]} and {names[other]} share {equal:,} equal images and {near:,} that are nearly the same")
    path = arguments.sheet or os.path.splitext(files[0])[0] + ".png"
    rows = [(labels[category], pictures) for category, pictures in sorted(examples.items())]
    with whole_file(path, "wb") as file:
        contact_sheet(rows).save(file, "PNG")
    print(f"contact sheet: {path}")


def _look_at_all(records, skip_bad, most=12):
    """Decode all records.

    Returns:
        How many images have which width and height; dictionaries of record -> dHash and record -> SHA-256 of the
        JPEG; category -> its first `most` pictures as a contact sheet has them; sentences about those that can't be
        decoded.
    """

    def see(index, picture):
        return picture.shape[1::-1], difference_hash(picture), fitted(picture)

    sizes, hashes, contents, examples, bad = collections.Counter(), {}, {}, {}, []
    with progress(len(records), "images") as advance:
        for chunk, seen, failed in _seen(records, 3, range(len(records)), reading_threads(), see):
            good = [index for index in chunk if index not in failed]
            for index, reason in failed.items():
                bad.append(f"{records.name(index)}, {reason}")
                if not skip_bad:
                    raise WorkError(f"{bad[-1]}; --skip-bad leaves such records out.")
            for index, (size, dhash, small) in zip(good, seen):
                sizes[size] += 1
                hashes[index] = dhash
                contents[index] = hashlib.sha256(read_jpeg(records, index)).digest()
                shown = examples.setdefault(int(records.category[index]), [])
                if len(shown) < most:
                    shown.append(small)
            advance(len(chunk))
    return sizes, hashes, contents, examples, bad


def _shared(records, hashes, contents, bits):
    """For each two files: how many images of the first are in the second, too, byte for byte and nearly."""
    indices = np.array(list(hashes))
    groups = None if bits is None else near_groups(np.array(list(hashes.values()), "uint64"), bits)
    file = records.file[indices]
    for one in range(len(records.files)):
        for other in range(one + 1, len(records.files)):
            there = {contents[index] for index in indices[file == other].tolist()}
            equal = np.array([contents[index] in there for index in indices[file == one].tolist()], bool)
            near = equal if groups is None else np.isin(groups[file == one], groups[file == other]) | equal
            yield one, other, int(equal.sum()), int(near.sum() - equal.sum())


if __name__ == "__main__":
    raise SystemExit(main())
