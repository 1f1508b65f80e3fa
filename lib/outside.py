"""Text from outside: JSON and whole numbers, of which nothing makes Python fail otherwise than by a ValueError."""

import json

_DIGITS = 18  # of a number that every program's integers hold


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
