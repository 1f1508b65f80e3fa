"""Tables that survive being killed."""

import csv
import json
import os

import pytest

from lib.errors import UsageError, WorkError
from lib.storage.tables import ResumableTable, format_row, table_kind

COLUMNS = ["MODEL", "FILE", "PREDICTION", "PROBABILITY"]
SETTINGS = {"-m/--model": "N", "--top": 1}


def rows(*files):
    return [["N", file, "Live", 0.5] for file in files]


def write(path, *files, settings=SETTINGS, **options):
    with ResumableTable(str(path), COLUMNS, settings, **options) as table:
        table.append(rows(*files))
        table.finish({"keras": "1"})


@pytest.mark.parametrize(("name", "kind"), [("a.tsv", "tsv"), ("a.CSV", "csv"), ("a.jsonl", "jsonl"), ("a", "tsv")])
def test_the_ending_says_how_a_table_is_written(name, kind):
    assert table_kind(name) == kind


def test_rows_appear_sorted_by_the_bytes_of_the_paths(tmp_path):
    path = tmp_path / "t.tsv"
    write(path, "b", "a/b", "a.b", "\\xff", "é", "\\t")
    names = [line.split("\t")[1] for line in path.read_text().splitlines()[1:]]
    assert names == ["\\t", "a.b", "a/b", "b", "é", "\\xff"]
    assert sorted(os.listdir(tmp_path)) == ["t.tsv", "t.tsv.settings.json"]


def test_csv_and_jsonl_hold_the_same(tmp_path):
    for name in ("t.tsv", "t.csv", "t.jsonl"):
        write(tmp_path / name, 'b,"c"', "a")
    with open(tmp_path / "t.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["FILE"] for row in table] == ["a", 'b,"c"']
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert lines[1] == {"MODEL": "N", "FILE": 'b,"c"', "PREDICTION": "Live", "PROBABILITY": 0.5}
    assert format_row("tsv", COLUMNS, rows("a")[0]) == "N\ta\tLive\t0.5000\n"


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl"])
@pytest.mark.parametrize("cut", [0, 1, 7])
def test_a_killed_table_goes_on_where_it_stopped(tmp_path, ending, cut):
    whole, killed = tmp_path / f"whole.{ending}", tmp_path / f"killed.{ending}"
    write(whole, "a", "b", "c", "d")
    table = ResumableTable(str(killed), COLUMNS, SETTINGS)
    table.append(rows("d", "b"))
    del table  # as a kill leaves it
    partial = tmp_path / f"killed.{ending}.partial"
    if cut:
        partial.write_bytes(partial.read_bytes()[:-cut])
    with ResumableTable(str(killed), COLUMNS, SETTINGS) as table:
        assert "d" in table
        assert ("b" in table) == (cut == 0)
        table.append(rows(*[name for name in "abc" if name not in table]))
        table.finish({"keras": "1"})
    assert killed.read_bytes() == whole.read_bytes()


def test_a_table_killed_in_its_first_line_starts_again(tmp_path):
    (tmp_path / "t.tsv.partial").write_bytes(b'herbariograph {"settings": {"-m/')
    write(tmp_path / "t.tsv", "a")
    assert "a" in (tmp_path / "t.tsv").read_text()


def test_a_finished_table_takes_further_rows(tmp_path):
    path = tmp_path / "t.tsv"
    write(path, "b")
    with ResumableTable(str(path), COLUMNS, SETTINGS) as table:
        assert "b" in table
        table.append(rows("a", "c"))
        assert path.read_text().count("\n") == 2
        table.finish({})
    assert [line.split("\t")[1] for line in path.read_text().splitlines()[1:]] == ["a", "b", "c"]


def test_a_kill_between_the_table_and_its_partial_file_does_no_harm(tmp_path):
    path = tmp_path / "t.tsv"
    table = ResumableTable(str(path), COLUMNS, SETTINGS)
    table.append(rows("a", "b"))
    partial = (tmp_path / "t.tsv.partial").read_bytes()
    table.finish({})
    (tmp_path / "t.tsv.partial").write_bytes(partial)
    before = path.read_bytes()
    write(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("finished", [True, False])
def test_rows_of_other_settings_are_not_mixed(tmp_path, finished):
    path = tmp_path / "t.tsv"
    table = ResumableTable(str(path), COLUMNS, SETTINGS)
    table.append(rows("a"))
    if finished:
        table.finish({})
    del table
    files = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    with pytest.raises(UsageError, match="--top 1, but this call has 2"):
        ResumableTable(str(path), COLUMNS, dict(SETTINGS, **{"--top": 2}))
    assert files == {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}


def test_overwriting_starts_anew_and_keeps_the_former_table_until_the_end(tmp_path):
    path = tmp_path / "t.tsv"
    write(path, "a")
    other = dict(SETTINGS, **{"--top": 2})
    table = ResumableTable(str(path), COLUMNS, other, overwrite=True)
    table.append(rows("b"))
    del table
    assert "\ta\t" in path.read_text()
    with ResumableTable(str(path), COLUMNS, other) as table:  # killed, and gone on with without overwriting
        assert "a" not in table and "b" in table
        table.append(rows("c"))
        table.finish({})
    assert [line.split("\t")[1] for line in path.read_text().splitlines()[1:]] == ["b", "c"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: os.unlink(f"{path}.settings.json"),
        lambda path: path.write_text("something else\n"),
        lambda path: path.write_text(path.read_text() + "no row\n"),
        lambda path: path.write_text(path.read_text()[:-4]),
    ],
)
def test_a_table_that_something_else_wrote_is_left_alone(tmp_path, spoil):
    path = tmp_path / "t.tsv"
    write(path, "a")
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="--overwrite"):
        ResumableTable(str(path), COLUMNS, SETTINGS)
    assert path.read_bytes() == before
    assert not (tmp_path / "t.tsv.partial").exists()


@pytest.mark.parametrize(
    "content", ["my notes\n", "my notes", '{"a": 1}\n', "herbariograph []\nrow\n", "herbariograph {}\nrow\n"]
)
def test_somebody_elses_partial_file_is_left_alone(tmp_path, content):
    (tmp_path / "t.tsv.partial").write_text(content)
    with pytest.raises(UsageError, match="was not written by this command"):
        write(tmp_path / "t.tsv", "a")
    assert (tmp_path / "t.tsv.partial").read_text() == content
    assert os.listdir(tmp_path) == ["t.tsv.partial"]


@pytest.mark.parametrize("content", ["", "[]", '{"settings": []}', "nonsense"])
def test_damaged_settings_are_said_in_a_sentence(tmp_path, content):
    path = tmp_path / "t.tsv"
    write(path, "a")
    (tmp_path / "t.tsv.settings.json").write_text(content)
    with pytest.raises(UsageError, match="--overwrite"):
        ResumableTable(str(path), COLUMNS, SETTINGS)


def test_two_processes_can_not_write_one_table(tmp_path):
    path = str(tmp_path / "t.tsv")
    with ResumableTable(path, COLUMNS, SETTINGS), pytest.raises(UsageError, match="another process"):
        ResumableTable(path, COLUMNS, SETTINGS)
    write(path, "a")


def test_a_call_that_fails_before_any_row_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), ResumableTable(str(tmp_path / "t.tsv"), COLUMNS, SETTINGS):
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_an_unwritable_folder_is_said_in_a_sentence(tmp_path):
    with pytest.raises(WorkError, match="can't be written"):
        ResumableTable(str(tmp_path / "missing" / "t.tsv"), COLUMNS, SETTINGS)
