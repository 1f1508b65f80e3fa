"""Darwin Core Archives, and tables like those within them, read as a stream.

An archive is a zip of delimited texts. Its `meta.xml` says which file and column holds which term; where it is silent,
the files' own names and header lines say so. Terms are known here by the last part of their address, in lower case:
`identifier` for `http://purl.org/dc/terms/identifier`, since archives mix the vocabularies that have it.
"""

import os
import re
import zipfile
from typing import Callable, Mapping, NamedTuple, Optional, Sequence

from defusedxml import ElementTree

from lib.download.delimited import Layout, find_layout, read_delimited
from lib.storage.formats import read_rows
from lib.storage.untrusted import RefusedError, refusing

_MEDIA_TYPES = ("multimedia", "image", "document")  # of extensions, as their row types
_MEDIA_FILE = re.compile(r"(multimedia|media|images?|audubon\w*|audiovisual\w*)\.(txt|csv|tsv)$", re.IGNORECASE)
_CORE_FILE = re.compile(r"(occurrences?|specimens?|events?|tax(on|a))\.(txt|csv|tsv)$", re.IGNORECASE)
_IDENTIFIERS = ("coreid", "id", "gbifid", "occurrenceid")
_HEADER_BYTES = 1 << 17
_LARGEST_META = 1 << 20


class Table(NamedTuple):
    """A delimited text.

    Attributes:
        name: for messages.
        rows: a function that yields its rows as lists of texts.
        skipped: the number of rows before the first record.
        columns: term -> place.
        defaults: term -> a value that all records have.
        key: the place of the record's identifier; None if there is none.
    """

    name: str
    rows: Callable
    skipped: int
    columns: Mapping[str, int]
    defaults: Mapping[str, str] = {}
    key: Optional[int] = None

    def has(self, term):
        """Whether records have a value for the term."""
        return term in self.columns or term in self.defaults

    def records(self, terms, bad=None):
        """Yield a list for each record: its identifier, and its values of the terms, empty where it has none.

        Args:
            terms: the terms.
            bad: called for each row that has too many values to tell which is which, and is left out.

        Raises:
            UsageError: it can't be read.
        """
        places = [self.key, *(self.columns.get(term) for term in terms)]
        defaults = ["", *(self.defaults.get(term, "") for term in terms)]
        wanted = [(number, place) for number, place in enumerate(places) if place is not None]
        width = 1 + max(self.columns.values(), default=0)
        with refusing(self.name, "table"):
            for number, row in enumerate(self.rows()):
                if number == 0:
                    width = max(width, len(row))
                if number < self.skipped:
                    continue
                if len(row) > width:
                    if bad is not None:
                        bad()
                    continue
                record = list(defaults)
                for index, place in wanted:
                    if place < len(row):
                        record[index] = " ".join(row[place].split()) or defaults[index]
                yield record


class Archive(NamedTuple):
    """What an input holds: the table of occurrences, None if there is none, and tables of media, each linked to it."""

    core: Optional[Table]
    media: Sequence[Table]


def open_archive(path):
    """Find out what an archive or a table holds, without reading more than its beginning.

    Args:
        path: a `.zip`, or else a table with a header, as of `lib.storage.formats.read_rows`.

    Returns:
        An `Archive`; a table that stands alone is its core.

    Raises:
        UsageError: it is something else.
    """
    with refusing(path, "Darwin Core Archive or table"):
        with open(path, "rb") as file:
            packed = file.read(4) == b"PK\x03\x04"
        if packed and not zipfile.is_zipfile(path):
            raise RefusedError("is a zip that is cut short; download it again")
        if not packed or path.lower().endswith(".xlsx"):
            return Archive(_table_by_header(path, lambda: (row for _, row in read_rows(path))), ())
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX/" not in name]
            metas = sorted((name for name in names if os.path.basename(name) == "meta.xml"), key=len)
            core, media, described = _described(path, archive, metas[0], names) if metas else (None, [], set())
            others = [name for name in names if name not in described]
        if not media:
            media = [_member_by_header(path, name) for name in others if _MEDIA_FILE.search(name)]
        if core is None:
            cores = [name for name in others if _CORE_FILE.search(name)]
            if not cores and not media:
                cores = [name for name in others if re.search(r"\.(txt|csv|tsv)$", name, re.IGNORECASE)]
                cores = cores if len(cores) == 1 else []  # such as GBIF's download "Simple"
            if not cores and not media:
                raise RefusedError("holds no meta.xml and no table of occurrences; it isn't a Darwin Core Archive")
            core = _member_by_header(path, cores[0]) if cores else None
        return Archive(core, media)


