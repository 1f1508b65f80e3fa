"""Lists of files, as people and programs write them."""

import codecs
import itertools
import os
import re
from typing import NamedTuple, Optional

from lib.errors import UsageError

_BLOCK = 1 << 20  # bytes of a list that are read at once
_AROUND = (b" ", b"\t", b"\r", b"\v", b"\f", b'"', b"'")  # what names in lists may have around them


class Style(NamedTuple):
    """How a list is written.

    Attributes:
        separator: between the names, as a byte.
        encoding: in which the file has to be decoded; None for names in bytes as the file system has them.
        skipped: the number of bytes of a byte order mark.
        returns: whether each line ends in CR and LF.
    """

    separator: bytes
    encoding: Optional[str]
    skipped: int
    returns: bool


def style_of(path):
    """How a list is written, by its first block."""
    with open(path, "rb") as file:
        start = file.read(_BLOCK)  # longer than any path
    if start.startswith((b"PK\x03\x04", b"\x1f\x8b", b"\xd0\xcf\x11\xe0")):
        raise UsageError(f"{path} is a workbook or compressed; save it as text, with one path per line.")
    encoding, skipped = None, 0
    if start.startswith(codecs.BOM_UTF8) and not os.path.lexists(re.split(b"[\0\r\n]", start, maxsplit=1)[0]):
        skipped = len(codecs.BOM_UTF8)
    elif start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        encoding = "utf-16"
    elif b"\n\0" in start and start[1:2] == b"\0":  # and not names separated by NULs
        encoding = "utf-16-le"
    elif b"\0\n" in start and start[:1] == b"\0":
        encoding = "utf-16-be"
    if encoding:
        start = os.fsencode(codecs.getincrementaldecoder(encoding)().decode(start))
    if b"\0" in start:
        return Style(b"\0", encoding, skipped, False)
    if b"\n" not in start and b"\r" in start:
        return Style(b"\r", encoding, skipped, False)
    *lines, _ = start.split(b"\n")
    return Style(b"\n", encoding, skipped, all(line.endswith(b"\r") for line in lines))


def read_names(path, style):
    """Yield the names in a list, as bytes, in lists that are not empty; `style` is that of `style_of`."""
    decoder = codecs.getincrementaldecoder(style.encoding)() if style.encoding else None
    with open(path, "rb") as file:
        file.seek(style.skipped)
        rest = b""
        for block in itertools.chain(iter(lambda: file.read(_BLOCK), b""), [b""]):
            data = block if decoder is None else decoder.decode(block, final=not block).encode()
            *names, rest = (rest + data).split(style.separator)
            names += [] if block else [rest]
            if style.separator != b"\0":
                names = [find_named(name[:-1] if style.returns and name[-1:] == b"\r" else name) for name in names]
            names = list(filter(None, names))
            if names:
                yield names


def find_named(name):
    """The path of a file that a person named: without blanks, line ends and quotes around it, with slashes for
    Windows's backslashes, and in UTF-8 if it is in Windows-1252, unless a file has the name as it stands.

    Args:
        name: bytes, of one line.

    Returns:
        bytes; empty for a name of blanks only.
    """
    clean = name[:1] not in _AROUND and name[-1:] not in _AROUND and b"\\" not in name
    if clean and (name.isascii() or _is_utf8(name)):  # nearly always; it would take long to look up millions of files
        return name
    bare = name.strip()
    quote = bare[:1]
    if len(bare) > 1 and quote == bare[-1:] and quote in (b'"', b"'"):
        bare = bare[1:-1].replace(2 * quote, quote)
    wanted = [name, name.strip(), bare, bare.replace(b"\\", b"/")]
    wanted += [each.decode("cp1252", "replace").encode() for each in wanted if not _is_utf8(each)]
    return next((each for each in wanted if each and os.path.lexists(each)), bare)


def _is_utf8(name):
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
