"""A table of results that is written row by row, survives being killed, and appears sorted and whole at the end."""

import contextlib
import csv
import io
import json
import os

from lib.errors import UsageError, WorkError
from lib.storage.files import check_regular, open_locked, whole_file
from lib.storage.names import escape_name, path_order, unescape_name
from lib.storage.untrusted import check_text, parse_json

# How a partial file begins, before the settings, so that somebody's own file is not taken for one.
_JOURNAL_START = b"herbariograph "

_ERRORS_HEADER = "FILE\tERROR\n"

KINDS = {".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl"}


def check_errors_table(path, option):
    """Raise UsageError, naming the option, if a file that is no table of errors lies where that table goes."""
    if os.path.exists(path):
        first = None
        if os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                first = file.readline()
        if first != _ERRORS_HEADER:
            raise UsageError(f"{path} is not a table of errors; move it, or choose another {option}.")


def write_errors_table(path, errors):
    """Write the table of files that could not be read; without any, remove a former one.

    Args:
        path: the table, which appears whole or not at all.
        errors: path -> reason.

    Raises:
        WorkError: it can't be written.
    """
    try:
        if errors:
            with whole_file(path) as file:
                file.write(_ERRORS_HEADER)
                for name in sorted(errors, key=os.fsencode):
                    file.write(f"{escape_name(name)}\t{escape_name(errors[name])}\n")
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
    """Read a table that was written by `ResumableTable`, or one like it.

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
    """Read the lines of a table that `ResumableTable` wrote as they stand.

    Yields:
        First the header as bytes, empty for one that has none; then for each row the FILE, escaped, and the line.

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
                yield _parse_row(kind, columns, text)[place], line
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
    """What a table was made with, or is being made with, as `ResumableTable` recorded it.

    Returns:
        The settings and the versions, two dictionaries; empty ones where nothing is recorded.
    """
    with contextlib.suppress(OSError, ValueError), _open_regular(path + ".partial", "rb") as file:
        first = file.readline()
        if first.startswith(_JOURNAL_START):
            begun = check_text(parse_json(first[len(_JOURNAL_START) :]))
            if isinstance(begun, dict) and isinstance(begun.get("settings"), dict):
                return begun["settings"], {}
    with contextlib.suppress(OSError, ValueError), _open_regular(path + ".settings.json", encoding="utf-8") as file:
        recorded = check_text(parse_json(file.read()))
        if isinstance(recorded, dict):
            found = [recorded.get("settings"), recorded.get("versions")]
            return tuple(part if isinstance(part, dict) else {} for part in found)
    return {}, {}


def _open_regular(path, *mode, **options):
    check_regular(path)
    return open(path, *mode, **options)


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


def _header(kind, columns):
    return "" if kind == "jsonl" else format_row(kind, columns, columns)


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


