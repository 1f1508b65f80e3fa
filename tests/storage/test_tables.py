"""Tables that survive being killed."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from lib.errors import UsageError, WorkError
from lib.storage.names import path_order
from lib.storage.tables import (
    Table,
    open_rows,
    read_table,
    settings_begun_with,
    settings_of,
    write_table,
)

COLUMNS = ["MODEL", "FILE", "PREDICTION", "PROBABILITY"]
SETTINGS = {"model": "N", "top": 1}


def table_at(path, **changes):
    return Table(str(path), COLUMNS, {**SETTINGS, **changes})


def add(rows, table, *names):
    rows.extend([(path_order(name), None, table.line(["N", name, "Live", 0.5])) for name in names])


def begin(path, *names, overwrite=False, **changes):
    """Leave a table as a call does that was stopped."""
    table = table_at(path, **changes)
    with open_rows(table, overwrite) as rows:
        add(rows, table, *names)


def write(path, *names, overwrite=False, **changes):
    table = table_at(path, **changes)
    with open_rows(table, overwrite) as rows:
        missing = list(rows.missing(sorted(map(path_order, names))))
        if missing:
            add(rows, table, *(name for name in names if path_order(name) in missing))
        write_table(table, rows, {"keras": "1"})


def names_of(path):
    return [line.split("\t")[1] for line in Path(path).read_text().splitlines()[1:]]


def test_rows_appear_sorted_by_the_bytes_of_the_paths(tmp_path):
    path = tmp_path / "t.tsv"
    write(path, "b", "a/b", "a.b", "\\xff", "é", "\\t")
    assert names_of(path) == ["\\t", "a.b", "a/b", "b", "é", "\\xff"]
    assert sorted(os.listdir(tmp_path)) == ["t.tsv", "t.tsv.files.tsv", "t.tsv.settings.json"]
    assert settings_of(str(path)) == (SETTINGS, {"keras": "1"})


def test_csv_and_jsonl_hold_the_same(tmp_path):
    for name in ("t.tsv", "t.csv", "t.jsonl"):
        write(tmp_path / name, 'b,"c"', "a")
    with open(tmp_path / "t.csv", newline="", encoding="utf-8-sig") as file:
        table = list(csv.DictReader(file))
    assert [row["FILE"] for row in table] == ["a", 'b,"c"']
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert lines[1] == {"MODEL": "N", "FILE": 'b,"c"', "PREDICTION": "Live", "PROBABILITY": 0.5}
    assert table_at("t.tsv").line(["N", "a", "Live", 0.5]) == b"N\ta\tLive\t0.5000\n"


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl", "xlsx"])
def test_a_stopped_table_goes_on_where_it_stopped(tmp_path, ending):
    whole, stopped = tmp_path / f"whole.{ending}", tmp_path / f"stopped.{ending}"
    write(whole, "a", "b", "c", "d")
    begin(stopped, "d", "b")
    assert not stopped.exists() and settings_begun_with(str(stopped)) == SETTINGS
    table = table_at(stopped)
    with open_rows(table) as rows:
        assert list(rows.missing([b"a", b"b", b"c", b"d"])) == [b"a", b"c"]
        add(rows, table, "a", "c")
        write_table(table, rows, {"keras": "1"})
    assert list(read_table(str(stopped))) == list(read_table(str(whole)))
    if ending != "xlsx":  # which holds the time of its making
        assert stopped.read_bytes() == whole.read_bytes()
    assert not os.path.exists(f"{stopped}.partial")


def test_a_finished_table_takes_further_rows(tmp_path):
    path = tmp_path / "t.tsv"
    write(path, "b")
    begin(path, "a", "c")
    assert names_of(path) == ["b"]
    write(path)
    assert names_of(path) == ["a", "b", "c"]


def test_a_finished_table_to_which_nothing_is_added_is_left_alone(tmp_path):
    path = tmp_path / "t.tsv"
    write(path, "b")
    before = path.stat()
    write(path, "b")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert sorted(os.listdir(tmp_path)) == ["t.tsv", "t.tsv.files.tsv", "t.tsv.settings.json"]


def test_a_kill_between_the_table_and_its_journal_does_no_harm(tmp_path):
    path = tmp_path / "t.tsv"
    begin(path, "a", "b")
    partial = (tmp_path / "t.tsv.partial").read_bytes()
    write(path)
    (tmp_path / "t.tsv.partial").write_bytes(partial)
    before = path.read_bytes()
    write(path)
    assert path.read_bytes() == before and not (tmp_path / "t.tsv.partial").exists()


CONTINUE = """
import sys
from lib.storage.tables import Table, open_rows
table = Table(sys.argv[1], ["MODEL", "FILE", "PREDICTION", "PROBABILITY"], {"model": "N", "top": 1})
with open_rows(table) as rows:
    print("begun", flush=True)
    rows.extend([(b"z", None, table.line(["N", "z", "Live", 0.5]))])
