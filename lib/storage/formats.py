"""Tables in files, as this toolkit and other programs write them: separated by tabs, commas or semicolons, JSON lines,
Excel workbooks.

Values are text here. pandas isn't used, since it guesses their types: a file named `007` or `NA` would become a number
or nothing, and it holds a whole table in memory.
"""

import codecs
import contextlib
import csv
import io
import itertools
import json
import logging
import os
import re
import zipfile

from lib.errors import UsageError
from lib.storage.files import whole_file
from lib.storage.untrusted import SHRINKING, SMALL_BYTES, check_text, check_zip_member, one_line, parse_json

log = logging.getLogger(__name__)

# Endings of names, in lower case, and what is written under them.
_KINDS = {".tsv": "tsv", ".tab": "tsv", ".txt": "tsv", "": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".xlsx": "xlsx"}
WRITTEN = ".tsv, .csv, .xlsx or .jsonl"

_MOST_ROWS = 1_048_576  # of a sheet of Excel's, with the header

_BLOCK = 1 << 20
_WORD = 30  # characters of one that a message shows
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # which begins like the next one
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF32_BE, "utf-32"),
)
_DOUBLED = re.compile(r'"(?:[^"]|"")*""(?:[^"]|"")*"')  # a value in quotes, with doubled quotes in it
_FORMULA = re.compile("'*[=+@-]")  # what Excel would compute
_NUMBER = re.compile(r"[+-]?[0-9.,]+(?:[eE][+-]?[0-9]+)?")


def table_kind(path):
    """How a table is written, by the ending of its name: `tsv`, `csv`, `jsonl` or `xlsx`. UsageError for others."""
    ending = os.path.splitext(path)[1].lower()
    if ending not in _KINDS:
        raise UsageError(f"{path} ends in {ending}, which isn't written; name a table {WRITTEN}.")
    return _KINDS[ending]


def read_rows(path):
    """Read a table, whatever wrote it.

    Args:
        path: a workbook of Excel's (its first sheet), lines of JSON objects, or text: in UTF-8, UTF-16 or Windows-1252,
            separated by tabs, commas or semicolons, with any line ends, and with or without quotes. What it is follows
            from its content, and from the ending `.jsonl`.

    Yields:
        Pairs of a line's number, from 1, and its values as text; the first are the names of the columns. Lines without
        any value are left out.

    Raises:
        UsageError: it is something else.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(4)
        names = None
        for number, values in _rows_of(path, start):
            if any(value and not value.isspace() for value in values):
                if names is None:
                    names = values = [value.strip() for value in values]
                yield number, values
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"{path} can't be read as a table ({error.strerror or error}).") from error
    except ValueError as error:
        raise UsageError(f"{path} can't be read as a table ({one_line(error)}).") from error


def read_named_rows(path, needed=(), named=None):
    """Read a table whose first row names its columns, see `read_rows`.

    Args:
        path: the table.
        needed, named: see `check_columns`.

    Returns:
        The names of the columns, none for an empty file; and an iterator of pairs of a line's number and its row, a
        dictionary that lacks what a line is too short for.

    Raises:
        UsageError: it is something else, also raised by the iterator; or a column is missing.
    """
    rows = read_rows(path)
    _, columns = next(rows, (1, []))
    check_columns(path, columns, needed, named)
    return columns, ((line, dict(zip(columns, values))) for line, values in rows)


def check_columns(path, columns, needed, named=None):
    """Raise UsageError if a table's columns lack one that is needed; `named` is what the message calls these."""
    if not {*needed} <= {*columns}:
        raise UsageError(f"{path} needs a header with the columns {named or ' and '.join(needed)}.")


def _rows_of(path, start):
    if start == b"PK\x03\x04":
        return _sheet_rows(path)
    if start == b"\xd0\xcf\x11\xe0":
        raise ValueError("it is a workbook of the old kind; save it as .xlsx or .csv")
    if start[:2] == b"\x1f\x8b":
        raise ValueError("it is compressed; unpack it with gunzip")
    if start == b"PAR1":
        raise ValueError("it is a Parquet file; save it as .csv")
    encoding = _encoding_of(path)
    json_lines = os.path.splitext(path)[1].lower() == ".jsonl"
    return _json_rows(path, encoding) if json_lines else _text_rows(path, encoding)


