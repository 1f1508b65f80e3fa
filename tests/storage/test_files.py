"""Names in a line of text, and files that appear whole or not at all."""

import os
import random
import threading

import pytest

from lib.storage.files import checksum, open_locked, whole_file
from lib.storage.names import escape_name, unescape_name


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


def test_any_bytes_survive_escaping():
    rng = random.Random(1)
    for _ in range(2000):
        name = os.fsdecode(bytes(rng.choice(b"ab\\xtn\t\n\r\x00\x1f\x7f\x80\xc3\xa9\xff") for _ in range(8)))
        text = escape_name(name)
        assert unescape_name(text) == name
        assert "\t" not in text and "\n" not in text and "\r" not in text
        text.encode()  # no surrogates left


def test_a_whole_file_replaces_the_former_one(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text("old")
    with whole_file(path) as file:
        file.write("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["table.tsv"]


def test_a_failed_write_leaves_the_former_file(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole_file(path) as file:
        file.write("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.tsv"]


def test_of_a_link_the_file_it_leads_to_is_written(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "table.tsv")
    with whole_file(tmp_path / "link") as file:
        file.write("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "table.tsv").read_text() == "new"


def test_checksum_is_sha256(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert checksum(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("turns", ["", "0", "1"])
def test_a_job_that_slurm_has_begun_again_waits_for_the_lock_of_its_former_turn(tmp_path, monkeypatch, turns):
    monkeypatch.setenv("SLURM_RESTART_COUNT", turns)
    held = open_locked(str(tmp_path / "file"))
    ending = threading.Timer(0.7, held.close)
    ending.start()
    file = open_locked(str(tmp_path / "file"))
    ending.join()
    assert (file is not None) == (turns == "1")
    if file:
        file.close()
