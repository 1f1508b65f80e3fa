"""The images that a table or a folder lists."""

import pytest

from lib.data.collection import Item, given_categories, items_of_folder, items_of_table, number_categories
from lib.errors import UsageError


def test_names_come_back_as_they_were_escaped_and_items_are_sorted(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("CATEGORY\tFILE\tSPLIT\tmore\nx\tb\\tc.jpg\ttest\ty\nz\ta.jpg\n", encoding="utf-8")
    assert items_of_table(str(path)) == [Item("a.jpg", "z", "a.jpg"), Item("b\tc.jpg", "x", "b\tc.jpg", "", 2)]


def test_what_a_person_decided(tmp_path, caplog):
    path = tmp_path / "t.tsv"
    path.write_text("FILE\tCATEGORY\tROLE\na.jpg\tx\tteach\nb.jpg\ty\taudit\nc.jpg\ty\t\n")
    a, b, c = items_of_table(str(path))
    assert (a.split, b.split, c.split) == (-1, 2, -1) and [item.audited for item in (a, b, c)] == [False, True, False]
    path.write_text("MODEL\tFILE\tPREDICTION\tSOURCE\nm\ta.jpg\tx\tperson\nm\tb.jpg\ty\tmodel\nm\tc.jpg\ty\n")
    with caplog.at_level("INFO"):
        assert items_of_table(str(path)) == [Item("a.jpg", "x", "a.jpg")]
    assert caplog.messages == ["2 images that only a model has answered are left out."]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"MODEL\tFILE\tPREDICTION\nm\ta.jpg\tx\n", "has only a model's answers, from which a model can't learn"),
        (b"FILE\tPREDICTION\tSOURCE\na.jpg\tx\tmodel\n", "has only a model's answers, .* give the corrections.tsv"),
        (b"FILE\tCATEGORY\tROLE\na.jpg\tx\ttest\n", "line 2 has the ROLE 'test'; it must be teach or audit"),
        (b"FILE\tCATEGORY\tROLE\tSPLIT\na.jpg\tx\taudit\ttrain\n", "line 2 is audited, so that its SPLIT can only be"),
        (b"FILE\tCATEGORY\na.jpg\tx\ry\n", "line 2 has a CATEGORY with characters that aren't text"),
        (b"", "needs a header with the columns FILE and CATEGORY"),
        (b"FILE\tCATEGORY\n", "lists no files"),
        (b"\xff\xfe\0", "can't be read"),
    ],
)
def test_a_table_of_anything_else_is_refused(content, words, tmp_path):
    path = tmp_path / "t.tsv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"t.tsv .*{words}") as error:
        items_of_table(str(path))
    assert error.value.setting == "table"


def test_a_joined_table_of_predictions_needs_no_category_for_each_image(tmp_path, caplog):
    """And the images of one occurrence stay together."""
    caplog.set_level("INFO")
    path = tmp_path / "t.tsv"
    rows = ("a.jpg\tx\t7\tFern\t", "b.jpg\ty\t7\tFern\tg", "c.jpg\tx\t\tMoss\t", "d.jpg\tx\t8\t\t")
    path.write_text("\n".join(["FILE\tPREDICTION\tGBIFID\tCATEGORY\tGROUP", *rows]))
    found = [(item.name, item.category, item.group) for item in items_of_table(str(path))]
    assert found == [("a.jpg", "Fern", "7"), ("b.jpg", "Fern", "g"), ("c.jpg", "Moss", "")]
    assert caplog.messages == [f"{path}: 1 of 4 images have no CATEGORY and are left out."]


