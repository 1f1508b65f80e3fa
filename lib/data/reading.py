"""Reading a collection's images, once: as small JPEGs, kept in a journal until the records are made."""

import contextlib
import functools
import json
import logging
import os
from typing import NamedTuple

import numpy as np
import simplejpeg

from lib.data.duplicates import difference_hash
from lib.data.images import ImageError, limit_memory, read_image
from lib.data.listing import of_folder
from lib.errors import UsageError, option
from lib.storage.files import checksum
from lib.storage.journal import Journal, settings_of_journal
from lib.storage.tables import check_errors_table, write_errors_table
from lib.system.parallel import cores, in_order
from lib.system.progress import progress
from lib.system.shard import WHOLE, Shard
from lib.system.words import counted

log = logging.getLogger(__name__)

_KIND = "images"
# A thread reads several small files at a time, since handing over each would take a third of the time again; after that
# many bytes it stops, so that a kill doesn't lose the work of seconds.
_FILES_AT_ONCE, _BYTES_AT_ONCE = 32, 1 << 20
_AHEAD = 8  # such portions for each thread that are read, or being read, before they are added to the journal


class Facts(NamedTuple):
    """Facts about an image file.

    Attributes:
        bytes, modified: its size, and its time of modification in nanoseconds, when it was read.
        sha256: of its content, in hexadecimal.
        dhash: see `difference_hash`.
    """

    bytes: int
    modified: int
    sha256: str
    dhash: int


def open_journal(settings):
    """The `Journal` of the images that were read; one of other settings is replaced."""
    return Journal(f"{settings.output}-partial.sqlite", _KIND, _jpeg_settings(settings), replace=True)


def _jpeg_settings(settings):
    return {name: getattr(settings, name) for name in ("size", "quality", "max_pixels")}


def read_images(items, journal, settings, errors):
    """Read into the journal the images that it lacks and those that have changed since.

    Args:
        items: `Item`s.
        journal: the `Journal`; its keys are paths.
        settings: the `Settings`.
        errors: a dictionary path -> reason, to which files that can't be read are added.

    Returns:
        A dictionary: path -> `Facts` of the others.
    """
    read = _unchanged(items, journal)
    todo = [item.path for item in items if item.path not in read]
    if read:
        log.info(f"{len(read):,} of {counted(len(items), 'image')} have already been read.")
    threads = cores(settings.processors)  # more would wait for Python's lock, and make the others wait
    limit_memory(settings.processors)
    results = in_order(functools.partial(_read_all, settings), _portions(todo), threads, _AHEAD * threads)
    with contextlib.closing(results), progress(len(todo), "images") as advance:
        for paths, found in results:
            jpegs = []
            for path, result in zip(paths, found):
                if isinstance(result, ImageError):
                    errors[path] = str(result)
                else:
                    read[path], jpeg = result
                    jpegs.append((os.fsencode(path), read[path], jpeg))
            journal.extend(jpegs)
            advance(len(paths))
    return read


def _portions(paths):
    """Yield lists of the paths, each of the files that a thread reads at a time."""
    portion, size = [], 0
    for path in paths:
        portion.append(path)
        with contextlib.suppress(OSError, ValueError):  # which reading it will name
            size += os.path.getsize(path)
        if len(portion) == _FILES_AT_ONCE or size >= _BYTES_AT_ONCE:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _unchanged(items, journal):
    """Path -> `Facts` of the items that are in the journal and unchanged since."""
    paths, read = {item.path for item in items}, {}
    for key, about in journal.facts():
        path, facts = os.fsdecode(key), Facts(*about)
        if path in paths:
            with contextlib.suppress(OSError):
                status = os.stat(path)
                if (facts.bytes, facts.modified) == (status.st_size, status.st_mtime_ns):
                    read[path] = facts
    return read


def _read_all(settings, paths):
    """What `_read` returns, of each."""
    return [_read(settings, path) for path in paths]


def _read(settings, path):
    """An image file as `Facts` and a JPEG, or the `ImageError` that says why it can't be read."""
    try:
        # Before its pixels: a file that is replaced meanwhile counts as changed the next time.
        status = os.stat(path) if os.path.exists(path) else None
        pixels = np.rint(read_image(path, settings.size, max_pixels=settings.max_pixels)).astype("uint8")
        digest = checksum(path)
    except ImageError as error:
        return error
    except OSError as error:
        return ImageError(f"can't be read: {error.strerror}")
    jpeg = simplejpeg.encode_jpeg(pixels, settings.quality, "RGB", "420")
    return Facts(status.st_size, status.st_mtime_ns, digest, difference_hash(pixels)), jpeg


def read_part(items, settings):
    """Read the part of labelled images that `settings.shard` names, into a journal of its own.

    Raises:
        WorkError: something can't be written.
    """
    (path, errors_table), errors = _part_files(settings, settings.shard), {}
    check_errors_table(errors_table)
    listing, items = _select_part(items, settings.shard)
    with Journal(path, _KIND, _jpeg_settings(settings), replace=True) as journal:
        read = read_images(items, journal, settings, errors)
        journal.finish({"shard": str(settings.shard), **listing.about})
    write_errors_table(errors_table, errors)
    log.info(f"{counted(len(read), 'image')} of part {settings.shard} read, {counted(len(errors), 'error')}.")


def take_parts(items, journal, settings):
    """Add the entries of all parts' journals, `settings.merge` of them, to a journal.

    Raises:
        UsageError: one is missing, not finished, or doesn't fit.
    """
    about = _select_part(items, WHOLE)[0].about
    for number in range(1, settings.merge + 1):
        shard = Shard(number, settings.merge)
        try:
            _take(_part_files(settings, shard)[0], journal, settings, {"shard": str(shard), **about})
        except UsageError as error:
            raise UsageError(f"{error} Run {option('shard')} {shard} to make it.", "merge") from error


def _take(path, journal, settings, finished):
    if not os.path.isfile(path):
        raise UsageError(f"{path} doesn't exist.")
    ours, theirs = _jpeg_settings(settings), settings_of_journal(path, _KIND)
    if theirs and theirs != ours:
        raise UsageError(f"{path} was made with other options: {json.dumps(theirs)} and not {json.dumps(ours)}.")
    with Journal(path, _KIND, ours) as part:
        if part.finished is None:
            raise UsageError(f"{path} is incomplete.")
        if part.finished != finished:
            raise UsageError(f"{path} was made from different images.")
        journal.extend(part.entries())


def remove_parts(settings):
    """Remove the files of the parts, which have been merged."""
    for number in range(1, (settings.merge or 0) + 1):
        for path in _part_files(settings, Shard(number, settings.merge)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _part_files(settings, shard):
    """The paths of a part's journal and of its table of errors."""
    path = f"{settings.output}-part-{shard.number:05d}-of-{shard.count:05d}"
    return f"{path}.sqlite", f"{path}-errors.tsv"


def _select_part(items, shard):
    """The `Listing` of a part of sorted `Item`s, and the items in it."""
    listing = of_folder([item.path for item in items], {}, shard)
    part = set(listing.paths)
    return listing, [item for item in items if item.path in part]
