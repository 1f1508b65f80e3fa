"""What a stage has done so far, kept beside its result until all is done.

A stage that works on many pieces (images, models, fractals) adds the result of each under a key. Killed at any moment
and run again, it finds all but the last half second of work in the journal and does the rest; then it writes its result
in the order of the keys and removes the journal.

A journal is an SQLite database with a rollback journal, written by one process at a time: that works on the shared file
systems of clusters, where SQLite's other modes don't. It is locked as all other files here are (`lib.storage.files`),
since SQLite by itself refuses to work on file systems without locks.
"""

import contextlib
import json
import os
import re
import sqlite3
import time
from urllib.parse import quote

from lib.errors import StageError, UsageError, WorkError, option
from lib.storage.ascending import look_up
from lib.storage.files import open_locked
from lib.storage.untrusted import parse_json

_APPLICATION = 0x48724A31  # in the header, so that another program's database is neither written to nor removed
_MAGIC = b"SQLite format 3\0"
_SAVE_SECONDS = 0.5
_SHOWN = 60  # characters of a setting's value in a message

_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE entries (key BLOB PRIMARY KEY, about TEXT, content BLOB);
"""


class OtherSettingsError(UsageError):
    """A file was begun with other settings; `key` is the first that differs."""

    def __init__(self, message, key):
        super().__init__(message)
        self.key = key


def compare_settings(recorded, settings, named, setting="output", anew="overwrite"):
    """Raise OtherSettingsError, with the first difference, unless a former call's settings are those of this one.

    Args:
        recorded, settings: dictionaries that JSON can hold.
        named: the file that was begun with `recorded`.
        setting, anew: the names of the settings that name this file and that start it over.
    """
    settings = json.loads(json.dumps(settings))
    for key in {**settings, **recorded}:
        former, current = recorded.get(key), settings.get(key)
        if former != current:
            cure = f"use the same options, choose another {option(setting)} or pass {option(anew)}"
            begun = f"{named} was begun with {option(key)} {_short(former)}"
            raise OtherSettingsError(f"{begun}, but this call has {_short(current)}; {cure}.", key)


def _connect(path):
    address = f"file:{quote(os.fsencode(os.path.abspath(path)))}?vfs=unix-none"
    return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)


def _short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "…"


def settings_of_journal(path, kind):
    """The settings that a journal of a kind was begun with; empty if there is none, or a process is writing it."""
    file = open_locked(path) if os.path.isfile(path) else None
    if file is not None:
        with file, contextlib.suppress(sqlite3.Error, KeyError, TypeError, ValueError):
            with contextlib.closing(_connect(path)) as database:
                (text,) = database.execute("SELECT value FROM facts WHERE name = 'begin'").fetchone()
            begin = parse_json(text)
            return begin["settings"] if begin["kind"] == kind else {}
    return {}


class Journal:
    """The entries of one piece of work, in one file.

    Until an entry is added, `keys`, `missing`, `facts` and `entries` give those of a finished result that is continued,
    see `continue_from`. `len`, `find` and `content` are always about the entries in the journal's own file.

    Args:
        path: the file, made when it is not there.
        kind: what the entries are, such as `predictions`; a journal of another kind is refused.
        settings: what the entries depend on, a dictionary that JSON can hold.
        output: the result that the entries are for, to be named in messages; None for the journal itself.
        setting: the name of the setting that names the result.
        fresh: start over even if there is a journal.
        replace: start over if there is a journal of other settings, rather than refuse.

    Attributes:
        continued: whether this call resumes an earlier one.
        former: of `continue_from`; None from the first entry on.

    Raises:
        UsageError: another process is writing, or the file is another program's, or a journal of another kind or of
            other settings.
        WorkError: it can't be written, or is damaged.
    """

    anew = "overwrite"  # the name of the setting that starts over

    def __init__(self, path, kind, settings, output=None, setting="output", fresh=False, replace=False):
        self.path, self._output, self._setting = path, output or path, setting
        self._database = self.former = None
        begin = {"kind": kind, "settings": json.loads(json.dumps(settings))}
        with self.resumable():
            self._file = open_locked(path)
            if self._file is None:
                raise UsageError(f"{self._output} is being written by another process.")
        try:
            self._open()
            recorded = self._fact("begin")
            self.continued = recorded is not None and not fresh
            if self.continued and recorded != begin:
                if not isinstance(recorded, dict) or recorded.get("kind") != kind or "settings" not in recorded:
                    raise UsageError(f"{path} belongs to another stage; move it, or choose another {option(setting)}.")
                if not replace:
                    compare_settings(recorded["settings"], begin["settings"], self._output, setting, self.anew)
                self.continued = False
            if not self.continued:
                self._begin(begin)
        except BaseException:
            self._close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, kind, *exception):
        try:
            self.save()
            if self._database is not None and not len(self) and self.finished is None:
                self.remove()
        except StageError:
            if kind is None:  # else it is that of the block which counts, such as a full disk
                raise
        finally:
            self._close()

    def continue_from(self, former):
        """Use the entries of a finished result, which has methods `facts` and `entries`, if there are none here.

        The first entry that is added copies them into the journal, in one transaction.
        """
        if not self._rows("SELECT 1 FROM entries LIMIT 1"):
            self.former = former

    def __len__(self):
        """The number of entries in the journal's own file."""
        return self._rows("SELECT COUNT(*) FROM entries")[0][0]

    def keys(self):
        """The keys, ascending byte by byte."""
        if self.former is not None:
            return (key for key, _ in self.former.facts())
        return (key for (key,) in self._stream("SELECT key FROM entries ORDER BY key"))

    def missing(self, keys):
        """Those of `keys`, which have to ascend, that have no entry; nothing is held in memory."""
        return (key for key, known in look_up(keys, self.keys()) if not known)

    def facts(self):
        """Yield pairs of an entry's key and `about`, ascending; the contents are not read."""
        if self.former is not None:
            yield from self.former.facts()
            return
        for key, about in self._stream("SELECT key, about FROM entries ORDER BY key"):
            yield key, self._parsed(about)

    def entries(self):
        """Yield triples of key, `about` and content, ascending."""
        if self.former is not None:
            yield from self.former.entries()
            return
        for key, about, content in self._stream("SELECT key, about, content FROM entries ORDER BY key"):
            yield key, self._parsed(about), content

    def find(self, key):
        """The `about` of an entry; None if there is no entry of the key."""
        found = self._rows("SELECT about FROM entries WHERE key = ?", (key,))
        return self._parsed(found[0][0]) if found else None

    def content(self, key):
        """An entry's content as bytes. WorkError if there is no such entry."""
        found = self._rows("SELECT content FROM entries WHERE key = ?", (key,))
        if not found or not isinstance(found[0][0], bytes):
            raise self._damaged("an entry is missing")
        return found[0][0]

    def add(self, key, content, about=None):
        """Add an entry, or replace that of the key; see `extend`."""
        self.extend([(key, about, content)])

    def extend(self, entries):
        """Add entries, triples as of `entries`. They are safe after `save`, which a call half a second after the last
        one includes.
        """
        with self._changing():
            self._insert(entries)

    def annotate(self, facts):
        """Replace the `about` of entries, pairs as of `facts`; see `extend`."""
        with self._changing():
            rows = ((json.dumps(about), key) for key, about in facts)
            self._database.executemany("UPDATE entries SET about = ? WHERE key = ?", rows)

    def discard(self, keys):
        """Take the entries of keys away; see `extend`."""
        with self._changing():
            self._database.executemany("DELETE FROM entries WHERE key = ?", ((key,) for key in keys))

    @contextlib.contextmanager
    def _changing(self):
        """A context for changing the entries, in a transaction, after those of `former` were copied."""
        with self.resumable():
            if self.former is not None:
                with self._database:  # which commits, or rolls back
                    self._database.execute("BEGIN")
                    self._insert(self.former.entries())
                self.former = None
            if not self._database.in_transaction:
                self._database.execute("BEGIN")
            yield
        if time.monotonic() - self._saved >= _SAVE_SECONDS:
            self.save()

    def save(self):
        """Write what was added to the disk."""
        with self.resumable():
            if self._database is not None and self._database.in_transaction:
                self._database.execute("COMMIT")
        self._saved = time.monotonic()

    @property
    def finished(self):
        """The argument of `finish`; None before."""
        return self._fact("finished")

    def finish(self, about):
        """Mark the work as complete, with a value for JSON, for a journal that another call takes over."""
        with self.resumable():
            self._database.execute("INSERT OR REPLACE INTO facts VALUES ('finished', ?)", (json.dumps(about),))
        self.save()

    @contextlib.contextmanager
    def resumable(self):
        """A context for writing, also the result: a `WorkError` says that the same command resumes after a failure."""
        try:
            yield
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if isinstance(error, sqlite3.OperationalError) and not re.search("no such|decode", str(error)):
                raise self._failure(error) from error
            raise self._damaged(error) from error
        except OSError as error:
            raise self._failure(error.strerror or error) from error

    def remove(self):
        """Remove the journal: its result is written."""
        self._database.close()
        self._database = None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)  # while the lock is held

    def _open(self):
        """Open the database, unless it is another program's."""
        self._file.seek(0)
        start = self._file.read(len(_MAGIC))
        # A damaged start is restored from the rollback journal.
        foreign = start not in (b"", _MAGIC) and not os.path.exists(self.path + "-journal")
        if not foreign:
            with self.resumable():
                self._database = _connect(self.path)
                (number,) = self._database.execute("PRAGMA application_id").fetchone()
                (tables,) = self._database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
            foreign = number != _APPLICATION and (number or tables)
        if foreign:
            cure = f"move it, or choose another {option(self._setting)}"
            raise UsageError(f"{self.path} was not written by this command; {cure}.")
        with self.resumable():
            self._database.execute("PRAGMA synchronous = NORMAL")
            if not tables:
                self._database.executescript(f"BEGIN; PRAGMA application_id = {_APPLICATION}; {_SCHEMA} COMMIT;")
        self._saved = 0.0  # so that the first entry is saved at once

    def _begin(self, begin):
        """Empty the journal and record what it is for."""
        with self.resumable(), self._database:
            self._database.execute("BEGIN")
            self._database.execute("DELETE FROM entries")
            self._database.execute("DELETE FROM facts")
            self._database.execute("INSERT INTO facts VALUES ('begin', ?)", (json.dumps(begin),))

    def _insert(self, entries):
        rows = ((key, None if about is None else json.dumps(about), content) for key, about, content in entries)
        self._database.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", rows)

    def _fact(self, name):
        found = self._rows("SELECT value FROM facts WHERE name = ?", (name,))
        return self._parsed(found[0][0]) if found else None

    def _rows(self, query, values=()):
        with self.resumable():
            return self._database.execute(query, values).fetchall()

    def _stream(self, query):
        with self.resumable():
            yield from self._database.execute(query)

    def _parsed(self, text):
        try:
            return None if text is None else parse_json(text)
        except (TypeError, ValueError) as error:
            raise self._damaged(error) from error

    def _close(self):
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None
        self._file.close()  # and unlock it

    def _damaged(self, reason):
        return WorkError(f"{self.path} is damaged ({reason}); remove it to start over.")

    def _failure(self, reason):
        advice = "what was written is kept; run the same command again to resume"
        return WorkError(f"{self._output} can't be written ({reason}); {advice}.")
