"""A journal keeps what was done through kills, and is nobody else's."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from lib.errors import UsageError, WorkError
from lib.storage.journal import Journal, settings_of_journal

SETTINGS = {"model": "ConvNeXt-N", "top": 1}


def opened(path, settings=SETTINGS, **options):
    return Journal(str(path), "things", settings, output="things.tsv", **options)


def test_entries_come_back_in_the_order_of_their_keys(tmp_path):
    with opened(tmp_path / "j") as journal:
        assert not journal.continued and len(journal) == 0
        journal.add(b"b\xff", b"two", {"bytes": 2})
        journal.extend([(b"c", None, b"three"), (b"a", [1], b"one")])
        journal.add(b"c", b"four")
    with opened(tmp_path / "j") as journal:
        assert journal.continued and len(journal) == 3
        assert list(journal.entries()) == [(b"a", [1], b"one"), (b"b\xff", {"bytes": 2}, b"two"), (b"c", None, b"four")]
        assert list(journal.facts()) == [(b"a", [1]), (b"b\xff", {"bytes": 2}), (b"c", None)]
        assert list(journal.keys()) == [b"a", b"b\xff", b"c"] and journal.content(b"a") == b"one"
        assert list(journal.missing([b"", b"a", b"aa", b"c", b"d", b"e"])) == [b"", b"aa", b"d", b"e"]
        journal.remove()
    assert os.listdir(tmp_path) == []


class Finished:
    """A result that is continued."""

    def __init__(self, *entries, broken=False):
        self._entries, self._broken = entries, broken

    def facts(self):
        return ((key, about) for key, about, _ in self.entries())

    def entries(self):
        yield from self._entries
        if self._broken:
            raise UsageError("things.tsv is not whole.")


def test_a_finished_result_is_continued(tmp_path):
    finished = Finished((b"a", None, b"1"), (b"b", {"x": 1}, b"2"))
    with opened(tmp_path / "j") as journal:
        journal.continue_from(finished)
        assert list(journal.missing([b"a", b"b", b"c"])) == [b"c"] and journal.former is finished
        assert list(journal.entries()) == list(finished.entries()) and list(journal.facts()) == list(finished.facts())
        assert len(journal) == 0 and journal.find(b"b") is None, "these are about the journal's file"
    assert os.listdir(tmp_path) == []  # as nothing was added
    with opened(tmp_path / "j") as journal:
        journal.continue_from(finished)
        journal.add(b"c", b"3")
        assert list(journal.keys()) == [b"a", b"b", b"c"] and journal.former is None
        assert list(journal.entries()) == [*finished.entries(), (b"c", None, b"3")] and journal.find(b"b") == {"x": 1}
    with opened(tmp_path / "j") as journal:
        journal.continue_from(Finished(broken=True))  # which is not read again
        assert journal.continued and journal.former is None and len(journal) == 3
    with opened(tmp_path / "j", fresh=True) as journal:
        assert list(journal.keys()) == []


def test_nothing_of_a_finished_result_that_is_damaged_is_taken_over(tmp_path):
    with pytest.raises(UsageError, match="is not whole"), opened(tmp_path / "j") as journal:
        journal.continue_from(Finished((b"a", None, b"1"), broken=True))
        journal.add(b"c", b"3")
    assert os.listdir(tmp_path) == []


def test_what_it_was_begun_with_can_be_asked(tmp_path):
    path = str(tmp_path / "j")
    assert settings_of_journal(path, "things") == {} and os.listdir(tmp_path) == []
    with opened(path) as journal:
        journal.add(b"a", b"1")
        assert settings_of_journal(path, "things") == {}  # another process has it
    assert settings_of_journal(path, "things") == SETTINGS
    assert settings_of_journal(path, "pictures") == {}
    for content in (b"", b"my own notes\n" * 200, b"SQLite format 3\0" + bytes(3000)):
        (tmp_path / "j").write_bytes(content)
        assert settings_of_journal(path, "things") == {} and (tmp_path / "j").read_bytes() == content


def test_one_without_entries_leaves_nothing(tmp_path):
    with opened(tmp_path / "j"):
        pass
    assert os.listdir(tmp_path) == []


def test_other_settings_are_refused_and_nothing_is_lost(tmp_path):
    with opened(tmp_path / "j") as journal:
        journal.add(b"a", b"1")
    with pytest.raises(UsageError, match=r"^things\.tsv was begun with ⟦top⟧ 1, but this call has 2;"):
        opened(tmp_path / "j", {**SETTINGS, "top": 2})

    class Search(Journal):
        anew = "fresh"

    for kind, anew in ((Journal, "overwrite"), (Search, "fresh")):
        with pytest.raises(UsageError, match=f"use the same options, choose another ⟦output⟧ or pass ⟦{anew}⟧"):
            kind(str(tmp_path / "j"), "things", {})
    with opened(tmp_path / "j") as journal:
        assert journal.content(b"a") == b"1"
    with pytest.raises(UsageError, match="belongs to another stage"):
        Journal(str(tmp_path / "j"), "pictures", SETTINGS)
    with opened(tmp_path / "j", {**SETTINGS, "top": 2}, replace=True) as journal:
        assert not journal.continued and len(journal) == 0
        journal.add(b"b", b"2")
    with opened(tmp_path / "j", {**SETTINGS, "top": 2}, fresh=True) as journal:
        assert not journal.continued and len(journal) == 0


def test_two_cannot_write_at_once(tmp_path):
    with opened(tmp_path / "j") as journal:
        with pytest.raises(UsageError, match=r"^things\.tsv is being written by another process\.$"):
            opened(tmp_path / "j")
        journal.add(b"a", b"1")
    with opened(tmp_path / "j") as journal:
        assert len(journal) == 1


@pytest.mark.parametrize("content", [b"my own notes\n" * 200, b"x", b"SQLite format 3\0" + bytes(3000)])
def test_somebody_elses_file_is_left_as_it_is(tmp_path, content):
    (tmp_path / "j").write_bytes(content)
    with pytest.raises((UsageError, WorkError), match=r"j (was not written by this command|is damaged)"):
        opened(tmp_path / "j", fresh=True)
    assert (tmp_path / "j").read_bytes() == content


@pytest.mark.parametrize("statement", ["CREATE TABLE notes (text)", "PRAGMA application_id = 7"])
def test_another_programs_database_is_left_as_it_is(tmp_path, statement):
    database = sqlite3.connect(tmp_path / "j")
    database.execute(statement)
    database.execute("PRAGMA user_version = 1")
    database.commit()
    database.close()
    before = (tmp_path / "j").read_bytes()
    with pytest.raises(UsageError, match=r"j was not written by this command; move it, or choose another ⟦output⟧\."):
        opened(tmp_path / "j", fresh=True)
    assert (tmp_path / "j").read_bytes() == before


def test_damage_is_told(tmp_path):
    with opened(tmp_path / "j") as journal:
        journal.extend((b"%06d" % number, None, bytes(300)) for number in range(1000))
    content = bytearray((tmp_path / "j").read_bytes())
    content[8192:40960] = bytes(range(256)) * 128
    (tmp_path / "j").write_bytes(content)
    with pytest.raises(WorkError, match=r"j is damaged \(.*\); remove it to start over\."), opened(tmp_path / "j") as j:
        list(j.entries())


def test_a_schema_that_is_no_text_is_told(tmp_path):
    with opened(tmp_path / "j") as journal:
        journal.add(b"a", b"1")
    content = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(content.replace(b"CREATE TABLE facts", b"CREATE TA\x94 X facts"))
    with pytest.raises(WorkError, match=r"j is damaged"):
        opened(tmp_path / "j")
    (tmp_path / "j").write_bytes(content)
    with opened(tmp_path / "j") as journal:
        assert journal.content(b"a") == b"1"


def test_a_full_disk_is_told_and_what_was_written_is_kept(tmp_path):
    with opened(tmp_path / "j") as journal:
        journal.add(b"a", b"1")
    with opened(tmp_path / "j") as journal:
        journal._database.execute("PRAGMA max_page_count = 8").fetchall()  # as full a disk as a test can make
        with pytest.raises(WorkError, match=r"^things\.tsv can't be written \(database or disk is full\); what was"):
            journal.add(b"b", bytes(100_000))
            journal.save()
    with opened(tmp_path / "j") as journal:
        assert [key for key, _, _ in journal.entries()] == [b"a"]
    with pytest.raises(WorkError, match="disk is full"), opened(tmp_path / "j") as journal:
        journal._database.execute("PRAGMA max_page_count = 8").fetchall()
        journal._saved = time.monotonic()  # so that what is added stays for the end
        journal.add(b"b", bytes(20_000))


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(WorkError, match=r"^things\.tsv can't be written \(No such file or directory\)"):
        opened(tmp_path / "none" / "j")


WORKER = """
import sys
from lib.storage.journal import Journal
path, settings = sys.argv[1], {"model": "ConvNeXt-N", "top": 1}
with Journal(path, "things", settings) as journal:
    print(len(journal), flush=True)
    for key in list(journal.missing(b"%06d" % number for number in range(20000))):
        journal.add(key, key * 20)