"""


def test_no_kill_divides_a_finished_table_that_is_continued(tmp_path):
    path = tmp_path / "t.tsv"
    names = [f"{number:06d}" for number in range(10000)]
    write(path, *names)
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    draw = random.Random(seed)
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", CONTINUE, str(path)], cwd=ROOT, stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(draw.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with open_rows(table_at(path)) as rows:
            assert not list(rows.missing(sorted(map(path_order, names))))
    write(path, "z")
    assert names_of(path) == [*names, "z"]


@pytest.mark.parametrize("finished", [True, False])
def test_rows_of_other_settings_are_not_mixed(tmp_path, finished):
    path = tmp_path / "t.tsv"
    (write if finished else begin)(path, "a")
    files = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    with pytest.raises(UsageError, match="⟦top⟧ 1, but this call has 2"):
        write(path, "b", top=2)
    assert files == {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}


def test_overwriting_starts_anew_and_keeps_the_former_table_until_the_end(tmp_path):
    path = tmp_path / "t.tsv"
    write(path, "a")
    begin(path, "b", overwrite=True, top=2)
    assert names_of(path) == ["a"]
    write(path, "c", top=2)  # killed, and gone on with without overwriting
    assert names_of(path) == ["b", "c"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: os.unlink(f"{path}.settings.json"),
        lambda path: path.write_text("something else\n"),
        lambda path: path.write_text(path.read_text() + "no row\n"),
        lambda path: path.write_text(path.read_text()[:-4]),
        *(
            lambda path, content=content: Path(f"{path}.settings.json").write_text(content)
            for content in ("", "[]", '{"settings": []}', "nonsense")
        ),
    ],
)
def test_a_table_that_something_else_wrote_is_left_alone(tmp_path, spoil):
    path = tmp_path / "t.tsv"
    write(path, "a")
    write(path, "a")  # which can be continued as it is
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="⟦overwrite⟧"):
        write(path, "a", "b")
    assert path.read_bytes() == before
    assert not (tmp_path / "t.tsv.partial").exists()


def test_somebody_elses_partial_file_is_left_alone(tmp_path):
    (tmp_path / "t.tsv.partial").write_text("my notes\n")
    with pytest.raises(UsageError, match="was not written by this command"):
        write(tmp_path / "t.tsv", "a")
    assert (tmp_path / "t.tsv.partial").read_text() == "my notes\n" and settings_begun_with(f"{tmp_path}/t.tsv") == {}
    assert os.listdir(tmp_path) == ["t.tsv.partial"]


def test_two_processes_can_not_write_one_table(tmp_path):
    path = tmp_path / "t.tsv"
    with open_rows(table_at(path)), pytest.raises(UsageError, match="another process"):
        open_rows(table_at(path))
    write(path, "a")
    with open_rows(table_at(path)), pytest.raises(UsageError, match="another process"):
        open_rows(table_at(path))


def test_a_call_that_fails_before_any_row_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), open_rows(table_at(tmp_path / "t.tsv")):
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_an_unwritable_folder_is_said_in_a_sentence(tmp_path):
    with pytest.raises(WorkError, match="can't be written"):
        open_rows(table_at(tmp_path / "missing" / "t.tsv"))


def test_named_pipes_are_not_waited_for(tmp_path):
    path = tmp_path / "t.tsv"
    os.mkfifo(tmp_path / "t.tsv.partial")
    assert settings_begun_with(str(path)) == {}
    with pytest.raises(WorkError, match=r"t.tsv can't be written \(it is not a regular file\)"):
        write(path, "a")
    os.unlink(tmp_path / "t.tsv.partial")
    write(path, "a")
    assert names_of(path) == ["a"]
