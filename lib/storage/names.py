"""Names of files that fit into a line of text."""

import os
import re

JOINERS = "\u200c\u200d"  # invisible, but needed within words of scripts such as Persian

_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_ESCAPED = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\udc80-\udcff]")
_UNESCAPED = re.compile(r"\\(x[0-9a-f]{2}|.)", re.DOTALL)


def escape_name(name):
    r"""A file name as text of one line without tabs, which `unescape_name` turns back.

    A backslash becomes `\\`, a tab `\t`, the line ends `\n` and `\r`; other control characters and line ends, and bytes
    that are not UTF-8, become `\x` and two hexadecimal digits for each byte.

    Args:
        name: a path as Python has it, bytes that are not UTF-8 as surrogates.
    """

    def escaped(match):
        character = match.group()
        return _ESCAPES.get(character) or "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))

    return _ESCAPED.sub(escaped, name)


def unescape_name(text):
    """The path that `escape_name` was given."""
    if "\\" not in text:  # nearly always
        return text

    def character(match):
        code = match.group(1)
        if len(code) == 3:
            value = int(code[1:], 16)
            return chr(value if value < 0x80 else 0xDC00 + value)
        return {"t": "\t", "n": "\n", "r": "\r"}.get(code, code)

    return os.fsdecode(os.fsencode(_UNESCAPED.sub(character, text)))  # bytes that together are UTF-8 joined


def path_order(name):
    """What escaped names are sorted by: their paths, byte by byte."""
    return os.fsencode(unescape_name(name))
