"""Writing records, and the tables beside them, of images that were read and divided."""

import contextlib
import glob
import logging
import os
import re
from typing import NamedTuple

import numpy as np

from lib.data.record_format import make_record
from lib.data.splits import SPLITS, UNUSED
from lib.errors import WorkError
from lib.storage.files import whole_file
from lib.storage.names import escape_name, unescape_name

log = logging.getLogger(__name__)

_INDEX_HEADER = "FILE\tCATEGORY\tSPLIT\tRECORD\tSHA256\tDHASH\tTFR\n"


class Readable(NamedTuple):
    """The images of a collection that could be read.

    Attributes:
        items: `Item`s sorted by path.
        facts: their `Facts`.
        category: int64 `(images,)`: their categories.
        names: of the categories.
    """

    items: list
    facts: list
    category: np.ndarray
    names: list

    @classmethod
    def of(cls, items, facts, index_of, names):
        """Those of `items` that `facts`, path -> `Facts`, are known of; `index_of` gives their categories' indices."""
        good = [item for item in items if item.path in facts]
        category = np.array([index_of[item.category] for item in good], "int64")
        return cls(good, [facts[item.path] for item in good], category, names)


def write_records(prefix, images, splits, order, journal, shards=1):
    """Write the record files and the index, which appear together in the end; former record files go.

    Args:
        prefix: what their names begin with.
        images: the `Readable`.
        splits: int64 `(images,)`: an index into `SPLITS`, or `UNUSED`.
        order: the images' indices as they follow each other in the records.
        journal: the `Journal` that has their JPEGs.
        shards: how many files the training records are spread over.

    Returns:
        The record files' paths.

    Raises:
        WorkError: there is a directory in the place of one.
    """
    _remove_drafts(prefix)
    rows = [(SPLITS[split] if split != UNUSED else "unused", "", "") for split in splits]
    paths = []
    with _all_or_none() as draft:
        for path, name, share in _shares(prefix, splits, order, shards):
            paths.append(path)
            with draft(path) as file:
                for number, index in enumerate(share):
                    jpeg = journal.content(os.fsencode(images.items[index].path))
                    file.write(make_record(int(images.category[index]), jpeg))
                    rows[index] = (name, str(number), os.path.basename(path))
        former = _former_files(f"{prefix}-index.tsv")
        with draft(f"{prefix}-index.tsv") as file:  # the last to appear, so never before its records
            file.write(_INDEX_HEADER.encode())
            for item, facts, category, (split, number, record_file) in zip(*images[:3], rows):
                values = (
                    escape_name(item.path),
                    images.names[category],
                    split,
                    number,
                    facts.sha256,
                    f"{facts.dhash:016x}",
                )
                file.write(("\t".join([*values, escape_name(record_file)]) + "\n").encode())
    for name in former - {os.path.basename(path) for path in paths}:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(os.path.dirname(prefix), name))
    return tuple(paths)


def _shares(prefix, splits, order, shards):
    """Yield the record files: path, name of the split, indices of its images."""
    for split, name in enumerate(SPLITS):
        members = [index for index in order if splits[index] == split]
        parts = shards if split == 0 else 1
        for part in range(parts if members else 0):
            suffix = f"-{part:05d}-of-{parts:05d}" if parts > 1 else ""
            share = members[len(members) * part // parts : len(members) * (part + 1) // parts]
            yield f"{prefix}-{name}{suffix}.tfr", name, share


@contextlib.contextmanager
def _all_or_none():
    """Yield a function that opens drafts of files for writing, by their paths; when the block ends well they become
    these files, one after the other, else they go.
    """
    drafts = {}

    @contextlib.contextmanager
    def draft(path):
        if os.path.isdir(path):
            raise WorkError(f"{path} is a directory, so no file can be written there.")
        drafts[path] = f"{path}.{os.getpid()}.tmp"
        with open(drafts[path], "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())

    try:
        yield draft
        for path, temporary in drafts.items():
            os.replace(temporary, path)
    except BaseException:
        for temporary in drafts.values():
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise


def _remove_drafts(prefix):
    """Remove what a call that was killed while writing left; no other is writing, since the journal is ours."""
    for path in glob.glob(f"{glob.escape(prefix)}-*.tmp"):
        if re.fullmatch(r"-(train|validation|test|index)[-0-9of]*\.(tfr|tsv)\.\d+\.tmp", path[len(prefix) :]):
            os.unlink(path)


def _former_files(path):
    """The names of record files that a former index lists, which are not to be taken for what is written now."""
    try:
        with open(path, encoding="utf-8") as file:
            if file.readline() != _INDEX_HEADER:
                return set()
            names = {unescape_name(line.rstrip("\n").rsplit("\t", 1)[-1]) for line in file}
    except (OSError, UnicodeDecodeError):
        return set()
    return {name for name in names if name.endswith(".tfr") and os.path.basename(name) == name}


def write_mislabels(path, images, groups):
    """List near-duplicates of different categories; without any, remove a former list.

    Args:
        path: the table, which appears whole or not at all.
        images: the `Readable`.
        groups: int64 `(images,)`: a number for each, the same for near-duplicates.
    """
    members = {}
    for index, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(index)
    mixed = [group for group in members.values() if len({int(images.category[index]) for index in group}) > 1]
    if not mixed:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    with whole_file(path) as file:
        file.write("GROUP\tFILE\tCATEGORY\n")
        for number, group in enumerate(mixed):
            for index in group:
                name = images.names[images.category[index]]
                file.write(f"{number}\t{escape_name(images.items[index].path)}\t{name}\n")
    log.info(f"{len(mixed):,} groups of near-duplicates have several categories, probably by mistake: see {path}.")
