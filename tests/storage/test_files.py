"""Files that appear whole or not at all, and files that are locked."""

import os
import threading

import pytest

from lib.storage.files import checksum, open_locked, whole_file


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
