"""Reading records of labelled images: finding them in files, and their pixels."""

import array
import contextlib
import dataclasses
import logging
import os
import tempfile
from typing import Optional, Tuple

import numpy as np

from lib.data.record_format import BANDS, BadRecordError, decode, parse_record, scan
from lib.errors import UsageError, WorkError, concerning, option
from lib.storage.formats import read_rows
from lib.storage.untrusted import is_whole_number
from lib.system.memory import amount, free_memory
from lib.system.parallel import in_order, reading_threads
from lib.system.progress import progress
from lib.system.words import counted

log = logging.getLogger(__name__)

_CHUNK = 64  # images that a thread decodes at once, at most,
_CHUNK_BYTES = 64 << 20  # and of how many bytes; one image may have more

_PLACES = {"memory": "memory", "disk": "a temporary file"}


@dataclasses.dataclass(frozen=True)
class Records:
    """Where the records of some files are, and their categories.

    Attributes:
        files: the paths.
        file: int32 `(records,)`: the index of each one's file.
        number: int64 `(records,)`: its place among the records of this file, from 0.
        offset, length: int64 `(records,)`: where in that file its content is, in bytes.
        category: int32 `(records,)`: its category, after a number map.
        skipped: sentences about the bad records that were left out.
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

    def without(self, bad):
        """The same without some records: a dictionary of their indices and sentences about them."""
        good = np.ones(len(self), bool)
        good[list(bad)] = False
        arrays = {name: getattr(self, name)[good] for name in ("file", "number", "offset", "length", "category")}
        return dataclasses.replace(self, skipped=(*self.skipped, *bad.values()), **arrays)


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
    with concerning("number_map"):
        for line, row in list(read_rows(path))[1:]:
            if len(row) < 2 or not all(map(is_whole_number, row[:2])):
                raise UsageError(f"{path} line {line} needs an old and a new number, separated by a tab.")
            if int(row[0]) in mapping:
                raise UsageError(f"{path} line {line} repeats the old number {row[0]}.")
            mapping[int(row[0])] = int(row[1])
        if not mapping:
            raise UsageError(f"{path} needs a header and lines of an old and a new number.")
    return mapping


def open_records(files, setting, categories=None, number_map=None, skip_bad=False):
    """Find the records of files and check each, but for its image's content.

    Args:
        files: paths of `.tfr` files.
        setting: the name of the setting that names them, for messages.
        categories: the number of categories; None for any.
        number_map: a dictionary old -> new category; None for none.
        skip_bad: leave out bad records, rather than stop at one.

    Returns:
        `Records`.

    Raises:
        UsageError: no records, a category that is not in the map, or not below `categories`.
        WorkError: a bad record, unless they are skipped, or a file that can't be read.
    """
    rows, skipped = array.array("q"), []  # five numbers a row
    for place, path in enumerate(files):
        for found in scan(path):
            named = f"{path}, record {found.number}"
            try:
                if found.problem:
                    raise BadRecordError(found.problem)
                category, _ = parse_record(found.content)
            except BadRecordError as error:
                if not skip_bad:
                    raise _bad(f"{named}, {error}") from error
                skipped.append(f"{named}, {error}")
                continue
            if number_map is not None:
                if category not in number_map:
                    raise UsageError(f"the map has no category {category}, which {named}, has.", "number_map")
                category = number_map[category]
            if not 0 <= category < (1 << 31 if categories is None else categories):
                right = "0 is the lowest"
                if categories:
                    right = f"0 to {categories - 1} are right for {option('categories')} {categories}"
                raise UsageError(f"{named}, has the category {category}; {right}.", setting)
            rows.extend((place, found.number, found.offset, len(found.content), category))
    if not rows:
        reason = f" but bad ones: {skipped[0]}" if skipped else ""
        raise UsageError(f"there are no records in {', '.join(files)}{reason}.", setting)
    file, number, offset, length, category = np.array(rows).reshape(-1, 5).T.copy()
    return Records(tuple(files), file.astype("int32"), number, offset, length, category.astype("int32"), tuple(skipped))


def check_bands(model, named):
    """Raise UsageError, which calls a model `named`, if it takes images of a number of bands that no record has."""
    bands = model.input_shape[-1]
    if bands not in BANDS:
        raise UsageError(f"{named} takes images of {bands} bands; those of records have 1 or 3.")


def read_jpeg(records, index, file=None):
    """The JPEG of a record; `file` is the open file that it is in, None to open it."""
    if file is None:
        with open(records.files[records.file[index]], "rb") as file:
            return read_jpeg(records, index, file)
    file.seek(records.offset[index])
    return parse_record(file.read(records.length[index]))[1]


def map_images(function, records, indices, bands=3, processors=None, chunk=_CHUNK):
    """Decode records on several threads, which call a function with each picture.

    Args:
        function: called with an index and its picture, uint8 `(height, width, bands)`.
        records: `Records`.
        indices: of which records.
        bands: 3 or 1.
        processors: how many cores to use; None for all.
        chunk: how many records a thread decodes at a time.

    Yields:
        For some records at a time, in order: their indices, what the function returned for those that can be decoded,
        and a dictionary index -> sentence about the others.
    """

    def work(indices):
        results, bad, files = [], {}, {}
        with contextlib.ExitStack() as stack:
            for index in indices:
                path = records.files[records.file[index]]
                if path not in files:
                    files[path] = stack.enter_context(open(path, "rb"))
                try:
                    picture = decode(read_jpeg(records, index, files[path]), bands)
                except BadRecordError as error:
                    bad[index] = f"{records.name(index)}, {error}"
                else:
                    results.append(function(index, picture))
        return results, bad

    threads = reading_threads(processors)
    chunks = [indices[start : start + chunk] for start in range(0, len(indices), chunk)]
    with contextlib.closing(in_order(work, chunks, threads, 2 * threads)) as done:
        for some, (results, bad) in done:
            yield some, results, bad


@dataclasses.dataclass(frozen=True)
class Images:
    """The decoded images of records.

    Attributes:
        records: the `Records`, without those that can't be decoded.
        shape: height, width and bands of each.
        pixels: uint8 `(records, height, width, bands)`; None to decode images whenever they are taken.
        processors: how many cores to decode on; None for all.
    """

    records: Records
    shape: Tuple[int, int, int]
    pixels: Optional[np.ndarray]
    processors: Optional[int]

    def __len__(self):
        return len(self.records)

    def take(self, indices):
        """The images of some records: uint8 `(indices, height, width, bands)`."""
        if self.pixels is not None:
            return self.pixels[indices]
        result = np.empty((len(indices), *self.shape), "uint8")
        done = 0
        for _, pictures, bad in _decoded(self.records, indices, self.shape, self.processors):
            if bad:
                raise WorkError(f"{next(iter(bad.values()))}; the file has changed since it was read first.")
            result[done : done + len(pictures)] = pictures
            done += len(pictures)
        return result


def load_images(records, bands=3, cache=None, processors=None, skip_bad=False):
    """Decode the images of records, once, with progress on stderr.

    Args:
        records: `Records`.
        bands: 3 or 1.
        cache: where to keep the pixels: `memory`, `disk` (a temporary file that vanishes with the process), or `none`,
            to decode each image whenever it is needed; None chooses the first of these that fits.
        processors: how many cores to use; None for all.
        skip_bad: leave out images that can't be decoded, rather than stop at one.

    Returns:
        `Images`.

    Raises:
        UsageError: images of different sizes.
        WorkError: an image that can't be decoded, unless they are skipped; no room.
    """
    shape = _first_shape(records, bands, skip_bad)
    need = len(records) * int(np.prod(shape))
    chosen = cache or choose_cache(need)
    cached = f"kept decoded in {_PLACES[chosen]} ({amount(need)})" if chosen in _PLACES else "decoded whenever used"
    log.info(f"{counted(len(records), 'image')} of {shape[1]} x {shape[0]} pixels, {cached}.")
    try:
        pixels = make_room(chosen, (len(records), *shape))
    except WorkError as error:
        if cache is None:
            raise
        raise WorkError(f"{str(error)[:-1]}; choose another cache.", "cache") from error
    left_out, done = {}, 0
    with progress(len(records), "images") as advance:
        for indices, pictures, bad in _decoded(records, range(len(records)), shape, processors):
            if bad and not skip_bad:
                raise _bad(next(iter(bad.values())))
            left_out.update(bad)
            if pixels is not None and pictures:
                pixels[done : done + len(pictures)] = pictures
            done += len(pictures)
            advance(len(indices))
    records = records.without(left_out)
    return Images(records, shape, None if pixels is None else pixels[: len(records)], processors)


def tell_left_out(several):
    """Say which bad records were left out, if any: all figures are without them.

    Args:
        several: `Images`.

    Returns:
        A sentence about each, for JSON.
    """
    left_out = [sentence for images in several for sentence in images.records.skipped]
    if left_out:
        log.info(f"Left out {counted(len(left_out), 'bad record')}, such as {left_out[0]}.")
    return left_out


def choose_cache(need):
    """Where to keep pixels that need `need` bytes: see `load_images`."""
    if need <= free_memory() // 2:
        return "memory"
    space = os.statvfs(tempfile.gettempdir())
    return "disk" if need <= space.f_bavail * space.f_frsize // 2 else "none"


def make_room(cache, shape, dtype="uint8"):
    """An array for pixels, or other numbers, in a cache of `load_images`; None for `none`. WorkError: no room."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    try:
        if cache == "memory":
            return np.empty(shape, dtype)
        if cache == "disk":
            # The file has no name, so nothing is left however the process ends.
            with tempfile.TemporaryFile() as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                return np.memmap(file, dtype, "r+", shape=shape)
    except (MemoryError, OSError) as error:
        place = {"memory": "in memory", "disk": f"in {tempfile.gettempdir()}"}[cache]
        raise WorkError(f"there is no room for {amount(size)} of pixels or answers {place}.") from error
    return None


def _bad(sentence):
    return WorkError(f"{sentence}; {option('skip_bad')} leaves such records out.")


def _first_shape(records, bands, skip_bad):
    """The shape of the first image that can be decoded."""
    reasons = []
    for index in range(len(records)):
        try:
            return decode(read_jpeg(records, index), bands).shape
        except BadRecordError as error:
            reasons.append(f"{records.name(index)}, {error}")
            if not skip_bad:
                raise _bad(reasons[0]) from error
    raise WorkError(f"{', '.join(records.files)}: no image can be decoded; {reasons[0]}.")


def _decoded(records, indices, shape, processors):
    """`map_images` with the pictures themselves. UsageError: one has another shape."""

    def check(index, picture):
        if picture.shape != shape:
            raise UsageError(
                f"{records.name(index)}, is {picture.shape[1]} x {picture.shape[0]} pixels where others are "
                f"{shape[1]} x {shape[0]}; give records of one size."
            )
        return picture

    chunk = max(1, min(_CHUNK, _CHUNK_BYTES // int(np.prod(shape))))
    return map_images(check, records, indices, shape[2], processors, chunk)