def _encoding_of(path):
    """A text file's encoding. UsageError if it is none that Excel writes."""
    with open(path, "rb") as file:
        start = file.read(64)
        for mark, encoding in _MARKS:
            if start.startswith(mark):
                return encoding
        if b"\0" in start:  # every second byte of Latin text without a byte order mark
            return "utf-16-be" if start[:1] == b"\0" else "utf-16-le"
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            for block in iter(lambda: file.read(_BLOCK), b""):
                decoder.decode(block)
            decoder.decode(b"", final=True)
            return "utf-8"
        except UnicodeDecodeError:
            file.seek(0)
            return _eight_bits(path, file.read())


def _eight_bits(path, content):
    """The encoding of a file's content that is not UTF-8: Windows-1252, if it can be that."""
    cure = "save it as UTF-8"
    text = content.decode("utf-8", "surrogateescape")
    if re.search("[\x80-\ud7ff\ue000-\U0010ffff]", text):
        number = text[: re.search("[\udc80-\udcff]", text).start()].count("\n") + 1
        raise UsageError(f"{path} is in UTF-8, but for some bytes, first in line {number}; {cure}.")
    try:
        decoded = content.decode("cp1252")
        place = re.search(r"[^\x00-\x7f]", decoded).start()  # alone: with the word around it this can take minutes
        before, behind = decoded[max(0, place - _WORD) : place], decoded[place : place + _WORD]
        word = re.search(r"\w*\Z", before).group() + re.match(r".\w*", behind).group()
    except UnicodeDecodeError:
        raise UsageError(f"{path} is neither in UTF-8 nor in UTF-16 or Windows-1252; {cure}.") from None
    log.info(f"{path} is not in UTF-8, so it is read as Windows-1252, such as “{word}”; if that is wrong, {cure}.")
    return "cp1252"


def _text_rows(path, encoding):
    """The rows of separated text: pairs of a line's number and its values."""
    with open(path, encoding=encoding, newline="") as file:
        start = file.read(_BLOCK)
        end = "\n" if "\n" in start or "\r" not in start else "\r"
        first, _, rest = start.partition(end)
        named = re.fullmatch(r"sep=(.)\r?", first)  # which tells Excel the separator
        header = rest.partition(end)[0] if named else first
        separator = named[1] if named else _separator(header)
        file.seek(0)
        if separator != "\t" or header.endswith("\r") or header.startswith('"'):
            rows = csv.reader(file, delimiter=separator, strict=True)  # else a lone quote would swallow lines
            try:
                for values in itertools.islice(rows, 1 if named else 0, None):
                    yield rows.line_num, list(map(_without_apostrophe, values)) if separator != "\t" else values
            except csv.Error as error:
                raise ValueError(f"line {rows.line_num}: {error}") from error
            return
    with open(path, encoding=encoding, newline=end) as file:
        for number, line in enumerate(file, start=1):
            if number > 1 or not named:
                values = line.rstrip("\r\n").split("\t")
                yield number, [_unquoted(value) for value in values] if '""' in line else values


def _separator(header):
    """What separates the names of columns: tabs, else commas or semicolons, whichever are more."""
    if "\t" in header or not re.search("[,;]", header):
        return "\t"
    return max(",;", key=header.count)


def _unquoted(value):
    """A value as it was before a program such as pandas put it in quotes, since it has quotes itself."""
    return value[1:-1].replace('""', '"') if _DOUBLED.fullmatch(value) else value


def _with_apostrophe(text):
    """A value for a CSV, where a text that Excel would take for a formula has an apostrophe before it."""
    return "'" + text if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def _without_apostrophe(text):
    return text[1:] if text[:1] == "'" and _FORMULA.match(text) else text


def _json_rows(path, encoding):
    columns = None
    with open(path, encoding=encoding, newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                row = check_text(parse_json(line))
                if not isinstance(row, dict) or list(row) != (columns or list(row)):
                    raise ValueError(f"line {number} has other columns")
                if columns is None:
                    columns = list(row)
                    yield number, columns
                yield number, ["" if value is None else str(value) for value in row.values()]


def _sheet_rows(path):
    """The rows of a workbook's first sheet. ValueError if it is none."""
    try:
        from openpyxl import load_workbook  # here, since only workbooks need it

        with contextlib.ExitStack() as opened:
            file = opened.enter_context(open(path, "rb"))  # by its name openpyxl opens only what ends in .xlsx
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    check_zip_member(member, os.path.getsize(path), SHRINKING, SMALL_BYTES)
            workbook = opened.enter_context(contextlib.closing(load_workbook(file, read_only=True, data_only=True)))
            sheet, width = workbook.worksheets[0], 0
            sheet.reset_dimensions()  # which some programs write wrongly
            for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
                values = list(map(_text_of, cells))
                while len(values) > width and not values[-1]:  # cells that are formatted, but empty
                    values.pop()
                width = width or len(values)
                yield number, values + [""] * (width - len(values))
    except (ImportError, MemoryError, OSError):
        raise
    except Exception as error:  # openpyxl and zipfile raise anything for a damaged file
        raise ValueError(f"it is no whole workbook of Excel's: {one_line(error)}") from error


def _text_of(cell):
    """The value of a cell as text."""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float):
        return f"{cell:.15g}"
    return "" if cell is None else str(cell)


