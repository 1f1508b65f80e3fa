"""Names of files in a line of text."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import lines, many

from lib.storage.names import escape_name, path_order, unescape_name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("scans/a b.jpg", "scans/a b.jpg"),
        ("a\tb\nc\rd", "a\\tb\\nc\\rd"),
        ("back\\slash", "back\\\\slash"),
        (os.fsdecode(b"caf\xe9.jpg"), "caf\\xe9.jpg"),
        ("bell\x07\x7f", "bell\\x07\\x7f"),
        ("next\x85line\u2028", "next\\xc2\\x85line\\xe2\\x80\\xa8"),
        ("Ähre 🌾", "Ähre 🌾"),
    ],
)
def test_a_name_is_escaped_readably(name, text):
    assert escape_name(name) == text
    assert unescape_name(text) == name


@many
@given(st.binary(min_size=1, max_size=60).map(os.fsdecode))
def test_any_name_becomes_a_line_of_text_and_comes_back(name):
    text = escape_name(name)
    assert len(text.split("\n")) == 1 and "\t" not in text and "\r" not in text
    text.encode()
    assert unescape_name(text) == os.fsdecode(os.fsencode(name))


@many
@given(lines)
def test_any_text_is_a_name(text):
    os.fsencode(unescape_name(text))


def test_escaped_names_are_sorted_as_the_paths_are():
    paths = [b"a\n", b"a!", b"a\\", b"a", b"\xff", "é".encode()]
    escaped = sorted((escape_name(os.fsdecode(path)) for path in paths), key=path_order)
    assert [os.fsencode(unescape_name(name)) for name in escaped] == sorted(paths)
