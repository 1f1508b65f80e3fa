"""From a table to a page."""

import json
import logging
import os
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lib.data.categories import LABELS
from lib.errors import UsageError
from lib.prediction import report
from lib.prediction.report import labels_of_table, least_certain, read_predictions, report_table
from lib.prediction.settings import Settings
from lib.storage.tables import Table, settings_of


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, *rows):
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    return str(path)


def test_a_table_with_everything(here):
    path = write(
        here / "t.tsv",
        ("MODEL", "FILE", "PREDICTION", "PROBABILITY", "PREDICTION_2", "PROBABILITY_2"),
        ("m", "a.jpg", "Live", "0.5000", "Text", "0.2500"),
        ("n", "b.jpg", "Text", "1.0000", "Live", "0.0000"),
    )
    rows, model = read_predictions(path)
    assert (
        rows == [("a.jpg", "Live", 0.5, "Text", 0.25, ""), ("b.jpg", "Text", 1.0, "Live", 0.0, "")] and model == "m, n"
    )


def test_the_published_pipelines_table_and_less(here):
    path = write(here / "t.tsv", ("MODEL", "FILE", "PREDICTION"), ("m", "a.jpg", "Live"))
    assert read_predictions(path) == ([("a.jpg", "Live", None, "", None, "")], "m")
    (here / "t.csv").write_text('PREDICTION,FILE\r\nLive,"a,""b"".jpg"\r\n')
    assert read_predictions("t.csv") == ([('a,"b".jpg', "Live", None, "", None, "")], None)
    (here / "empty.jsonl").write_text("")
    assert read_predictions("empty.jsonl") == ([], None)
    (here / "joined.csv").write_text("FILE,PREDICTION,RIGHTSHOLDER,LICENCE\na.jpg,Live,Kew,CC0\nb.jpg,Live,Jena,\n")
    assert [row.rights for row in read_predictions("joined.csv")[0]] == ["CC0 · Kew", "Jena"]


def test_the_runner_up_is_found_among_all_probabilities(here):
    rows = [["m", "a.jpg", "A", 0.5, 0.5, 0.1, 0.4], ["m", "b.jpg", "C", 0.6, 0.3, 0.1, 0.6]]
    columns = ["MODEL", "FILE", "PREDICTION", "PROBABILITY", "PROBABILITY_A", "PROBABILITY_B", "PROBABILITY_C"]
    for name in ("t.tsv", "t.csv", "t.jsonl"):
        table = Table(name, columns, {})
        (here / name).write_bytes(table.header() + b"".join(map(table.line, rows)))
        found, _ = read_predictions(name, ["A", "B", "C"])
        assert found == [("a.jpg", "A", 0.5, "C", 0.4, ""), ("b.jpg", "C", 0.6, "A", 0.3, "")]
        assert read_predictions(name)[0][0].second == ""  # whose columns these are is not known


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "needs the columns"),
        ("FILE\tCATEGORY\na\tb\n", "needs the columns"),
        ("FILE\tPREDICTION\na.jpg\n", "line 2 has 1 values under 2 columns"),
        ("FILE\tPREDICTION\na.jpg\tLive\na.jpg\tText\n", "lists a.jpg twice"),
        ("FILE\tPREDICTION\na.jpg\t\n", "without a FILE or a PREDICTION"),
        ("FILE\tPREDICTION\tPROBABILITY\na.jpg\tLive\t64%\n", "'64%'"),
        ("FILE\tPREDICTION\tPROBABILITY\na.jpg\tLive\tnan\n", "'nan'"),
    ],
)
def test_what_is_no_table_of_predictions(here, text, words):
    (here / "t.tsv").write_text(text)
    with pytest.raises(UsageError, match=re.escape(words)):
        read_predictions("t.tsv")
    (here / "t.tsv").write_bytes(b"\xff\xfe\0")
    with pytest.raises(UsageError, match="can't be read as a table"):
        read_predictions("t.tsv")
    (here / "t.jsonl").write_text("[1]\n")
    with pytest.raises(UsageError, match="line 1 has other columns"):
        read_predictions("t.jsonl")


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
lines = st.text(st.characters(blacklist_categories=["Cs"]), max_size=30) | any_json.map(json.dumps)


@settings(derandomize=True, database=None, deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["tsv", "csv", "jsonl"]), st.lists(lines, max_size=4).map("\n".join))
def test_any_text_as_a_table(kind, text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"t.{kind}"
        path.write_text(text, encoding="utf-8")
        (Path(folder) / f"t.{kind}.settings.json").write_text(text, encoding="utf-8")
        assert labels_of_table(str(path)) == list(LABELS)
        try:
            rows, _ = read_predictions(str(path))
            assert all(row.name and row.category for row in rows)
        except UsageError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"FILE": "\\ud800.jpg", "PREDICTION": "a"}'])
def test_json_lines_that_python_itself_gives_up_on(here, text):
    for name in ("t.jsonl", "t.jsonl.settings.json"):
        (here / name).write_text(text)
    with pytest.raises(UsageError, match="t.jsonl can't be read as a table"):
        read_predictions("t.jsonl")
    assert settings_of("t.jsonl") == ({}, {})


