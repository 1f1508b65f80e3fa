"""Tables of results, a row for each file: their formats, their errors, and the settings that they were made with.

Until all rows are there they are in a `Journal`, `PATH.partial`, under their files' paths; then `PATH` appears whole,
sorted by these paths byte by byte, and beside it `PATH.settings.json` and the files' fingerprints. The journal has the
model's answers; a person's decisions are put in their place, and the columns of other tables added to them, when the
table is written.
"""

import codecs
import contextlib
import csv
import logging
import os
from typing import Any, Mapping, NamedTuple, Optional, Sequence

from lib.errors import UsageError, WorkError, option
from lib.storage.ascending import look_up, match
from lib.storage.decisions import MODEL, PERSON, SOURCE, add_source, decide, split_source
from lib.storage.files import whole_file
from lib.storage.fingerprints import fingerprints_path, read_fingerprints, write_fingerprints
from lib.storage.formats import format_line, header_line, number_or_text, open_table, parse_line, read_rows, table_kind
from lib.storage.joins import Join, KeptColumns
from lib.storage.journal import Journal, compare_settings, settings_of_journal
from lib.storage.names import escape_name, path_order, unescape_name
from lib.storage.untrusted import check_text, json_text, parse_json

log = logging.getLogger(__name__)

_ERRORS_HEADER = "FILE\tERROR\n"
_KIND = "predictions"  # of the journal
_JOINED = "joined"  # the setting that records a join
_NOT_OF_ROWS = (_JOINED, "ridge")  # settings that the rows of a model don't depend on


def check_errors_table(path, setting="output"):
    """Raise UsageError, naming the setting to change, if a file that is not a table of errors has this table's name."""
    if os.path.isfile(path):
        with open(path, encoding="utf-8", errors="replace") as file:
            if file.readline() != _ERRORS_HEADER:
                raise UsageError(f"{path} is not a table of errors; move it, or choose another {option(setting)}.")


def write_errors_table(path, errors):
    """Write the table of files that could not be read; without any, remove a former one.

    Args:
        path: the table, which appears whole or not at all.
        errors: path, as text or bytes -> reason.

    Raises:
        WorkError: it can't be written.
    """
    try:
        if errors:
            with whole_file(path) as file:
                file.write(_ERRORS_HEADER)
                for name in sorted(errors, key=os.fsencode):
                    file.write(f"{escape_name(os.fsdecode(name))}\t{escape_name(errors[name])}\n")
        elif os.path.exists(path):
            os.unlink(path)
    except OSError as error:
        raise WorkError(f"{path} can't be written ({error.strerror}).") from error


def read_errors_table(path):
    """Read what `write_errors_table` wrote: escaped name -> reason; empty if there is no such table."""
    if not os.path.isfile(path):
        return {}
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        if file.readline() != _ERRORS_HEADER:
            return {}
        rows = [line.rstrip("\n").partition("\t") for line in file]
    return {name: unescape_name(reason) for name, _, reason in rows}


def read_table(path):
    """Read a table of results, or one like it, see `read_rows`.

    Yields:
        First the names of the columns, then the values of each row as text, in the order of the columns.

    Raises:
        UsageError: it is something else.
    """
    columns = None
    for number, values in read_rows(path):
        columns = columns or values
        if len(values) != len(columns):
            differ = f"line {number} has {len(values)} values under {len(columns)} columns"
            raise UsageError(f"{path} can't be read as a table ({differ}).")
        yield values


def read_lines(path):
    """Read the lines of a table that `write_table` wrote.

    Yields:
        First the header as bytes, empty for a format that has none; then for each row the path of its file and the
        line, both as bytes, see `format_line`.

    Raises:
        UsageError: it is something else.
    """
    kind, number = table_kind(path), 1
    if kind == "xlsx":
        yield b""
        rows = read_table(path)
        columns = next(rows, [])
        for values in rows:
            row = dict(zip(columns, map(number_or_text, columns, values)))
            yield path_order(row.get("FILE", "")), format_line(kind, columns, row.values())
        return
    try:
        with open(path, "rb") as file:
            header = b"" if kind == "jsonl" else file.readline()
            columns = None if kind == "jsonl" else parse_line(kind, _without_mark(header))
            yield header
            for number, line in enumerate(file, start=1 if kind == "jsonl" else 2):  # noqa: B007 - for the message
                values = parse_line(kind, line)
                columns = columns or list(values)
                if len(values) != len(columns) or (kind == "jsonl" and list(values) != columns):
                    raise ValueError("other columns")
                yield path_order(values["FILE"] if kind == "jsonl" else values[columns.index("FILE")]), line
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UsageError(f"{path} can't be read as a table (line {number}: {error}).") from error


def _without_mark(line):
    return line[len(codecs.BOM_UTF8) :] if line.startswith(codecs.BOM_UTF8) else line


