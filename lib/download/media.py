"""The images that an archive links to, and what it says about each: in any number, as a stream."""

import collections
import contextlib
import hashlib
import heapq
import itertools
import os
import re
import sqlite3
from typing import NamedTuple

from lib.download.licences import read_licence
from lib.errors import UsageError

# The terms of an image's address, the best one first: `identifier` can also be a name.
_ADDRESSES = ("accessuri", "goodqualityaccessuri", "identifier", "associatedmedia")
_LICENCES = ("license", "licence", "rights", "webstatement", "usageterms")
_HOLDERS = ("rightsholder", "owner")
_ABOUT = ("gbifid", "catalognumber")
_TYPES = {"image": "stillimage", "video": "movingimage", "audio": "sound", "text": "text", "application": "application"}
_LONGEST_URL = 8_000

_TOGETHER = 10_000  # rows in each call of the database


class Medium(NamedTuple):
    """An image of an occurrence.

    Attributes:
        url: its address.
        record: the occurrence's identifier: GBIF's `gbifID`, or what the archive itself knows it by.
        catalogue: its catalogue number.
        licence: the image's own, as of `read_licence`. That of the occurrence's data is none for its images.
        holder: who holds the rights in the image; else those in the occurrence's data.
    """

    url: str
    record: str
    catalogue: str
    licence: str
    holder: str


def find_media(archive, settings, folder):
    """The chosen images of an archive, in its order, and what it says about their occurrences.

    Args:
        archive: of `lib.download.archive.open_archive`.
        settings: `lib.download.settings.Settings`, which say what is chosen.
        folder: a directory for a temporary file.

    Returns:
        An iterator of `Medium`; and a `collections.Counter` of why others were left out, complete when that has ended.

    Raises:
        UsageError: there is no column of addresses, or a text can't be read.
    """
    tables = _tables_of_addresses(archive, settings.column)
    left_out = collections.Counter()
    rank = None
    if settings.sample is not None:
        urls = (row[0] for row in _rows(tables, settings, collections.Counter()))
        rank = _highest_rank(urls, settings.sample, settings.seed)
    rows = _rows(tables, settings, left_out)
    if rank is not None:
        rows = (row for row in rows if _rank(row[0], settings.seed) <= rank)
    return _joined(rows, archive, settings.limit, folder), left_out


def _tables_of_addresses(archive, column):
    """Pairs of a table and its terms of addresses."""
    tables = [*archive.media, *([archive.core] if archive.core else [])]
    wanted = _ADDRESSES if column is None else (column.strip().lower(),)
    found = [(table, [term for term in wanted if table.has(term)]) for table in tables]
    found = [(table, terms) for table, terms in found if terms]
    if column is None and archive.media and archive.core:
        # GBIF repeats in the occurrences what it has put into the table of media.
        found = [(table, terms) for table, terms in found if table is not archive.core] or found
    if not found:
        columns = ", ".join(sorted({name for table in tables for name in table.columns})[:12])
        if column:
            raise UsageError(f"{tables[0].name} has no column {column!r}, only {columns}.", "column")
        wanted = "no column of image addresses (identifier, accessURI, …)"
        advice = "GBIF's download of the kind 'Simple' has no links to images, its 'Darwin Core Archive' has them"
        raise UsageError(f"{tables[0].name} has {wanted}, only {columns}; {advice}.", "input")
    return found[:1] if archive.media and column is not None else found


def _rows(tables, settings, left_out):
    """Yield the address, record, GBIF's identifier, catalogue number, licence and holder of each chosen image."""
    for table, terms in tables:
        several = settings.column is not None or terms == ["associatedmedia"]

        def bad():
            left_out["lines with more values than columns"] += 1

        asked = [*terms, "type", "format", *_ABOUT, *_LICENCES, *_HOLDERS]
        for record, *values in table.records(asked, bad):
            urls = next(filter(None, (_addresses(value, several) for value in values[: len(terms)])), ())
            kind, form, gbif, catalogue, *rights = values[len(terms) :]
            if not urls:
                left_out["without an address"] += 1
                continue
            if not _is_wanted(kind, form, settings.kind):
                left_out["of another type"] += len(urls)
                continue
            name, licence = _licence_of(rights[: len(_LICENCES)])
            if settings.licences is not None and name not in settings.licences:
                shown = read_licence(licence)[1] if name else ("another licence" if licence else "no licence")
                left_out[f"with {shown[:40]}"] += len(urls)
                continue
            holder = next(filter(None, rights[len(_LICENCES) :]), "")
            for url in urls:
                yield url, record, gbif, catalogue, licence, holder


