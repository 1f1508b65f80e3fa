"""The delimited texts within an archive: of any size, row by row, as its `meta.xml` describes them."""

import codecs
import csv
import io
from typing import NamedTuple

LONGEST_LINE = 16_000_000  # characters; a longer one is damage, or an attack on the memory
_LONGEST_FIELD = 4_000_000


class Layout(NamedTuple):
    """How a text is written: its encoding, what separates fields, what encloses them (empty for nothing), and what ends
    lines."""

    encoding: str = "utf-8"
    delimiter: str = ","
    quote: str = '"'
    line_end: str = "\n"


def _as_windows_1252(error):
    """Decode the bytes that are not UTF-8: in such files they are nearly always Windows-1252 or its subset Latin-1."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error("windows-1252", _as_windows_1252)


def read_delimited(file, layout):
    """Yield each row of a binary file as a list of texts; empty lines are left out.

    Raises:
        ValueError: a line or field is too long, or the encoding is unknown.
    """
    try:
        encoding = "utf-8-sig" if codecs.lookup(layout.encoding).name == "utf-8" else layout.encoding
    except LookupError:
        raise ValueError(f"its encoding {layout.encoding!r} is unknown") from None
    # Within quotes `csv` has to see line ends as they are. Without them a lone carriage return is a character.
    newline = "" if layout.quote else "\r" if layout.line_end == "\r" else "\n"
    text = io.TextIOWrapper(file, encoding, errors="windows-1252", newline=newline)
    lines = _lines(text)
    if layout.quote:
        csv.field_size_limit(_LONGEST_FIELD)
        try:
            yield from filter(None, csv.reader(lines, delimiter=layout.delimiter, quotechar=layout.quote))
        except csv.Error as error:
            raise ValueError(str(error)) from error
    else:
        for line in lines:
            line = line.rstrip("\r\n")
            if line:
                yield line.split(layout.delimiter)


def _lines(text):
    number = 0
    while True:
        line = text.readline(LONGEST_LINE)
        if not line:
            return
        number += 1
        if len(line) == LONGEST_LINE:
            raise ValueError(f"line {number:,} has more than {LONGEST_LINE:,} characters")
        yield line.replace("\0", "")  # which `csv` refuses before Python 3.11


def find_layout(start):
    """The layout of a text whose first line is a header.

    Args:
        start: the first bytes of the file, with the whole header.
    """
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    header = start.decode(encoding, "replace").splitlines()[:1]
    header = header[0] if header else ""
    delimiter = max("\t;,", key=header.count)
    # Exports that separate by tabs seldom enclose fields, and then a quotation mark is one.
    quoted = delimiter != "\t" or '"' in header
    return Layout(encoding, delimiter, '"' if quoted else "")
