"""Another table's columns find their files, however that table writes them."""

import os

import pytest

from lib.errors import UsageError
from lib.storage.joins import Join


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("exports")


def joined(text, taken=(), folder="images", encoding="utf-8"):
    with open("exports/t.csv", "wb") as file:
        file.write(text.encode(encoding))
    return Join("exports/t.csv", ("MODEL", "FILE", *taken), folder)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("images/a.jpg", b"images/a.jpg"),
        ("./images//a.jpg", b"images/a.jpg"),
        ("images/a.jpg", b"./images/a.jpg"),
        ("a.jpg", b"images/a.jpg"),
        ("below\\a.jpg", b"images/below/a.jpg"),
        ("images\\007\\x2e\\a.jpg", b"images/007/x2e/a.jpg"),
        ("images/a\\tb.jpg", b"images/a\tb.jpg"),
        ("images/\\xff.jpg", b"images/\xff.jpg"),
        ("../images/a.jpg", b"images/a.jpg"),
        ("images/Se\u0301che\u0301.jpg", "images/Séché.jpg".encode()),
    ],
)
def test_files_are_found_as_others_write_them(name, path):
    join = joined(f"FILE,Number\n{name},7\nother.jpg,8\n")
    assert join.columns == ["Number"] and join.values(path) == ["7"] and join.found == 1
    assert join.values(b"images/none.jpg") == [""] and join.found == 1
    assert join.in_words(2, "images/none.jpg") == "1 of 2 images have a row in exports/t.csv."


def test_the_path_as_it_stands_comes_first():
    """Before one that is so from another folder."""
    join = joined("FILE,Number\na.jpg,1\nimages/a.jpg,2\n")
    assert join.values(b"images/a.jpg") == ["2"] and join.values(b"a.jpg") == ["1"]


def test_several_rows_of_a_file_become_one():
    join = joined("FILE;Number;Licence;Note\na.jpg;1;CC BY;\na.jpg;2;CC BY;x\n;3;;\na.jpg;1\n")
    assert join.values(b"a.jpg") == ["1 | 2", "CC BY", "x"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_any_delimiter_and_encoding(separator, encoding):
    rows = (("Nummer", "FILE", "Halter"), ("7", "a.jpg", "Zürich"))
    join = joined("".join(separator.join(row) + "\r\n" for row in rows), encoding=encoding)
    assert join.columns == ["Nummer", "Halter"] and join.values(b"images/a.jpg") == ["7", "Zürich"]


def test_names_of_columns_stay_apart():
    join = joined("FILE,MODEL,Number,Number,,MODEL_JOINED\na.jpg,a,b,c,d,e\n")
    assert join.columns == ["MODEL_JOINED", "Number", "Number_JOINED", "MODEL_JOINED_JOINED"]
    assert join.values(b"a.jpg") == ["a", "b", "c", "e"]


def test_what_can_not_be_joined_is_said():
    with pytest.raises(UsageError, match="exports/t.csv needs a column FILE.* beside Image, Number") as refused:
        joined("Image,Number\na.jpg,7\n")
    assert refused.value.setting == "join"
    join = joined("FILE,Number\nC:\\scans\\a.jpg,7\n")
    assert join.values(b"images/a.jpg") == [""]
    unlike = r"its FILEs are like C:\scans\a.jpg, the images like images/a.jpg"
    assert join.in_words(1, "images/a.jpg") == f"none of the images has a row in exports/t.csv: {unlike}."
