"""Files that appear whole or not at all, and files that are locked."""

import os
import re
import signal
import threading

import pytest

from lib.storage.files import checksum, checksum_of, open_locked, temporary_name, whole_file


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


def test_no_two_drafts_have_one_name_whatever_the_number_of_the_process(monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 123)
    names = {temporary_name("table.tsv") for _ in range(20)}
    assert len(names) == 20 and all(re.fullmatch(r"table\.tsv\.123\d{9}\.tmp", name) for name in names)


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


def test_a_directory_has_the_checksum_of_its_names_and_contents(tmp_path):
    def checksum_with(**contents):
        for path in tmp_path.iterdir():
            path.unlink()
        for name, content in contents.items():
            (tmp_path / name).write_text(content)
        return checksum_of(str(tmp_path))

    first = checksum_with(b="1", a="2")
    assert first == checksum_with(a="2", b="1")
    assert len({first, checksum_with(a="1", b="2"), checksum_with(a="2", c="1"), checksum_with(a="2")}) == 4


def test_a_file_that_is_removed_while_it_is_waited_for_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    path = str(tmp_path / "file")
    held = open_locked(path)

    def finish():
        os.unlink(path)
        held.close()

    ending = threading.Timer(0.3, finish)
    ending.start()
    with open_locked(path) as file:
        ending.join()
        assert os.path.samestat(os.fstat(file.fileno()), os.stat(path))


@pytest.fixture
def at_once():
    """Fails within seconds where opening a named pipe would wait for ever."""

    def stop(*_):
        raise AssertionError("it waits for ever")

    former = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, former)


def test_named_pipes_are_refused_not_opened(tmp_path, at_once):
    os.mkfifo(tmp_path / "pipe")
    for read in (checksum, open_locked, lambda path: checksum_of(os.path.dirname(path))):
        with pytest.raises(OSError, match="it is not a regular file"):
            read(str(tmp_path / "pipe"))