print("done", flush=True)
"""


def test_any_kill_leaves_a_whole_journal(tmp_path):
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # pytest shows it when the test fails
    draw, counts = random.Random(seed), []
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path / "a ?%j")], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        counts.append(int(process.stdout.readline()))
        time.sleep(draw.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = subprocess.run([sys.executable, "-c", WORKER, str(tmp_path / "a ?%j")], cwd=ROOT, stdout=subprocess.PIPE)
    assert done.returncode == 0 and counts == sorted(counts)
    with opened(tmp_path / "a ?%j") as journal:
        assert [content for _, _, content in journal.entries()] == [b"%06d" % number * 20 for number in range(20000)]


def test_what_is_finished_is_noted(tmp_path):
    with opened(tmp_path / "j") as journal:
        journal.add(b"a", b"1")
        assert journal.finished is None
        journal.finish({"shard": "1/2"})
    with opened(tmp_path / "j") as journal:
        assert json.loads(json.dumps(journal.finished)) == {"shard": "1/2"}


def test_one_that_is_left_is_one_file(tmp_path):
    for _ in range(2):
        with opened(tmp_path / "j") as journal:
            journal.add(b"a", b"1")
        assert os.listdir(tmp_path) == ["j"]


def test_one_that_is_finished_without_entries_stays(tmp_path):
    with opened(tmp_path / "j") as journal:
        journal.finish({"shard": "2/2"})
    with opened(tmp_path / "j") as journal:
        assert journal.finished == {"shard": "2/2"} and len(journal) == 0
