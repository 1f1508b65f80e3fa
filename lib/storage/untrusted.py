"""Text from outside: tables, JSON, whole numbers. None of it makes Python fail otherwise than the functions say."""

import json

from lib.errors import UsageError

_DIGITS = 18  # of a number that every program's integers hold


def read_tsv(path, named=None):
    """The lines of a table that hold anything, split at tabs.

    Args:
        path: a text file in UTF-8, with or without a byte order mark, its lines ended as on any system of today.
        named: what to call it in messages; None for its path.

    Returns:
        A list of pairs: a line's number in the file, from 1, and its values.

    Raises:
        UsageError: it can't be read.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="\n") as file:
            return [
                (number, line.rstrip("\r\n").split("\t")) for number, line in enumerate(file, start=1) if line.strip()
            ]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{named or path} can't be read as a table ({error}).") from error


def parse_json(text):
    """What a JSON text says.

    Raises:
        ValueError: it is none, or one so nested that Python can't read it.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def whole_number(text):
    """A whole number of 0 or more in ASCII digits.

    Raises:
        ValueError: it is something else, or has more than 18 digits.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS):
        raise ValueError(f"{text[:40]!r} is not a whole number")
    return int(text)


def is_whole_number(text):
    """Whether `whole_number` takes a text."""
    try:
        whole_number(text)
    except ValueError:
        return False
    return True


def check_text(value):
    """Raise ValueError if a text in what JSON said, however deep, is none: JSON can hold halves of characters."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            part.encode()
        elif isinstance(part, dict):
            waiting.extend((*part, *part.values()))
        elif isinstance(part, list):
            waiting.extend(part)
    return value


def json_text(value):
    """A value as JSON that UTF-8 can hold, too, when it has names of files that are not UTF-8: those stay escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(f"\\u{ord(sign):04x}" if "\ud800" <= sign <= "\udfff" else sign for sign in text)
