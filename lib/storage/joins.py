"""Columns of another table, such as a museum's own export, that belong to the files of a table of results."""

import json
import os
import sqlite3
import unicodedata

from lib.errors import UsageError, concerning
from lib.storage.files import checksum
from lib.storage.formats import read_rows
from lib.storage.names import path_order, unescape_name

_SEPARATOR = " | "  # of the values of several rows of one file


class Join:
    """The rows of a table with a column `FILE`, found by the path of a file; held in a temporary database.

    FILE is a path as tables of results have it, or as other programs write it: with backslashes, from the current
    directory, from the table's folder or from that of the images.

    Args:
        path: the table, see `lib.storage.formats.read_rows`.
        taken: the names of columns that the table of results has itself; to these `_JOINED` is appended.
        folder: that of the images; None for none.

    Attributes:
        columns: the names of the columns, without FILE.
        about: what it depends on, for JSON.
        found: how many files had a row so far.

    Raises:
        UsageError: it has no column FILE, or is no table.
    """

    def __init__(self, path, taken, folder=None):
        self._path, self.found, self._example = path, 0, ""
        self._database = sqlite3.connect("", isolation_level=None)
        with concerning("join"):
            rows = read_rows(path)
            _, names = next(rows, (1, []))
            place = next((number for number, name in enumerate(names) if name.upper() == "FILE"), None)
            if place is None:
                raise UsageError(f"{path} needs a column FILE, the images as in the table, beside {', '.join(names)}.")
            chosen = [number for number, name in enumerate(names) if number != place and name]
            self.columns = _distinct([names[number] for number in chosen], taken)
            self.about = {"columns": self.columns, "sha256": checksum(path)}
            self._fill(rows, place, chosen, ("", os.path.dirname(path), folder or ""))

    def _fill(self, rows, place, chosen, folders):
        self._database.executescript(
            """
            PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
            CREATE TABLE rows (number INTEGER PRIMARY KEY, content TEXT);
            CREATE TABLE files (path TEXT, rank INTEGER, number INTEGER, PRIMARY KEY (path, rank, number))
                WITHOUT ROWID;
            BEGIN;
            """
        )
        for number, values in rows:
            name = values[place] if place < len(values) else ""
            if not name.strip():
                continue
            texts = [" ".join(values[at].split()) if at < len(values) else "" for at in chosen]
            self._database.execute("INSERT INTO rows VALUES (?, ?)", (number, json.dumps(texts)))
            spellings = dict.fromkeys((unescape_name(name), name, name.replace("\\", "/")))
            for rank, folder in enumerate(folders):
                keys = [(_key(os.path.join(folder, spelling)), rank, number) for spelling in spellings]
                self._database.executemany("INSERT OR IGNORE INTO files VALUES (?, ?, ?)", keys)
            self._example = self._example or name
        self._database.execute("COMMIT")

    def values(self, path):
        """The values of a file's columns, empty without a row; those that several rows have, separated by ` | `.

        Args:
            path: of the file, as bytes.
        """
        query = "SELECT rank, content FROM files JOIN rows USING (number) WHERE path = ? ORDER BY rank, number"
        found = self._database.execute(query, (_key(os.fsdecode(path)),)).fetchall()
        rows = [json.loads(content) for rank, content in found if rank == found[0][0]]
        self.found += bool(rows)
        return [_SEPARATOR.join(filter(None, dict.fromkeys(each))) for each in zip(*rows)] or [""] * len(self.columns)

    def in_words(self, count, example):
        """How many of the images have a row, as a sentence.

        Args:
            count: of the images.
            example: the path of one of them, as text.
        """
        if self.found or not count:
            return f"{self.found:,} of {count:,} images have a row in {self._path}."
        unlike = f"its FILEs are like {self._example}, the images like {example}"
        return f"none of the images has a row in {self._path}: {unlike}."


class KeptColumns:
    """The columns that were joined to a finished table earlier, for its rows in the same order; like a `Join`.

    Args:
        path: the table.
        about: of the `Join`.
    """

    def __init__(self, path, about):
        self.columns, self.about = about["columns"], about
        self._rows = read_rows(path)
        _, names = next(self._rows, (1, ["FILE"]))
        self._place, self._row = names.index("FILE"), None

    def values(self, path):
        """As of `Join`; the paths have to ascend."""
        while self._row is None or (self._row and path_order(self._row[self._place]) < path):
            _, self._row = next(self._rows, (0, ()))
        known = self._row and path_order(self._row[self._place]) == path
        return list(self._row[-len(self.columns) :]) if known else [""] * len(self.columns)


def _key(path):
    """What paths are compared by: bytes that are not UTF-8, which a database refuses, are escaped."""
    text = unicodedata.normalize("NFC", os.path.abspath(path))
    return text.encode("utf-8", "backslashreplace").decode()


def _distinct(names, taken):
    """Names of columns, `_JOINED` appended to those that are taken, also by one before."""
    found, taken = [], {*taken}
    for name in names:
        while name in taken:
            name += "_JOINED"
        taken.add(name)
        found.append(name)
    return found