class ResumableTable:
    """Rows, one for each file, in `PATH`; while the work goes on, in `PATH.partial`.

    Each row is in the partial file as soon as `append` returns. `finish` merges what earlier runs wrote with it, sorts
    the rows by their files' paths (byte by byte), and lets `PATH` appear whole. `PATH.settings.json` remembers what the
    rows depend on; rows of other settings are never mixed.

    Args:
        path: the table to write; its ending says how.
        columns: the names of the columns, among them `FILE`.
        settings: what the rows depend on, a dictionary that JSON can hold, its keys named as a user would.
        overwrite: start anew, whatever there is. Until `finish`, a former table stays as it was.

    Raises:
        UsageError: there is a table of other settings, one that something else wrote, or one that another process is
            writing.
        WorkError: it can't be written.
    """

    def __init__(self, path, columns, settings, overwrite=False):
        self._path, self._columns, self._settings = path, list(columns), settings
        self._kind = table_kind(path)
        self._file_column = self._columns.index("FILE")
        self._header = _header(self._kind, self._columns).encode()
        self._partial = path + ".partial"
        self._rows = {}  # FILE -> twice the offset of its line, plus 1 if that is in the partial file
        try:
            self._journal = self._open_locked()
            try:
                self._start(overwrite)
            except BaseException:
                self._leave()
                raise
        except OSError as error:
            raise WorkError(f"{self._path} can't be written ({error.strerror or error}).") from error

    def __contains__(self, file):
        """Whether there is a row for a file, its name escaped as in the table."""
        return file in self._rows

    def __iter__(self):
        """The escaped names of the files that there is a row for."""
        return iter(self._rows)

    def __len__(self):
        return len(self._rows)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._journal is not None:
            self._leave()

    def append(self, rows):
        """Add rows, each a list of values in the order of the columns, for files that have none yet."""
        lines, offset = [], self._end
        for values in rows:
            line = format_row(self._kind, self._columns, values).encode()
            self._rows[values[self._file_column]] = 2 * offset + 1
            offset += len(line)
            lines.append(line)
        try:
            self._journal.write(b"".join(lines))
            self._journal.flush()
        except OSError as error:
            raise self._failure(error) from error
        self._end = offset

    def finish(self, versions):
        """Let the table and its settings appear, and remove the partial file.

        Args:
            versions: what computed the rows, a dictionary for people to read.
        """
        try:
            if self._end > self._start_of_rows or self._fresh:
                with whole_file(self._path, "wb") as target:
                    self._merge(target)
                with whole_file(self._path + ".settings.json") as file:
                    json.dump({"settings": self._settings, "versions": versions}, file, indent=2, ensure_ascii=False)
                    file.write("\n")
            os.unlink(self._partial)
        except OSError as error:
            raise self._failure(error) from error
        self._journal.close()
        self._journal = None

    def _open_locked(self):
        """Open the partial file; one process at a time may have it."""
        journal = open_locked(self._partial)
        if journal is None:
            raise UsageError(f"{self._path} is being written by another process.")
        return journal

    def _start(self, overwrite):
        """Read the partial file's first line, or write it, and index all rows there are."""
        self._journal.seek(0)
        first = self._journal.readline()
        started = self._parse_start(first)
        if overwrite or started is None:
            self._fresh = overwrite or not os.path.exists(self._path)
            if not self._fresh:
                self._compare(self._recorded_settings())
            self._journal.truncate(0)
            first = _JOURNAL_START + json.dumps({"settings": self._settings, "fresh": self._fresh}).encode() + b"\n"
            self._journal.write(first)
            self._journal.flush()
        else:
            self._compare(started["settings"])
            self._fresh = started["fresh"]
        self._start_of_rows = len(first)
        if not self._fresh:
            if not os.path.isfile(self._path):
                raise UsageError(
                    f"{self._path}, which {self._partial} continues, is gone; restore it or pass --overwrite."
                )
            with open(self._path, "rb") as table:
                if table.readline() != self._header and self._header:
                    raise self._foreign("has another header")
                table.seek(len(self._header))
                broken = self._index(table, len(self._header), 0)
            if broken is not None:
                raise self._foreign(f"has a line that is not one of its rows, after {broken} bytes")
        self._journal.seek(self._start_of_rows)
        broken = self._index(self._journal, self._start_of_rows, 1)
        self._end = self._journal.seek(0, os.SEEK_END) if broken is None else broken
        self._journal.truncate(self._end)  # a row that was being written when the process was killed

    def _parse_start(self, first):
        """The partial file's parsed first line; None if the process was killed while writing it."""
        if first.startswith(_JOURNAL_START) and first.endswith(b"\n"):
            with contextlib.suppress(ValueError):
                started = parse_json(first[len(_JOURNAL_START) :])
                if isinstance(started, dict) and isinstance(started.get("settings"), dict) and "fresh" in started:
                    return started
        elif _JOURNAL_START.startswith(first) or (first.startswith(_JOURNAL_START) and not first.endswith(b"\n")):
            return None
        raise UsageError(f"{self._partial} was not written by this command; move it, or choose another -o.")

    def _index(self, file, offset, source):
        """Note where the row of each file begins; the offset of the first line that is no row, if any."""
        for line in file:
            try:
                name = _parse_row(self._kind, self._columns, line.decode())[self._file_column]
            except (ValueError, csv.Error):
                return offset
            self._rows[name] = 2 * offset + source
            offset += len(line)
        return None

    def _merge(self, target):
        """Write all rows in the order of their files' paths."""
        target.write(self._header)
        with contextlib.ExitStack() as stack:
            former = None if self._fresh else stack.enter_context(open(self._path, "rb"))
            for name in sorted(self._rows, key=path_order):
                place = self._rows[name]
                source = self._journal if place % 2 else former
                source.seek(place // 2)
                target.write(source.readline())

    def _recorded_settings(self):
        try:
            with _open_regular(self._path + ".settings.json", encoding="utf-8") as file:
                recorded = parse_json(file.read())["settings"]
            if not isinstance(recorded, dict):
                raise TypeError
            return recorded
        except (OSError, ValueError, KeyError, TypeError):
            raise self._foreign(f"has no valid {os.path.basename(self._path)}.settings.json beside it") from None

    def _compare(self, recorded):
        ours = json.loads(json.dumps(self._settings))
        for key in {**ours, **recorded}:
            if recorded.get(key) != ours.get(key):
                raise UsageError(
                    f"{self._path} was begun with {key} {_short(recorded.get(key))}, but this call has "
                    f"{_short(ours.get(key))}; use the same options, choose another -o or pass --overwrite."
                )

    def _foreign(self, reason):
        return UsageError(f"{self._path} {reason}, so it can't be continued; choose another -o or pass --overwrite.")

    def _failure(self, error):
        return WorkError(
            f"{self._path} can't be written ({error.strerror or error}); what was written is kept; run the "
            "same command again to resume."
        )

    def _leave(self):
        """Close the partial file, and remove it if it holds no rows."""
        with contextlib.suppress(OSError):  # a full disk, of which `append` has told
            self._journal.seek(0)
            first = self._journal.readline()
            if _JOURNAL_START.startswith(first[: len(_JOURNAL_START)]) and not self._journal.read(1):
                os.unlink(self._partial)
        with contextlib.suppress(OSError):
            self._journal.close()
        self._journal = None


def _short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
