"""A person's decisions in tables of every format: they win, and what the model said comes back without them."""

import json

import pytest

from lib.storage.decisions import add_source, decide, split_source
from lib.storage.tables import Table, decide_table, decisions_in, open_rows, read_table, write_table

COLUMNS = [
    "MODEL",
    "FILE",
    "PREDICTION",
    "PROBABILITY",
    "PREDICTION_2",
    "PROBABILITY_2",
    "PROBABILITY_A",
    "PROBABILITY_B",
]
KINDS = ("tsv", "csv", "jsonl", "xlsx")


def row(name, answer="A", other="B", chance=0.75):
    return ["m", name, answer, chance, other, 1 - chance, chance, 1 - chance]


@pytest.mark.parametrize(
    ("category", "ranking"),
    [
        ("A", ["A", 0.75, "B", 0.25]),
        ("B", ["B", None, "A", 0.75]),
        ("Moss", ["Moss", None, "A", 0.75]),
    ],
)
def test_the_decision_comes_first_then_the_models_own_answers(category, ranking):
    assert decide(COLUMNS, row("a.jpg"), category) == ["m", "a.jpg", *ranking, 0.75, 0.25]
    assert decide(COLUMNS[:4], row("a.jpg")[:4], category) == ["m", "a.jpg", *ranking[:2]]


@pytest.mark.parametrize(("kind", "line"), [("tsv", b"a\tb\n"), ("csv", b'a,"b,"\n'), ("jsonl", b'{"a": "b"}\n')])
@pytest.mark.parametrize("source", ["model", "person"])
def test_the_source_is_the_last_column(kind, line, source):
    longer = add_source(kind, line, source)
    assert split_source(kind, longer) == (line, source) and longer != line
    with pytest.raises(ValueError):
        split_source(kind, line)


def write(path, *names, decided=None, answer="A"):
    table = Table(str(path), COLUMNS, {"model": "m"})
    with open_rows(table) as rows:
        for name in names:
            rows.add(name.encode(), table.line(row(name, answer)))
        write_table(table, rows, {"numpy": "1"}, decided)


def read(path):
    """File -> its other values, as text, and the columns."""
    columns, *rows = read_table(str(path))
    return {values[1]: values[2:] for values in rows}, columns


@pytest.mark.parametrize("kind", KINDS)
def test_decisions_are_put_into_a_table_changed_and_taken_out(tmp_path, kind):
    path = tmp_path / f"t.{kind}"
    write(path, "a.jpg", "b.jpg", "c.jpg")
    plain = read(path)
    assert decisions_in(str(path)) is None
    decided = {"a.jpg": "A", "b.jpg": "Moss", "no.jpg": "B"}
    write(path, decided=decided)
    rows, columns = read(path)
    assert columns == [*COLUMNS, "SOURCE"]
    assert rows["a.jpg"] == [*plain[0]["a.jpg"], "person"] and rows["c.jpg"] == [*plain[0]["c.jpg"], "model"]
    assert rows["b.jpg"] == ["Moss", "", "A", *(plain[0]["b.jpg"][place] for place in (1, 4, 5)), "person"]
    assert decisions_in(str(path)) == {"a.jpg": "A", "b.jpg": "Moss"}
    write(path, "bb.jpg", decided={"a.jpg": "B", "c.jpg": "B"})  # one more image, and other decisions
    rows, _ = read(path)
    assert list(rows) == ["a.jpg", "b.jpg", "bb.jpg", "c.jpg"] and rows["b.jpg"] == [*plain[0]["b.jpg"], "model"]
    assert [rows[name][0] for name in rows] == ["B", "A", "A", "B"]
    decide_table(str(path), {"bb.jpg": "B"})
    assert decisions_in(str(path)) == {"bb.jpg": "B"} and read(path)[0]["a.jpg"] == [*plain[0]["a.jpg"], "model"]
    assert json.loads((tmp_path / f"t.{kind}.settings.json").read_text())["versions"] == {"numpy": "1"}


def test_the_same_decisions_leave_the_table_alone(tmp_path):
    path = tmp_path / "t.tsv"
    write(path, "a.jpg", "b.jpg")
    write(path, decided={"b.jpg": "B"})
    former = path.stat()
    write(path, decided={"b.jpg": "B", "no.jpg": "A"})
    write(path)
    decide_table(str(path), {"b.jpg": "B"})
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (former.st_ino, former.st_mtime_ns)


def test_a_row_whose_former_answer_is_lost_is_answered_again(tmp_path):
    path = tmp_path / "t.tsv"
    write(path, "a.jpg", "b.jpg")
    write(path, decided={"a.jpg": "A", "b.jpg": "B"})
    beside = tmp_path / "t.tsv.settings.json"
    beside.write_text(
        json.dumps({key: value for key, value in json.loads(beside.read_text()).items() if key != "answers"})
    )
    table = Table(str(path), COLUMNS, {"model": "m"})
    assert [path for path, _ in table.facts()] == [b"a.jpg"]
