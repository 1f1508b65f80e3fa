"""Tables of results, a row for each file: their formats, their errors, and what they were made with.

While the rows are made they are in a `Journal`, `PATH.partial`, under their files' paths; then `PATH` appears whole,
sorted by these paths byte by byte, and beside it `PATH.settings.json`.
"""

import contextlib
import csv
import io
import json
import os
from typing import Any, Mapping, NamedTuple, Sequence

from lib.errors import UsageError, WorkError, option
from lib.storage.files import check_regular, whole_file
from lib.storage.journal import Journal, compare_settings, settings_of_journal
from lib.storage.names import escape_name, path_order, unescape_name
from lib.storage.untrusted import check_text, parse_json

_ERRORS_HEADER = "FILE\tERROR\n"
_KIND = "predictions"  # of the journal

KINDS = {".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl"}


def check_errors_table(path, setting="output"):
    """Raise UsageError, naming the setting to change, if a file that is no table of errors is where that table goes."""
    if os.path.exists(path):
        first = None
        if os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                first = file.readline()
        if first != _ERRORS_HEADER:
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
    """What `write_errors_table` wrote: a dictionary name as in the table -> reason, empty if there is no table."""
    found = {}
    if os.path.isfile(path):
        with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
            if file.readline() == _ERRORS_HEADER:
                for line in file:
                    name, _, reason = line.rstrip("\n").partition("\t")
                    found[name] = unescape_name(reason)
    return found


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


def read_lines(path):
    """Read the lines of a table of results as they stand.

    Yields:
        First the header as bytes, empty for one that has none; then for each row the path of its file and the line,
        both as bytes.

    Raises:
        UsageError: it is something else.
    """
    kind, number = table_kind(path), 0
    try:
        with open(path, "rb") as file:
            columns = place = None
            if kind == "jsonl":
                yield b""
            else:
                number, header = 1, file.readline()
                columns = next(csv.reader([header.decode()])) if kind == "csv" else header.decode()[:-1].split("\t")
                place = columns.index("FILE")
                yield header
            for line in file:
                number += 1
                text = line.decode()
                if columns is None:
                    columns = list(json.loads(text))
                    place = columns.index("FILE")
                yield path_order(_parse_row(kind, columns, text)[place]), line
    except (OSError, ValueError, csv.Error, StopIteration) as error:
        raise UsageError(f"{path} can't be read as a table (line {number}: {error}).") from error


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


def settings_of(path):
    """The settings and the versions that a table was made with, two dictionaries; empty where nothing is recorded."""
    beside = path + ".settings.json"
    with contextlib.suppress(OSError, ValueError):
        check_regular(beside)
        with open(beside, encoding="utf-8") as file:
            recorded = check_text(parse_json(file.read()))
        if isinstance(recorded, dict):
            found = [recorded.get("settings"), recorded.get("versions")]
            return tuple(part if isinstance(part, dict) else {} for part in found)
    return {}, {}


def write_settings(path, settings, versions):
    """Write what a table was made with, for `settings_of`."""
    with whole_file(path + ".settings.json") as file:
        json.dump({"settings": settings, "versions": versions}, file, indent=2, ensure_ascii=False)
        file.write("\n")


def table_kind(path):
    """How a table is written, by the ending of its name: `tsv` (also of any other ending), `csv` or `jsonl`."""
    return KINDS.get(os.path.splitext(path)[1].lower(), "tsv")


def format_row(kind, columns, values):
    """One row as a line. Numbers are fractions, written with four decimals.

    Args:
        kind: `tsv`, `csv` or `jsonl`.
        columns: the names, used by `jsonl`.
        values: strings without tabs and line ends, or floats.
    """
    if kind == "jsonl":
        numbers = [round(value, 4) if isinstance(value, float) else value for value in values]
        return json.dumps(dict(zip(columns, numbers)), ensure_ascii=False) + "\n"
    texts = [f"{value:.4f}" if isinstance(value, float) else value for value in values]
    if kind == "csv":
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(texts)
        return line.getvalue()
    return "\t".join(texts) + "\n"


def _parse_row(kind, columns, line):
    """The values of a line that `format_row` made; ValueError if it is none."""
    if not line.endswith("\n"):
        raise ValueError("cut short")
    if kind == "jsonl":
        values = check_text(parse_json(line))
        if not isinstance(values, dict) or list(values) != list(columns) or not isinstance(values["FILE"], str):
            raise ValueError("other columns")
        return list(values.values())
    values = next(csv.reader([line])) if kind == "csv" else line[:-1].split("\t")
    if len(values) != len(columns):
        raise ValueError("other columns")
    return values


class Table(NamedTuple):
    """A table to be written.

    Attributes:
        path: where; its ending says how it is written.
        columns: their names, among them `FILE`.
        settings: what the rows depend on, a dictionary that JSON can hold.
    """

    path: str
    columns: Sequence[str]
    settings: Mapping[str, Any]

    def line(self, values):
        """A row, its values in the order of the columns, as bytes."""
        return format_row(table_kind(self.path), self.columns, values).encode()

    def header(self):
        """The first line as bytes; empty for a format that has none."""
        return b"" if table_kind(self.path) == "jsonl" else self.line(self.columns)

    def keys(self):
        """Yield the paths, as bytes, that the finished table has rows of."""
        return (path for path, _, _ in self.entries())

    def entries(self):
        """Yield the finished table's rows as entries of a `Journal`: path, None, line.

        Raises:
            UsageError: it has other settings, or something else wrote or changed it.
        """
        recorded = settings_of(self.path)[0]
        if not recorded:
            raise self._foreign(f"has no valid {os.path.basename(self.path)}.settings.json beside it")
        compare_settings(recorded, self.settings, self.path)
        lines = self._lines()
        if next(lines) != self.header():
            raise self._foreign("has another header")
        for path, line in lines:
            yield path, None, line

    def _lines(self):
        try:
            yield from read_lines(self.path)
        except UsageError:
            raise self._foreign("has a line that is not one of its rows") from None

    def _foreign(self, reason):
        return UsageError(
            f"{self.path} {reason}, so it can't be continued; choose another {option('output')} or pass "
            f"{option('overwrite')}."
        )


def open_rows(table, overwrite=False):
    """The `Journal` of a `Table`'s rows: path -> line. It continues the table if that is finished.

    Args:
        table: the table to write.
        overwrite: begin anew, whatever there is. Until `write_table`, a former table stays as it was.

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
    """The settings that a table was begun with, or made with if it is finished; empty where nothing is recorded."""
    return settings_of_journal(path + ".partial", _KIND) or settings_of(path)[0]


def write_table(table, rows, versions):
    """Let a table and its settings appear with the rows of its journal, and remove that.

    Args:
        table, rows: see `open_rows`; a finished table to which nothing was added stays as it is.
        versions: what computed the rows, a dictionary for people to read.
    """
    if rows.former is not None:
        return
    with rows.resumable():
        with whole_file(table.path, "wb") as file:
            file.write(table.header())
            file.writelines(line for _, _, line in rows.entries())
        write_settings(table.path, table.settings, versions)
    rows.remove()