def test_the_uncertain_ones_are_all_there():
    rng = np.random.default_rng(0)
    rows = [
        report.Predicted(f"{number}.jpg", "AB"[number % 2], round(float(chance), 4), "", None)
        for number, chance in enumerate(rng.random(200))
    ]
    chosen = least_certain(rows, ["A", "B", "C"], 30)
    assert [len(chosen[label]) for label in "ABC"] == [30, 30, 0]
    for label in "AB":
        certain = [row.probability for row in rows if row.category == label and row not in chosen[label]]
        assert max(row.probability for row in chosen[label]) <= min(certain)
    assert [len(part) for part in least_certain(rows, ["A", "B"], 0).values()] == [0, 0]
    always = {"7.jpg", "8.jpg", "9.jpg"}
    more = least_certain(rows, ["A", "B", "C"], 30, always)
    names = {label: {row.name for row in part} for label, part in more.items()}
    assert always <= names["A"] | names["B"] and len(names["A"] - always) == len(names["B"] - always) == 30


def page_of(here, **options):
    report_table(Settings(report_from="t.tsv", report="t.html", **options))
    return re.sub(r"\s+", " ", (here / "t.html").read_text())


def data_of(text):
    return json.loads(re.search(r'id="data">(.*?)</script>', text)[1])


def test_what_lies_beside_the_table_is_in_the_page(here, caplog):
    caplog.set_level(logging.INFO, "lib")
    Image.new("RGB", (40, 30), "red").save("a.jpg")
    write(
        here / "t.tsv",
        ("MODEL", "FILE", "PREDICTION", "PROBABILITY"),
        ("m", "a.jpg", "B", "0.5"),
        ("m", "b", "A", "0.5"),
    )
    text = page_of(here)
    assert "no runners-up; make it with ⟦top⟧ 2" in caplog.text
    assert "<title>Predictions of t.tsv</title>" in text and data_of(text)["counts"] == [1, 1]
    data = data_of(text)
    assert data["labels"] == ["A", "B"] and data["names"] == ["b", "a.jpg"]
    assert list(data["problems"]) == ["0"] and "the file doesn" in data["problems"]["0"]
    settings = {"data": "scans/", "labels": ["C", "B", "A"], "exact": False, "model_sha256": "00ff"}
    (here / "t.tsv.settings.json").write_text(json.dumps({"settings": settings, "versions": {"numpy": "1.2.3"}}))
    write(here / "t.tsv.errors.tsv", ("FILE", "ERROR"), ("c.jpg", "an empty file"))
    text = page_of(here)
    assert data_of(text)["labels"] == ["C", "B", "A"]
    for part in ("<title>Predictions for scans</title>", "numpy 1.2.3", "SHA-256", "00ff", "1 error", "an empty file"):
        assert part in text, part
    text = page_of(here, report_images=0)
    assert data_of(text)["names"] == [] and "0 images of the 2 are in this page" in text


def test_the_17_categories_have_their_full_names(here):
    write(here / "t.tsv", ("FILE", "PREDICTION"), ("a.jpg", "RLM"))
    assert "Micrographs reflected light" in page_of(here)


def test_a_name_that_no_file_has(here):
    (here / "t.tsv").write_text("FILE\tPREDICTION\na\\x00/b.jpg\tText\n")
    with pytest.raises(UsageError, match="t.tsv .*zero byte"):
        read_predictions("t.tsv")


@pytest.mark.parametrize("value", [5, [], {"a": "<script>alert(1)</script>"}, None, True])
def test_settings_beside_a_table_may_hold_anything(here, value):
    write(here / "t.tsv", ("FILE", "PREDICTION"), ("missing.jpg", "Text"))
    recorded = {"settings": {"data": value, "model": value, "top": value, "labels": value}, "versions": {"a": value}}
    (here / "t.tsv.settings.json").write_text(json.dumps(recorded))
    page = page_of(here)
    assert "missing.jpg" in page and "<script>alert" not in page


def identity_of(here):
    return re.search(r'data-identity="(\w{16})"', (here / "t.html").read_text())[1]


def test_corrections_are_kept_for_one_table_in_one_place_only(here, monkeypatch):
    found = {}
    for folder in ("one", "other"):  # of which each has a folder of the same name, and a table that says the same
        os.makedirs(folder)
        monkeypatch.chdir(here / folder)
        Path("t.tsv").write_text("FILE\tPREDICTION\nscans/a.jpg\tLive\n")
        page_of(here / folder)
        found[folder] = identity_of(here / folder)
        page_of(here / folder)
        assert identity_of(here / folder) == found[folder]
        monkeypatch.chdir(here)
    monkeypatch.chdir(here / "one")
    Path("t.tsv").write_text("FILE\tPREDICTION\nscans/a.jpg\tText\n")
    page_of(here / "one")
    assert len({*found.values(), identity_of(here / "one")}) == 3


def test_answers_of_other_programs_are_shown_under_the_labels_they_look_like(here):
    rows = "a.jpg;Live\u00a0;0,5\nb.jpg;Séché;0,25\nc.jpg;Se\u0301che\u0301 ;\n"
    (here / "t.csv").write_bytes(("FILE;PREDICTION;PROBABILITY\n" + rows).encode("utf-16"))
    found, _ = read_predictions("t.csv", ["Live"])
    assert [(row.category, row.probability) for row in found] == [("Live", 0.5), ("Séché", 0.25), ("Séché", None)]
