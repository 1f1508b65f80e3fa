"""Images that were read already, kept in a file until all are, so that a killed run loses none of them."""

import contextlib
import json
import os
import sqlite3
from typing import NamedTuple

from lib.errors import UsageError, WorkError
from lib.storage.databases import IMAGES, check_ours, make_ours
from lib.storage.files import patience

_TABLES = {
    "settings": "CREATE TABLE settings (text TEXT)",
    "images": "CREATE TABLE images (file BLOB PRIMARY KEY, bytes INTEGER, modified INTEGER,"
    " sha256 TEXT, dhash TEXT, jpeg BLOB)",
    "finished": "CREATE TABLE finished (text TEXT)",
}


class Spooled(NamedTuple):
    """What is known of an image file, its JPEG aside.

    Attributes:
        bytes, modified: the file's size and time of modification, in nanoseconds, when it was read.
        sha256: of its content, in hexadecimal.
        dhash: see `lib.data.duplicates.difference_hash`.
    """

    bytes: int
    modified: int
    sha256: str
    dhash: int


class Spool:
    """Small JPEGs of image files in a database; one process at a time has it.

    Args:
        path: the database, made when it is not there.
        settings: what the JPEGs depend on; one of other settings is begun anew.

    Raises:
        UsageError: another process has it, or it is another program's.
        WorkError: it can't be written, or it is damaged.
    """

    def __init__(self, path, settings):
        self._path = path
        with self._sentences():
            self._database = sqlite3.connect(path, timeout=patience())
            check_ours(self._database, path, IMAGES, lambda found: found.items() <= _TABLES.items())
            # The process may be killed at any time; what the machine's own end would lose is only read again.
            self._database.executescript("PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = OFF;")
            self._database.execute("BEGIN EXCLUSIVE")  # reading alone would let others in
            make_ours(self._database, IMAGES)
            self._make("settings")
            self._make("images")
            text = json.dumps(settings, sort_keys=True)
            if self._database.execute("SELECT text FROM settings").fetchall() != [(text,)]:
                self._database.execute("DELETE FROM settings")
                self._database.execute("DELETE FROM images")
                self._database.execute("DROP TABLE IF EXISTS finished")
                self._database.execute("INSERT INTO settings VALUES (?)", (text,))
            self._database.commit()

    def _make(self, table):
        self._database.execute(_TABLES[table].replace("TABLE", "TABLE IF NOT EXISTS", 1))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        with contextlib.suppress(sqlite3.Error):
            self._database.commit()
        self._database.close()
        self._remove_journal()

    def known(self):
        """All there is: path -> `Spooled`."""
        with self._sentences():
            rows = self._database.execute("SELECT file, bytes, modified, sha256, dhash FROM images")
            try:
                return {
                    os.fsdecode(file): Spooled(size, time, sha, int(dhash, 16)) for file, size, time, sha, dhash in rows
                }
            except (TypeError, ValueError) as error:
                raise sqlite3.DatabaseError(f"a row is none of an image: {error}") from error

    def add(self, path, spooled, jpeg):
        """Add an image; it is safe from then on or, at the latest, from the next `save`."""
        row = (os.fsencode(path), *spooled[:3], f"{spooled.dhash:016x}", jpeg)
        with self._sentences():
            self._database.execute("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?)", row)

    def save(self):
        """Make safe what was added."""
        with self._sentences():
            self._database.commit()

    def jpeg(self, path):
        """An image's JPEG."""
        with self._sentences():
            query = "SELECT jpeg FROM images WHERE file = ?"
            (jpeg,) = self._database.execute(query, (os.fsencode(path),)).fetchone() or (None,)
            if not isinstance(jpeg, bytes) or not jpeg.startswith(b"\xff\xd8"):
                raise sqlite3.DatabaseError("an image is missing, or no JPEG")
            return jpeg

    def finish(self, about):
        """Note that all is read that was to be, and of what that was a part: a dictionary for JSON."""
        with self._sentences():
            self._make("finished")
            self._database.execute("DELETE FROM finished")
            self._database.execute("INSERT INTO finished VALUES (?)", (json.dumps(about, sort_keys=True),))
            self._database.commit()

    def take(self, path, about):
        """Add all images of another database that is finished.

        Args:
            path: that database.
            about: what it has to be finished with, see `finish`.

        Raises:
            UsageError: it is not there or not finished, of other settings, or of something else.
            WorkError: it is damaged, or this one can't be written.
        """
        if not os.path.isfile(path):
            raise UsageError(f"{path} doesn't exist.")
        with self._sentences(path):
            self._database.execute("ATTACH ? AS part", (path,))
            try:
                names = {name for (name,) in self._database.execute("SELECT name FROM part.sqlite_master")}
                if "finished" not in names:
                    raise UsageError(f"{path} is incomplete; rerun the command that created it.")
                ours, theirs = (
                    self._database.execute(f"SELECT text FROM {name}.settings").fetchall() for name in ("main", "part")
                )
                if ours != theirs:
                    raise UsageError(
                        f"{path} was made with other options: {theirs and theirs[0][0]} and not {ours[0][0]}."
                    )
                if self._database.execute("SELECT text FROM part.finished").fetchall() != [
                    (json.dumps(about, sort_keys=True),)
                ]:
                    raise UsageError(f"{path} was made of other images; make it again.")
                self._database.execute("INSERT OR REPLACE INTO images SELECT * FROM part.images")
                self._database.commit()
            finally:
                with contextlib.suppress(sqlite3.Error):
                    self._database.rollback()
                    self._database.execute("DETACH part")

    def remove(self):
        """Remove the database: all is done."""
        self._database.close()
        os.unlink(self._path)
        self._remove_journal()

    def _remove_journal(self):
        """Remove what SQLite leaves, emptied, of a process that had the database for itself."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path + "-journal")

    @contextlib.contextmanager
    def _sentences(self, path=None):
        path = path or self._path
        try:
            yield
        except sqlite3.OperationalError as error:
            if "no such column" in str(error) or "decode" in str(error):
                raise WorkError(f"{path} is damaged ({error}); remove it to start over.") from error
            if "locked" in str(error):
                raise UsageError(f"{path} is in use: another process is making the same records.") from error
            raise WorkError(f"{path} can't be written ({error}).") from error
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise WorkError(f"{path} is damaged ({error}); remove it to start over.") from error
