"""Tables of results, a row for each file: their formats, their errors, and the settings that they were made with.

Until all rows are there they are in a `Journal`, `PATH.partial`, under their files' paths; then `PATH` appears whole,
sorted by these paths byte by byte, and beside it `PATH.settings.json`.
"""

import contextlib
import csv
import io
import json
import os
from typing import Any, Mapping, NamedTuple, Sequence

from lib.errors import UsageError, WorkError, option
from lib.storage.files import whole_file
from lib.storage.journal import Journal, compare_settings, settings_of_journal
from lib.storage.names import escape_name, path_order, unescape_name
from lib.storage.untrusted import check_text, json_text, parse_json

_ERRORS_HEADER = "FILE\tERROR\n"
_KIND = "predictions"  # of the journal


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
    """Read a table of results, or one like it.

    Args:
        path: a `.tsv`, `.csv` or `.jsonl` file with a header (or keys) in UTF-8; its ending says which.

    Yields:
        First the names of the columns, then the values of each row as text, in the order of the columns.

    Raises:
        UsageError: it is something else.
    """
    kind = table_kind(path)
    try:
        with open(path, encoding="utf-8-sig", newline="\n" if kind != "csv" else "") as file:
            yield from _json_lines(file) if kind == "jsonl" else _separated(file, kind)
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{path} can't be read as a table ({error}).") from error


def _separated(file, kind):
    rows = csv.reader(file) if kind == "csv" else (line.rstrip("\r\n").split("\t") for line in file)
    columns = None
    for number, values in enumerate(rows, start=1):
        columns = columns or values
        if values not in ([], [""]):
            if len(values) != len(columns):
                raise ValueError(f"line {number} has {len(values)} values under {len(columns)} columns")
            yield values


def _json_lines(file):
    columns = None
    for number, line in enumerate(file, start=1):
        row = check_text(parse_json(line))
        if not isinstance(row, dict) or list(row) != (columns or list(row)):
            raise ValueError(f"line {number} has other columns")
        if columns is None:
            columns = list(row)
            yield columns
        yield ["" if value is None else str(value) for value in row.values()]


def read_lines(path):
    """Read the lines of a table that `write_table` wrote.

    Yields:
        First the header as bytes, empty for a format that has none; then for each row the path of its file and the
        line, both as bytes.

    Raises:
        UsageError: it is something else.
    """
    kind, number = table_kind(path), 1
    try:
        with open(path, "rb") as file:
            header = b"" if kind == "jsonl" else file.readline()
            columns = None if kind == "jsonl" else _parse_line(kind, header)
            yield header
            for number, line in enumerate(file, start=1 if kind == "jsonl" else 2):  # noqa: B007 - for the message
                values = _parse_line(kind, line)
                columns = columns or list(values)
                if len(values) != len(columns) or (kind == "jsonl" and list(values) != columns):
                    raise ValueError("other columns")
                yield path_order(values["FILE"] if kind == "jsonl" else values[columns.index("FILE")]), line
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UsageError(f"{path} can't be read as a table (line {number}: {error}).") from error


def _parse_line(kind, line):
    """The values of a line that `Table.line` wrote; of JSON, a dictionary. ValueError if it is cut short."""
    if not line.endswith(b"\n"):
        raise ValueError("cut short")
    text = line[:-1].decode()
    if kind == "jsonl":
        return parse_json(text)
    return next(csv.reader([text])) if kind == "csv" else text.split("\t")


def settings_of(path):
    """The settings and the versions that a table was made with, two dictionaries; empty where nothing is recorded."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        with open(path + ".settings.json", encoding="utf-8") as file:
            recorded = check_text(parse_json(file.read()))
        return dict(recorded["settings"]), dict(recorded["versions"])
    return {}, {}


def write_settings(path, settings, versions):
    """Write the settings and versions that a table was made with, for `settings_of`."""
    with whole_file(path + ".settings.json") as file:
        file.write(json_text({"settings": settings, "versions": versions}) + "\n")


def table_kind(path):
    """The format of a table, by the ending of its name: `csv`, `jsonl`, or `tsv` for any other ending."""
    ending = os.path.splitext(path)[1].lower()
    return ending[1:] if ending in (".csv", ".jsonl") else "tsv"


class Table(NamedTuple):
    """A table to be written.

    Attributes:
        path: the file; its ending sets the format.
        columns: their names, among them `FILE`.
        settings: what the rows depend on, a dictionary that JSON can hold.
    """

    path: str
    columns: Sequence[str]
    settings: Mapping[str, Any]

    def line(self, values):
        """A row as bytes: one line.

        Args:
            values: in the order of the columns: strings without tabs and line ends, or fractions, which are written
                with four decimals.
        """
        kind = table_kind(self.path)
        if kind == "jsonl":
            numbers = [round(value, 4) if isinstance(value, float) else value for value in values]
            return (json.dumps(dict(zip(self.columns, numbers)), ensure_ascii=False) + "\n").encode()
        texts = [f"{value:.4f}" if isinstance(value, float) else value for value in values]
        if kind == "tsv":
            return ("\t".join(texts) + "\n").encode()
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(texts)
        return line.getvalue().encode()

    def header(self):
        """The first line as bytes; empty for a format that has none."""
        return b"" if table_kind(self.path) == "jsonl" else self.line(self.columns)

    def keys(self):
        """Yield the paths, as bytes, of the finished table's rows."""
        return (path for path, _, _ in self.entries())

    def entries(self):
        """Yield the finished table's rows as entries of a `Journal`: path, None, line.

        Raises:
            UsageError: it has other settings, or something else wrote or changed it.
        """
        advice = f"so it can't be continued; choose another {option('output')} or pass {option('overwrite')}."
        recorded = settings_of(self.path)[0]
        if not recorded:
            beside = os.path.basename(self.path) + ".settings.json"
            raise UsageError(f"{self.path} has no valid {beside} beside it, {advice}")
        compare_settings(recorded, self.settings, self.path)
        try:
            lines = read_lines(self.path)
            if next(lines) != self.header():
                raise UsageError("the header differs")
            for path, line in lines:
                yield path, None, line
        except UsageError:
            raise UsageError(f"{self.path} was changed since it was written, {advice}") from None


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
    return rows


def settings_begun_with(path):
    """The settings of a table, finished or not; empty where nothing is recorded."""
    return settings_of_journal(path + ".partial", _KIND) or settings_of(path)[0]


def write_table(table, rows, versions):
    """Write a table and its settings from its journal, and remove the journal.

    Args:
        table, rows: see `open_rows`; a finished table without new rows stays as it is.
        versions: of the packages that computed the rows, a dictionary for people to read.
    """
    if rows.former is not None:
        return
    with rows.resumable():
        with whole_file(table.path, "wb") as file:
            file.write(table.header())
            file.writelines(line for _, _, line in rows.entries())
        write_settings(table.path, table.settings, versions)
    rows.remove()