def header_line(kind, columns):
    """The first line of a table as bytes; empty for a kind that has none."""
    if kind in ("jsonl", "xlsx"):
        return b""
    # By its mark Excel knows a CSV for UTF-8.
    return (codecs.BOM_UTF8 if kind == "csv" else b"") + format_line(kind, columns, columns)


def format_line(kind, columns, values):
    """A row of a table as bytes: one line. A workbook has its rows as lines of JSON until it is written.

    Args:
        kind: see `table_kind`.
        columns: their names.
        values: in the order of the columns: strings without tabs and line ends, whole numbers, or fractions, which are
            written with four decimals; None for an empty one.
    """
    if kind in ("jsonl", "xlsx"):
        numbers = [round(value, 4) if isinstance(value, float) else value for value in values]
        return (json.dumps(dict(zip(columns, numbers)), ensure_ascii=False) + "\n").encode()
    texts = ["" if v is None else f"{v:.4f}" if isinstance(v, float) else str(v) for v in values]
    if kind == "tsv":
        return ("\t".join(texts) + "\n").encode()
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(map(_with_apostrophe, texts))
    return line.getvalue().encode()


def parse_line(kind, line):
    """The values of a line that `format_line` wrote; of JSON, a dictionary. ValueError if it is cut short."""
    if not line.endswith(b"\n"):
        raise ValueError("cut short")
    text = line[:-1].decode()
    if kind in ("jsonl", "xlsx"):
        return parse_json(text)
    if kind == "csv":
        return list(map(_without_apostrophe, next(csv.reader([text]))))
    return text.split("\t")


def number_or_text(column, text):
    """A value as `format_line` takes it: of a column of probabilities a fraction, else the text."""
    if column.startswith("PROBABILITY"):
        with contextlib.suppress(ValueError):
            return float(text.replace(",", "."))  # as much of the world writes it
    return text


def check_rows(path, count):
    """Raise UsageError if a table of so many rows can't be written under this name."""
    if table_kind(path) == "xlsx" and count >= _MOST_ROWS:
        raise UsageError(f"{count:,} rows are more than a sheet of Excel's holds; name {path} .tsv, .csv or .jsonl.")


@contextlib.contextmanager
def open_table(path, columns):
    """Open a table for writing; it appears whole or not at all.

    Args:
        path: the file, whose ending sets the kind.
        columns: their names.

    Yields:
        A function that takes a line of `format_line`.

    Raises:
        UsageError: more rows than the kind can hold.
        OSError: see `whole_file`.
    """
    kind = table_kind(path)
    with whole_file(path, "wb") as file:
        if kind != "xlsx":
            file.write(header_line(kind, columns))
            yield file.write
            return
        from openpyxl import Workbook

        workbook = Workbook(write_only=True)  # which holds no rows in memory
        sheet = workbook.create_sheet("table")
        sheet.freeze_panes = "A2"
        sheet.append(_cells(sheet, columns))
        count = itertools.count(1)

        def add(line):
            check_rows(path, next(count))
            sheet.append(_cells(sheet, parse_json(line).values()))

        try:
            yield add
            workbook.save(file)
        except BaseException:
            with contextlib.suppress(Exception):
                sheet.close()  # else openpyxl complains when it is thrown away
            raise


def _cells(sheet, values):
    """The cells of a row: texts stay texts, also those that look like formulas."""
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    for value in values:
        if isinstance(value, str):
            cell = WriteOnlyCell(sheet, ILLEGAL_CHARACTERS_RE.sub("\ufffd", value))
            cell.data_type = "s"
            if _FORMULA.match(value):
                cell.quotePrefix = True  # so that it stays one when somebody edits it
        else:
            cell = WriteOnlyCell(sheet, value)
            if isinstance(value, float):
                cell.number_format = "0.0000"
        yield cell