def _described(path, archive, meta, names):
    """The core, the tables of media, and the members that a `meta.xml` describes."""
    if archive.getinfo(meta).file_size > _LARGEST_META:
        raise RefusedError("has a meta.xml of more than a megabyte")
    with archive.open(meta) as file:
        text = file.read(_LARGEST_META)
    core, media, described = None, [], set()
    for part in ElementTree.fromstring(text, forbid_dtd=True):  # by which a few lines can become gigabytes
        kind = _local(part.tag)
        location = next((each.text or "" for each in part.iter() if _local(each.tag) == "location"), "").strip()
        member = _find_member(names, os.path.dirname(meta), location)
        if kind not in ("core", "extension") or not location:
            continue
        if member is None:
            if kind == "core" or _local(part.get("rowType", "")) in _MEDIA_TYPES:
                raise RefusedError(f"lacks {location}, which its meta.xml describes")
            continue
        described.add(member)
        if kind == "core":
            core = _table_by_meta(path, member, part)
        elif _local(part.get("rowType", "")) in _MEDIA_TYPES:
            media.append(_table_by_meta(path, member, part))
    return core, media, described


def _table_by_meta(path, member, part):
    """The `Table` of an element `core` or `extension`."""

    def attribute(name, default):
        value = part.get(name, default)
        for written, meant in (("\\t", "\t"), ("\\n", "\n"), ("\\r", "\r")):
            value = value.replace(written, meant)
        return value

    delimiter = attribute("fieldsTerminatedBy", ",") or ","
    quote = attribute("fieldsEnclosedBy", '"')
    if len(delimiter) != 1 or len(quote) > 1:
        raise RefusedError(f"separates the fields of {member} by {delimiter!r}, which can't be read")
    layout = Layout(part.get("encoding") or "UTF-8", delimiter, quote, attribute("linesTerminatedBy", "\n"))
    columns, defaults, key = {}, {}, None
    skipped = _whole(part.get("ignoreHeaderLines", "0"))
    for field in part:
        place, term = field.get("index"), _local(field.get("term", ""))
        if _local(field.tag) in ("id", "coreid"):
            key = _whole(place or "0")
        elif _local(field.tag) == "field" and term:
            if place is not None:
                columns.setdefault(term, _whole(place))
            if field.get("default"):
                defaults[term] = field.get("default")
    rows = _rows_of(path, member, layout)
    if skipped:  # the header names columns that the `meta.xml` leaves out
        used = {*columns.values()}
        for place, name in enumerate(next(rows(), [])):
            if place not in used:
                columns.setdefault(_local(name), place)
    return Table(f"{path} ({member})", rows, skipped, columns, defaults, 0 if key is None else key)


def _member_by_header(path, member):
    """The `Table` of a member of which nothing but its header is known."""
    with zipfile.ZipFile(path) as archive, archive.open(member) as file:
        layout = find_layout(file.read(_HEADER_BYTES))
    return _table_by_header(f"{path} ({member})", _rows_of(path, member, layout))


def _table_by_header(name, rows):
    columns = {}
    for place, column in enumerate(next(rows(), [])):
        columns.setdefault(_local(column), place)
    key = next((columns[term] for term in _IDENTIFIERS if term in columns), None)
    return Table(name, rows, 1, columns, key=key)


def _rows_of(path, member, layout):
    """A function that yields the rows of a member."""

    def rows():
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            yield from read_delimited(file, layout)

    return rows


def _find_member(names, folder, location):
    """The member that a `meta.xml` in a folder of the zip means; None if there is none."""
    wanted = os.path.join(folder, location)
    return next((name for name in names if name.lower() == wanted.lower()), None)


def _local(name):
    """The last part of a term's or tag's name, in lower case, such as `dcterms:identifier`."""
    return re.split(r"[/#}:]", name.strip())[-1].strip().lower()


def _whole(text):
    if not re.fullmatch(r"\s*\d{1,6}\s*", text):
        raise RefusedError(f"has a meta.xml with {text!r} where a number of a column or of lines belongs")
    return int(text)