def _addresses(text, several):
    """The addresses of the web in a value."""
    separator = r"[|;,\s]+(?=https?://)|\s*\|\s*" if several else r"\s*\|\s*(?=https?://)"
    parts = re.split(separator, text, flags=re.IGNORECASE) if "|" in text or several else (text,)
    return [part for part in parts if re.match(r"https?://[^\s/]", part, re.IGNORECASE) and len(part) <= _LONGEST_URL]


def _is_wanted(kind, form, wanted):
    """Whether a medium is of a type, by its own type, else by its format; one that has neither is."""
    kind, wanted = re.split(r"[/#:]", kind)[-1].replace(" ", "").lower(), wanted.lower()
    kind = {"image": "stillimage"}.get(kind, kind) or _TYPES.get(form.split("/")[0].lower(), "")
    return wanted == "any" or kind in ("", wanted)


def _licence_of(texts):
    """The first licence that is recognised in some texts, and what to keep of it; else None and the first text."""
    for text in texts:
        name, shown = read_licence(text) if text else (None, "")
        if name:
            return name, shown
    return None, next(filter(None, texts), "")


def _rank(url, seed):
    return int.from_bytes(hashlib.sha256(f"{seed}\0{url}".encode("utf-8", "replace")).digest()[:8], "big")


def _highest_rank(urls, sample, seed):
    """The rank of the last of the images that are drawn: those whose address, with the seed, has the lowest hash."""
    heap, members = [], set()
    for url in urls:
        rank = _rank(url, seed)
        if rank in members or (len(heap) == sample and rank > -heap[0]):
            continue
        members.add(rank)
        if len(heap) < sample:
            heapq.heappush(heap, -rank)
        else:
            members.discard(-heapq.heapreplace(heap, -rank))
    return -heap[0] if heap else None


def _joined(rows, archive, limit, folder):
    """Yield the `Medium` of each row of `_rows`, with what the core says about its occurrence.

    The core can come in any order and have more rows than fit into memory: a database in a file matches them.
    """
    path = os.path.join(folder, "media.sqlite")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        os.unlink(path)  # which the kernel keeps until it is closed, whatever ends this process
        database.executescript(
            """
            PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = FILE;
            CREATE TABLE media (url TEXT, record TEXT, gbif TEXT, catalogue TEXT, licence TEXT, holder TEXT);
            CREATE TABLE urls (url TEXT PRIMARY KEY) WITHOUT ROWID;
            CREATE TABLE records (key TEXT PRIMARY KEY, gbif TEXT, catalogue TEXT, holder TEXT) WITHOUT ROWID;
            BEGIN;
            """
        )
        if limit is not None:
            rows = _first(rows, limit, database)
        for batch in _batches(rows):
            database.executemany("INSERT INTO media VALUES (?, ?, ?, ?, ?, ?)", batch)
        if archive.media and archive.core:
            database.execute("INSERT OR IGNORE INTO records SELECT record, '', '', '' FROM media")
            _describe(database, archive.core)
        found = database.execute(
            "SELECT url, media.record, media.gbif, records.gbif, media.catalogue, records.catalogue, licence, "
            "media.holder, records.holder FROM media LEFT JOIN records ON records.key = media.record "
            "ORDER BY media.rowid"
        )
        for url, record, own_gbif, gbif, own_number, number, licence, own_holder, holder in found:
            yield Medium(
                url, own_gbif or gbif or record, own_number or number or "", licence, own_holder or holder or ""
            )


def _first(rows, limit, database):
    """Yield rows until they have more than so many addresses."""
    count = 0
    for row in rows:
        count += database.execute("INSERT OR IGNORE INTO urls VALUES (?)", row[:1]).rowcount
        if count > limit:
            return
        yield row


def _describe(database, core):
    """Give the records in the database what the core says about them; it is read no further than needed."""
    (missing,) = database.execute("SELECT COUNT(*) FROM records").fetchone()
    records = core.records([*_ABOUT, *_HOLDERS])
    for batch in _batches((gbif, number, holder or owner, key) for key, gbif, number, holder, owner in records):
        statement = "UPDATE records SET gbif = ?, catalogue = ?, holder = ? WHERE key = ?"
        missing -= database.executemany(statement, batch).rowcount
        if missing <= 0:
            return


def _batches(rows):
    rows = iter(rows)
    return iter(lambda: list(itertools.islice(rows, _TOGETHER)), [])