def settings_of(path):
    """The settings and the versions that a table was made with, two dictionaries; empty where nothing is recorded."""
    recorded = _recorded(path)
    return recorded.get("settings", {}), recorded.get("versions", {})


def _recorded(path):
    """What is recorded beside a table; empty if it is nothing that `write_settings` wrote."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        with open(path + ".settings.json", encoding="utf-8") as file:
            found = dict(check_text(parse_json(file.read())))
        return {**found, "settings": dict(found["settings"]), "versions": dict(found["versions"])}
    return {}


def write_settings(path, settings, versions, answers=None):
    """Write the settings and versions that a table was made with, for `settings_of`.

    Args:
        path: the table.
        settings, versions: dictionaries that JSON can hold.
        answers: the model's own rows where a person decided otherwise: name -> values; None or empty for none.
    """
    with whole_file(path + ".settings.json") as file:
        recorded = {"settings": settings, "versions": versions, **({"answers": answers} if answers else {})}
        file.write(json_text(recorded) + "\n")


def answers_of(path):
    """The `answers` of `write_settings`."""
    return dict(_recorded(path).get("answers") or {})


def decisions_in(path):
    """What a person decided, by a table that has it: name -> category; None for a table without the column, or none."""
    if not os.path.isfile(path):
        return None
    rows = read_table(path)
    columns = next(rows, ())
    if SOURCE not in columns:
        return None
    file, answer, source = (columns.index(name) for name in ("FILE", "PREDICTION", SOURCE))
    return {row[file]: row[answer] for row in rows if row[source] == PERSON}


def joined_columns(settings):
    """The names of the columns that were joined to a table of such settings, see `settings_of`."""
    joined = settings.get(_JOINED)
    names = joined.get("columns") if isinstance(joined, dict) else None
    return names if isinstance(names, list) else []


def with_join(settings, join):
    """Settings to record, with what a `Join` depends on; None for none."""
    return {**{key: settings[key] for key in settings if key != _JOINED}, **({_JOINED: join.about} if join else {})}


class Table(NamedTuple):
    """A table to be written.

    Attributes:
        path: the file; its ending sets the format.
        columns: their names, among them `FILE`.
        settings: what the rows depend on, a dictionary that JSON can hold.
        join: a `lib.storage.joins.Join`, whose columns follow in the file; None for those that it has already, if any.
    """

    path: str
    columns: Sequence[str]
    settings: Mapping[str, Any]
    join: Optional[Join] = None

    def line(self, values):
        """A row as bytes: one line.

        Args:
            values: see `format_line`.
        """
        return format_line(table_kind(self.path), self.columns, values)

    def header(self):
        """The first line as bytes; empty for a format that has none."""
        return header_line(table_kind(self.path), self.columns)

    def facts(self):
        """Yield pairs of the path, as bytes, of each of the finished table's rows, and its file's fingerprint."""
        return ((path, known) for path, known, _ in self.entries())

    def entries(self):
        """Yield the finished table's rows as entries of a `Journal`: path, fingerprint of the file or None, line.

        Raises:
            UsageError: it has other settings, or something else wrote or changed it.
        """
        found = match(self._lines(), read_fingerprints(self.path))
        return ((path, known, line) for (path, line), known in found)

    def _lines(self):
        """Yield pairs of path and line; see `entries`."""
        advice = f"so it can't be continued; choose another {option('output')} or pass {option('overwrite')}."
        recorded = settings_of(self.path)[0]
        if not recorded:
            beside = os.path.basename(self.path) + ".settings.json"
            raise UsageError(f"{self.path} has no valid {beside} beside it, {advice}")
        joined = joined_columns(recorded)
        theirs, ours = (
            {key: each[key] for key in each if key not in _NOT_OF_ROWS} for each in (recorded, self.settings)
        )
        compare_settings(theirs, ours, self.path)
        kind, answers, with_source = table_kind(self.path), answers_of(self.path), [*self.columns, SOURCE]
        try:
            lines = read_lines(self.path)
            header = _without_mark(next(lines))
            columns = _without_end(parse_line(kind, header), joined) if header else None
            for path, line in lines:
                columns = columns or _without_end(list(parse_line(kind, line)), joined)
                if joined:
                    line = format_line(kind, columns, _values(kind, line)[: len(columns)])
                if columns == with_source:
                    line = self._answer_of_model(kind, line, answers)
                elif columns != list(self.columns):
                    break
                if line is not None:
                    yield path, line
            if columns not in (None, list(self.columns), with_source):
                raise UsageError("the columns differ")
        except (UsageError, ValueError):
            raise UsageError(f"{self.path} was changed since it was written, {advice}") from None

    def _answer_of_model(self, kind, line, answers):
        """A line of the finished table as it was before a person decided; None if that is unknown."""
        line, source = split_source(kind, line)
        if source == MODEL:
            return line
        values = parse_line(kind, line)
        row = values if kind in ("jsonl", "xlsx") else dict(zip(self.columns, values))
        if row["PROBABILITY"] not in (None, ""):
            return line  # the person confirmed it
        own = answers.get(row["FILE"])
        return None if own is None else format_line(kind, self.columns, own)


def open_rows(table, overwrite=False):
    """Open the `Journal` of a `Table`'s rows: path -> line. It continues the table if that is finished.

    Args:
        table: the table to write.
        overwrite: start over. Until `write_table`, a former table stays as it was.

    Raises:
        UsageError: there is a table of other settings, one that something else wrote, or one that another process is
            writing; of a finished one also raised by the journal's methods.
        WorkError: it can't be written.
    """
    rows = Journal(table.path + ".partial", _KIND, dict(table.settings), table.path, fresh=overwrite)
    if not overwrite and os.path.exists(table.path):
        rows.continue_from(table)
        ours = rows.former is not None and settings_of(table.path)[0]
        if ours and not os.path.isfile(fingerprints_path(table.path)):
            beside = os.path.basename(fingerprints_path(table.path))
            log.info(f"{table.path} has no {beside} beside it, so images that changed since can't be noticed.")
    return rows


def settings_begun_with(path):
    """The settings of a table, finished or not; empty where nothing is recorded."""
    return settings_of_journal(path + ".partial", _KIND) or settings_of(path)[0]


def write_table(table, rows, versions, decided=None):
    """Write a table and its settings from its journal, and remove the journal.

    Args:
        table, rows: see `open_rows`; a finished table without new rows, decisions and join stays as it is.
        versions: of the packages that computed the rows, a dictionary for people to read.
        decided: what a person decided, name -> category; None for a table without the column `SOURCE`.
    """
    if rows.former is not None:
        recorded, versions = settings_of(table.path)
        same_decisions = decided is None or decisions_in(table.path) == _decided_rows(rows.former, decided)
        if same_decisions and (table.join is None or recorded == with_join(recorded, table.join)):
            return
    with rows.resumable():
        if rows.former is None:
            write_fingerprints(table.path, rows.facts())
        write_rows(table, rows.entries(), versions, decided)
    rows.remove()


def _decided_rows(table, decided):
    """Those of a person's decisions that are about a finished table's files."""
    names = sorted(decided, key=path_order)
    known = look_up(map(path_order, names), (path for path, _ in table.facts()))
    return {name: decided[name] for name, (_, present) in zip(names, known) if present}


def write_rows(table, entries, versions, decided=None):
    """Write a table and its settings.

    Args:
        table: a `Table`.
        entries: its rows without decisions, as of a `Journal`: path, None, line; their paths ascend.
        versions, decided: see `write_table`.

    Raises:
        OSError: it can't be written.
    """
    columns, kind, answers = list(table.columns), table_kind(table.path), {}
    wanted = {path_order(name): (name, category) for name, category in (decided or {}).items()}
    written = columns if decided is None else [*columns, SOURCE]
    recorded = settings_of(table.path)[0]
    has_joined = joined_columns(recorded) and os.path.isfile(table.path)
    join = table.join or (KeptColumns(table.path, recorded[_JOINED]) if has_joined else None)
    count, path = 0, b""
    with open_table(table.path, [*written, *(join.columns if join else ())]) as add:
        for count, (path, _, line) in enumerate(entries, start=1):  # noqa: B007 - for the message
            if path in wanted:
                name, category = wanted[path]
                values = _values(kind, line)
                changed = decide(columns, values, category)
                if changed != values:
                    answers[name] = values
                line = add_source(kind, format_line(kind, columns, changed), PERSON)
            elif decided is not None:
                line = add_source(kind, line, MODEL)
            if join:
                line = format_line(kind, [*written, *join.columns], [*_values(kind, line), *join.values(path)])
            add(line)
    write_settings(table.path, with_join(table.settings, join), versions, answers)
    if table.join:
        log.info(join.in_words(count, os.fsdecode(path)))


def _values(kind, line):
    """The values of a line, without the names that JSON repeats."""
    values = parse_line(kind, line)
    return list(values.values()) if isinstance(values, dict) else values


def _without_end(columns, end):
    """Columns without those at their end. ValueError if it is another one."""
    if end and columns[-len(end) :] != end:
        raise ValueError("the columns differ")
    return columns[: len(columns) - len(end)]


def decide_table(path, decided):
    """Put a person's decisions, name -> category, into a finished table, instead of those that it has."""
    settings, versions = settings_of(path)
    joined = joined_columns(settings)
    columns = next(read_table(path), [])
    columns = [name for name in columns[: len(columns) - len(joined)] if name != SOURCE]
    table = Table(path, columns, settings)
    if columns and decisions_in(path) != _decided_rows(table, decided):
        write_rows(table, table.entries(), versions, decided)
