"""Writing records, and the tables beside them, of images that were read and divided."""

import contextlib
import glob
import logging
import os
from typing import NamedTuple

import numpy as np

from lib.data.record_format import make_record
from lib.data.splits import SPLITS
from lib.errors import UsageError, WorkError
from lib.storage.files import whole_file
from lib.storage.formats import read_named_rows
from lib.storage.names import escape_name, unescape_name
from lib.system.words import counted

log = logging.getLogger(__name__)

_INDEX_COLUMNS = ["FILE", "CATEGORY", "SPLIT", "RECORD", "SHA256", "DHASH", "TFR"]
_DRAFT = ".draft"  # the ending of the files' names until all are whole


class Readable(NamedTuple):
    """The images of a collection that could be read.

    Attributes:
        items: `Item`s sorted by path.
        facts: their `Facts`.
        category: int64 `(images,)`: their categories.
        names: the categories' names.
    """

    items: list
    facts: list
    category: np.ndarray
    names: list

    @classmethod
    def of(cls, items, facts, index_of, names):
        """Of `items`, which all have `facts`, path -> `Facts`; `index_of` gives their categories' indices."""
        category = np.array([index_of[item.category] for item in items], "int64")
        return cls(items, [facts[item.path] for item in items], category, names)


def write_records(prefix, images, splits, order, journal, shards=1):
    """Write the record files and the index, which appear together at the end, and remove former record files.

    Args:
        prefix: the beginning of their names.
        images: the `Readable`.
        splits: int64 `(images,)`: an index into `SPLITS`, or `UNUSED`.
        order: the images' indices in the order of the records.
        journal: the `Journal` that has their JPEGs.
        shards: how many files the training records are spread over.

    Returns:
        The record files' paths.

    Raises:
        WorkError: a directory is in the place of one.
    """
    for path in glob.glob(f"{glob.escape(prefix)}-*.t[fs][rv]{_DRAFT}*"):  # of a call that was killed
        os.unlink(path)
    places, paths, table = {}, [], f"{prefix}-index.tsv"
    with contextlib.ExitStack() as drafts:

        def draft(path, mode="w"):
            if os.path.isdir(path):
                raise WorkError(f"{path} is a directory, so no file can be written there.")
            drafts.callback(_remove, path + _DRAFT)
            return whole_file(path + _DRAFT, mode)

        for path, share in _shares(prefix, splits, order, shards):
            paths.append(path)
            with draft(path, "wb") as file:
                for number, index in enumerate(share):
                    jpeg = journal.content(os.fsencode(images.items[index].path))
                    file.write(make_record(int(images.category[index]), jpeg))
                    places[index] = number, escape_name(os.path.basename(path))
        with draft(table) as file:
            print(*_INDEX_COLUMNS, sep="\t", file=file)
            for index, (item, facts, category) in enumerate(zip(images.items, images.facts, images.category)):
                number, record_file = places.get(index, ("", ""))
                split = SPLITS[splits[index]] if record_file else "unused"
                row = (escape_name(item.path), images.names[category], split, number, facts.sha256)
                print(*row, f"{facts.dhash:016x}", record_file, sep="\t", file=file)
        former = _former_files(table)
        for path in (*paths, table):  # the index last, so never before its records
            os.replace(path + _DRAFT, path)
    for name in former - {os.path.basename(path) for path in paths}:
        _remove(os.path.join(os.path.dirname(prefix), name))
    return tuple(paths)


def _shares(prefix, splits, order, shards):
    """Yield the record files: path, indices of its images."""
    for split, name in enumerate(SPLITS):
        members = [index for index in order if splits[index] == split]
        parts = shards if split == 0 else 1
        for part in range(parts if members else 0):
            suffix = f"-{part:05d}-of-{parts:05d}" if parts > 1 else ""
            share = members[len(members) * part // parts : len(members) * (part + 1) // parts]
            yield f"{prefix}-{name}{suffix}.tfr", share


def _remove(path):
    with contextlib.suppress(OSError):
        os.unlink(path)


def _former_files(path):
    """The names of record files that a former index lists."""
    with contextlib.suppress(UsageError):
        columns, rows = read_named_rows(path)
        if columns == _INDEX_COLUMNS:
            names = {unescape_name(row.get("TFR", "")) for _, row in rows}
            return {name for name in names if name.endswith(".tfr") and os.path.basename(name) == name}
    return set()


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
    mixed = [group for group in members.values() if len({*images.category[group].tolist()}) > 1]
    if not mixed:
        _remove(path)
        return
    with whole_file(path) as file:
        file.write("GROUP\tFILE\tCATEGORY\n")
        for number, group in enumerate(mixed):
            for index in group:
                name = images.names[images.category[index]]
                file.write(f"{number}\t{escape_name(images.items[index].path)}\t{name}\n")
    groups, have = counted(len(mixed), "group"), "has" if len(mixed) == 1 else "have"
    log.info(f"{groups} of near-duplicates {have} several categories, probably by mistake: see {path}.")
