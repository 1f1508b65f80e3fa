"""`predictImages.py --corrections`: what a person decided wins in table, folders and merged tables, and stays."""

import csv
import os
import shutil

import numpy as np
import pytest
from conftest import FIXTURES
from PIL import Image

import predictImages
from lib.prediction import predict as prediction
from lib.prediction.report import Predicted, least_certain, with_decisions

FIVE = "CATEGORY\tINDEX\tLABEL\n" + "".join(f"{name}\t{index}\t{name}\n" for index, name in enumerate("ABCDE"))


def draw(path, seed):
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 255, (24, 30, 3), dtype="uint8")).save(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of ten images and their table, made once."""
    folder = tmp_path_factory.mktemp("made")
    former = os.getcwd()
    os.chdir(folder)
    try:
        os.mkdir("scans")
        for number in range(10):
            draw(f"scans/{number}.png", number)
        shutil.copy(FIXTURES / "keras" / "reference-2.13.keras", "model.keras")
        (folder / "categories.tsv").write_text(FIVE)
        assert predictImages.main([*CALL, "--top", "2"]) == 0
    finally:
        os.chdir(former)
    return folder


CALL = ["-c", "-d", "scans", "-o", "t.tsv", "-m", "model.keras"]


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "x")
    monkeypatch.chdir(tmp_path / "x")
    return tmp_path / "x"


def table(path="t.tsv"):
    with open(path, newline="", encoding="utf-8") as file:
        return {row["FILE"]: row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}


def decide(path="c.tsv", **decisions):
    with open(path, "w", encoding="utf-8") as file:
        file.write("FILE\tCATEGORY\tROLE\n")
        for name, category in decisions.items():
            file.write(f"scans/{name[1:]}.png\t{category}\t{'audit' if name == 'n9' else ''}\n")


def test_decisions_win_and_stay_and_no_image_is_read_again(folder, capsys, monkeypatch):
    before = table()
    right = before["scans/3.png"]["PREDICTION"]
    wrong = "A" if before["scans/4.png"]["PREDICTION"] != "A" else "B"
    decide(n3=right, n4=wrong, n5="Moss", n9="C", n77="A")
    monkeypatch.setattr(prediction, "open_model", None)  # which would read images
    assert predictImages.main([*CALL, "--corrections", "c.tsv", "--sort", "sorted"]) == 0
    messages = capsys.readouterr().err.splitlines()
    assert "4 of 10 images looked at." in messages
    assert "1 decision left out, about files that t.tsv lacks, such as scans/77.png." in messages
    rows = table()
    assert [name for name, row in rows.items() if row["SOURCE"] == "person"] == [f"scans/{n}.png" for n in (3, 4, 5, 9)]
    assert rows["scans/5.png"]["PREDICTION"] == "Moss" and rows["scans/5.png"]["PROBABILITY"] == ""
    assert rows["scans/5.png"]["PREDICTION_2"] == before["scans/5.png"]["PREDICTION"]
    assert rows["scans/3.png"] == {**before["scans/3.png"], "SOURCE": "person"}
    assert rows["scans/0.png"] == {**before["scans/0.png"], "SOURCE": "model"}
    assert os.path.lexists("sorted/Moss/5.png") and os.path.lexists(f"sorted/{wrong}/4.png")
    content = (folder / "t.tsv").read_bytes()
    assert predictImages.main(CALL) == 0 and (folder / "t.tsv").read_bytes() == content, "also without the option"
    decide(n5=before["scans/5.png"]["PREDICTION"])
    assert predictImages.main([*CALL, "--corrections", "c.tsv"]) == 0
    assert {name: row["SOURCE"] for name, row in table().items() if row["SOURCE"] != "model"} == {
        "scans/5.png": "person"
    }
    assert {name: {**row, "SOURCE": ""} for name, row in table().items()} == {
        name: {**row, "SOURCE": ""} for name, row in before.items()
    }


def test_new_images_join_a_table_with_decisions(folder):
    decide(n3="Moss", n0="Moss")
    assert predictImages.main([*CALL, "--corrections", "c.tsv"]) == 0
    former = table()
    draw("scans/33.png", 33)
    assert predictImages.main(CALL) == 0
    rows = table()
    assert rows.pop("scans/33.png")["SOURCE"] == "model" and rows == former
    os.unlink("t.tsv")
    os.unlink("t.tsv.settings.json")
    os.unlink("scans/33.png")
    assert predictImages.main([*CALL, "--top", "2", "--corrections", "c.tsv"]) == 0 and table() == former, "at once"


def test_decisions_in_merged_tables(folder, capsys):
    for part in (1, 2):
        assert (
            predictImages.main(["-c", "-d", "scans", "-o", f"p{part}.tsv", "-m", "model.keras", "--shard", f"{part}/2"])
            == 0
        )
    decide(n3="Moss", n8="A")
    for more in (["--corrections", "c.tsv"], []):
        assert predictImages.main(["--merge", "m.tsv", "p1.tsv", "p2.tsv", *more]) == 0
        assert "2 of 10 images looked at." in capsys.readouterr().err
        assert [row["PREDICTION"] for row in table("m.tsv").values() if row["SOURCE"] == "person"] == ["Moss", "A"]


def test_a_page_and_folders_from_a_table_that_stays_as_it_is(folder):
    decide(n3="Moss", n4=table()["scans/4.png"]["PREDICTION"])
    content = (folder / "t.tsv").read_bytes()
    call = ["--report-from", "t.tsv", "--corrections", "c.tsv", "--report", "t.html", "--sort", "sorted"]
    assert predictImages.main(call) == 0 and (folder / "t.tsv").read_bytes() == content
    assert os.listdir("sorted/Moss") == ["3.png"] and '"Moss"' in (folder / "t.html").read_text()
    assert predictImages.main([*CALL, "--corrections", "c.tsv"]) == 0
    shutil.rmtree("sorted")
    assert predictImages.main(["--report-from", "t.tsv", "--sort", "sorted"]) == 0
    assert os.listdir("sorted/Moss") == ["3.png"], "as the table has it"


def test_what_a_person_decided_is_not_asked_about_again():
    rows = [
        Predicted(name, "A", chance, "B", 0.1, "CC0 · Kew")
        for name, chance in (("a", 0.5), ("b", 0.9), ("c", 0.4), ("d", None))
    ]
    rows = with_decisions(rows, {"c": "B", "a": "A"})
    assert rows[2] == Predicted("c", "B", None, "A", 0.4, "CC0 · Kew") and rows[0].probability == 0.5
    chosen = least_certain(rows, ["A", "B"], 9, decided={"a": "A", "c": "B"})
    assert [row.name for row in chosen["A"]] == ["d", "b", "a"] and [row.name for row in chosen["B"]] == ["c"]


def test_calls_in_which_decisions_have_no_place(folder, capsys):
    decide(n3="A")
    for arguments, words in (
        (
            ["-d", "scans", "-o", "u.tsv", "--shard", "1/2"],
            "--corrections: can't be used for a part; use it with --merge",
        ),
        (["-o", "u.tsv", "--convert", "t.tsv"], "--corrections: can't be combined with --convert"),
        (["--similar", "scans/0.png", "--embeddings", "f.npz"], "--corrections: can't be combined with --similar"),
    ):
        assert predictImages.main([*arguments, "--corrections", "c.tsv"]) == 2
        assert words in capsys.readouterr().err
    (folder / "c.tsv").write_text("FILE\tPREDICTION\n")
    assert predictImages.main([*CALL, "--corrections", "c.tsv"]) == 2
    assert "--corrections: c.tsv needs a header with the columns FILE and CATEGORY" in capsys.readouterr().err


def test_a_category_that_may_be_mistyped_is_named_once(folder, capsys):
    words = ["Sheet", "Slide", "Text", "Live", "Animal"]
    lines = [f"{name}\t{index}\t{name}\n" for index, name in enumerate(words)]
    (folder / "words.tsv").write_text("CATEGORY\tINDEX\tLABEL\n" + "".join(lines))
    decide(s1="Texxt", s2="Moss", s3="Text")
    said = "c.tsv has the CATEGORY 'Texxt' (of scans/1.png), almost 'Text'; if it is mistyped, write that"
    call = ["-c", "-d", "scans", "-o", "w.tsv", "-m", "model.keras", "--labels", "words.tsv", "--corrections", "c.tsv"]
    for more in ([], ["--sort", "sorted"]):
        assert predictImages.main([*call, *more]) == 0
        found = capsys.readouterr().err
        assert found.count(said) == 1 and found.count("almost") == 1
    assert table("w.tsv")["scans/1.png"]["PREDICTION"] == "Texxt"
    assert predictImages.main(["--report-from", "w.tsv", "--sort", "sorted", "--corrections", "c.tsv"]) == 0
    assert capsys.readouterr().err.count(said) == 1