def test_what_is_in_no_category_is_listed_with_the_reason(tmp_path):
    for name in ("b/x/2.jpg", "a/1.png", "0.jpg", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    items, errors = items_of_folder(str(tmp_path))
    assert [(item.name, item.category) for item in items] == [("a/1.png", "a"), ("b/x/2.jpg", "b")]
    assert errors == {str(tmp_path / "0.jpg"): "it lies in no category's folder"}
    with pytest.raises(UsageError, match="has no subfolders with images") as error:
        items_of_folder(str(tmp_path / "b" / "x"))
    assert error.value.setting == "data"


def test_categories_are_those_of_the_items_the_published_or_the_tables(tmp_path):
    items = [Item(name, name, name) for name in ("Live", "color_illustration", "Live")]
    table = str(tmp_path / "c.tsv")
    assert given_categories(table) is None
    categories, indices = number_categories(items, None, table)
    assert [category.name for category in categories] == ["Live", "color_illustration"]
    assert indices == {"Live": 0, "color_illustration": 1}
    assert number_categories(items, given_categories(table, True), table)[1] == {"Live": 6, "color_illustration": 4}
    (tmp_path / "c.tsv").write_text("INDEX\tLABEL\n0\tcolor_illustration\n1\tLive\n")
    given = given_categories(table)
    assert number_categories(items, given, table)[1] == {"Live": 1, "color_illustration": 0}
    with pytest.raises(UsageError, match="'Palm' is not one of the categories in .*c.tsv"):
        number_categories([Item("p", "Palm", "p")], given, table)
    with pytest.raises(UsageError, match="c.tsv has other categories") as error:
        given_categories(table, herbariograph=True)
    assert error.value.setting == "herbariograph"


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


ALIKE = ["Séché", "Se\u0301che\u0301", " Séché", "Séché\u00a0", "Séché\u200b"]


def test_spellings_that_look_alike_are_one_category_and_are_told(tmp_path, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "t.tsv"
    lines = "".join(
        f"{number}.jpg\t{name}\t{number}\u00a0\n" for number, name in enumerate([*ALIKE, "Fern  x", "Fern x"])
    )
    path.write_text("FILE\tCATEGORY\tGROUP\n" + lines, encoding="utf-8")
    items = items_of_table(str(path))
    assert {(item.category, item.group) for item in items} == {
        *(("Séché", str(number)) for number in range(5)),
        *(("Fern x", str(number)) for number in (5, 6)),
    }
    assert caplog.messages == [
        "spellings of one category, Fern x: 'Fern  x', 'Fern x'.",
        f"spellings of one category, Séché: {', '.join(map(ascii, sorted(ALIKE)))}.",
    ]
    caplog.clear()
    make(tmp_path / "c", *(f"{name}/{number}.jpg" for number, name in enumerate(ALIKE)))
    items, _ = items_of_folder(str(tmp_path / "c"))
    assert [item.category for item in items] == ["Séché"] * 5 and len(caplog.messages) == 1


def test_categories_that_differ_in_little_stay_two_and_are_named(tmp_path, caplog):
    caplog.set_level("INFO")
    make(tmp_path, "Fern/a.jpg", "fern/b.jpg", "Moss/c.jpg")
    items, _ = items_of_folder(str(tmp_path))
    assert [item.category for item in items] == ["Fern", "Moss", "fern"]
    assert caplog.messages == ["two categories that differ in little: 'Fern' and 'fern'."]


PAIRS = [("Salix x rubra", "Salix × rubra"), ("Fern", "F\u0435rn"), ("a-b", "a–b"), ("a b", "a_b")]


@pytest.mark.parametrize("names", PAIRS)
def test_names_that_people_take_for_each_other_are_told(tmp_path, caplog, names):
    caplog.set_level("INFO")
    make(tmp_path, *(f"{name}/a.jpg" for name in names))
    items, _ = items_of_folder(str(tmp_path))
    assert {item.category for item in items} == {*names}
    assert caplog.messages == [f"two categories that differ in little: {names[0]!a} and {names[1]!a}."]


def test_given_categories_are_found_in_any_spelling(tmp_path):
    table = tmp_path / "c.tsv"
    table.write_text("INDEX\tLABEL\n0\tSe\u0301che\u0301 \n1\tMoss\n", encoding="utf-8")
    given = given_categories(str(table))
    assert [category.label for category in given] == ["Séché", "Moss"]
    assert number_categories([Item("p", "Séché", "p"), Item("q", "Moss", "q")], given, str(table))[1]["Séché"] == 0
    table.write_text("INDEX\tLABEL\n0\tMoss \n1\tMoss\n")
    with pytest.raises(UsageError, match="two categories the same LABEL, Moss: the INDEX 0 and 1"):
        given_categories(str(table))


def test_what_makes_no_category_is_told(tmp_path, caplog):
    caplog.set_level("INFO")
    make(
        tmp_path,
        "Fern/a.jpg",
        "Live/1.XYZ",
        "Live/2.xyz",
        "Live/.b.jpg",
        ".Trash/a.jpg",
        "@eaDir/a.jpg/b.jpg",
        "skip/a.jpg",
    )
    (tmp_path / "Empty").mkdir()
    items, errors = items_of_folder(str(tmp_path), ["skip"])
    assert [item.name for item in items] == ["Fern/a.jpg"] and errors == {}
    assert caplog.messages == [
        "left out: 2 .xyz, 2 hidden, 1 @eaDir, 1 excluded.",
        "folders without images, which make no category: Empty (empty), Live (2 .xyz, 1 hidden).",
    ]
    (tmp_path / "Fern" / "a.jpg").unlink()
    with pytest.raises(UsageError, match=r"no subfolders with images, .*: Empty \(empty\), Fern \(empty\), Live"):
        items_of_folder(str(tmp_path), ["skip"])


def test_the_files_of_a_table_may_have_blanks_and_quotes_around_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path, "a.jpg", " b.jpg")
    (tmp_path / "t.tsv").write_text("FILE\tCATEGORY\na.jpg \tFern\n b.jpg\tFern\n'c.jpg'\tFern\n")
    assert [item.path for item in items_of_table("t.tsv")] == [" b.jpg", "a.jpg", "c.jpg"]
