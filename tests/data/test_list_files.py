"""Lists of every kind."""

import os
from pathlib import Path

import pytest

from lib.data import list_files, listing
from lib.data.list_files import find_named
from lib.data.listing import of_file


def make(*names):
    for name in names:
        Path(name).touch()


NAMES = ["caf\u00e9.jpg", "no-ending", "sheet 1.jpg", "東京.tif"]
TEXT = "\n".join(NAMES)
LISTS = {
    "plain": TEXT.encode() + b"\n",
    "without a last line end": TEXT.encode(),
    "byte order mark": b"\xef\xbb\xbf" + TEXT.encode(),
    "CR LF": TEXT.replace("\n", "\r\n").encode(),
    "CR": TEXT.replace("\n", "\r").encode(),
    "CR LF here and there": TEXT.replace("\n", "\r\n", 1).encode() + b"\n",
    "quotes": "\n".join(f'"{name}"' for name in NAMES).encode(),
    "single quotes": "\r\n".join(f"'{name}'" for name in NAMES).encode(),
    "blanks": "\n".join(f"\t{name}  " for name in NAMES).encode(),
    "blanks and quotes": "\n".join(f' "{name}" ' for name in NAMES).encode(),
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-16 of Windows": (TEXT.replace("\n", "\r\n") + "\r\n").encode("utf-16"),
    "UTF-16 without a mark": TEXT.replace("東京", "xy").encode("utf-16-le"),
    "UTF-16, the other bytes first": b"\xfe\xff" + TEXT.encode("utf-16-be"),
    "Windows-1252": TEXT.replace("東京", "xy").encode("cp1252"),
    "backslashes": "\n".join(f".\\{name}" for name in NAMES).encode(),
    "NULs": TEXT.replace("\n", "\0").encode(),
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("block", [5, 1 << 20])
def test_lists_of_every_kind(tmp_path, monkeypatch, kind, block):
    monkeypatch.chdir(tmp_path)
    names = [
        name.replace("東京", "xy") if kind in ("Windows-1252", "UTF-16 without a mark") else name for name in NAMES
    ]
    make(*names)
    (tmp_path / "list").write_bytes(LISTS[kind])
    style = list_files.style_of("list")
    monkeypatch.setattr(list_files, "_BLOCK", block)
    monkeypatch.setattr(listing, "style_of", lambda path: style)  # by a first block that is longer than any path
    assert [name[2 * name.startswith(b"./") :] for name in of_file("list").paths] == sorted(map(str.encode, names))


def test_a_name_that_exists_as_it_stands_is_taken_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (b" a.jpg", b"b.jpg\r", b'"c.jpg"', b"caf\xe9.jpg", b"\xef\xbb\xbfd.jpg"):
        make(os.fsdecode(name))
        assert find_named(name) == name
    (tmp_path / "list").write_bytes(b"\xef\xbb\xbfd.jpg\n a.jpg\n")
    assert list(of_file("list").paths) == [b" a.jpg", b"\xef\xbb\xbfd.jpg"]
    assert find_named(b" e.jpg ") == b"e.jpg" and find_named(b"' ") == b"'" and find_named(b" \t") == b""
    assert find_named(b'"x ""y"".jpg"') == b'x "y".jpg'
