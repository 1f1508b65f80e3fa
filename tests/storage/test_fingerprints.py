"""Noticing that files changed."""

import os
import types

import pytest

from lib.errors import UsageError
from lib.storage.fingerprints import (
    Fingerprint,
    changed_files,
    check_fingerprints,
    difference,
    fingerprint,
    fingerprints_path,
    has_changed,
    read_fingerprints,
    write_fingerprints,
)

MOMENT = 1_600_000_000_123_456_789


def make(path, content, modified=MOMENT):
    path.write_bytes(content)
    os.utime(path, ns=(modified, modified))


def test_a_file_is_known_by_size_time_and_content(tmp_path):
    path = tmp_path / "a"
    make(path, b"123456789")
    known = fingerprint(path)
    assert known == Fingerprint(9, MOMENT, 0xE3069283)  # the check value of CRC-32C
    assert difference(path, known) is None and not has_changed(path, known)
    make(path, b"123456789", MOMENT + 1)
    assert difference(path, known) == known.crc32c and not has_changed(path, known)
    make(path, b"923456781", MOMENT + 1)
    assert difference(path, known) == known.crc32c and has_changed(path, known)
    make(path, b"1234567890")
    assert difference(path, known) != known.crc32c and has_changed(path, known)
    assert difference(path, None) is None and not has_changed(path, None)
    path.unlink()
    assert difference(path, known) is None and not has_changed(path, known)


def test_what_changes_while_it_is_read_counts_as_changed(tmp_path):
    make(tmp_path / "a", b"new")
    before = types.SimpleNamespace(st_size=3, st_mtime_ns=MOMENT - 1)
    known = fingerprint(tmp_path / "a", before)
    assert has_changed(tmp_path / "a", known)


def test_fingerprints_of_any_names_come_back(tmp_path):
    table = str(tmp_path / "t.tsv")
    assert list(read_fingerprints(table)) == []
    facts = [(b"a\tb", (1, 2, 3)), (b"caf\xe9\\", (4, 5, -1)), ("é".encode(), None), (b"x y", [7, 8, 9])]
    write_fingerprints(table, facts)
    assert list(read_fingerprints(table)) == [(name, tuple(known)) for name, known in facts if known]
    check_fingerprints(table)
    write_fingerprints(table, None)
    assert not os.path.exists(fingerprints_path(table))


@pytest.mark.parametrize("content", [b"my notes\n", b"FILE\tBYTES\tMODIFIED\tCRC32C\na\t1\t2\n", b"\xff\n"])
def test_somebody_elses_file_and_a_damaged_one_are_said(tmp_path, content):
    table = str(tmp_path / "t.tsv")
    (tmp_path / "t.tsv.files.tsv").write_bytes(content)
    with pytest.raises(UsageError, match="t.tsv.files.tsv is damaged; remove it"):
        list(read_fingerprints(table))
    if not content.startswith(b"FILE"):
        with pytest.raises(UsageError, match="is no list of fingerprints; move it, or choose another ⟦output⟧"):
            check_fingerprints(table)


def test_the_changed_ones_among_some_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    facts = []
    for name in ("a", "b\\", "c", "d"):
        make(tmp_path / name, name.encode())
        facts.append((name.encode(), fingerprint(name)))
    write_fingerprints("t", facts)
    for name in ("b\\", "c"):
        make(tmp_path / name, b"other")
    os.unlink("d")
    assert changed_files("t", ["a", "b\\\\", "d"]) == {"b\\\\"}
    assert changed_files("t", ["a", "b\\\\", "c", "no"]) == {"b\\\\", "c"}
