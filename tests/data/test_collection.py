"""The images that a table or a folder lists."""

import pytest

from lib.data.collection import Item, find_categories, items_of_folder, items_of_table
from lib.errors import UsageError


def test_names_come_back_as_they_were_escaped_and_items_are_sorted(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("CATEGORY\tFILE\tSPLIT\tmore\nx\tb\\tc.jpg\ttest\ty\nz\ta.jpg\n", encoding="utf-8")
    assert items_of_table(str(path)) == [Item("a.jpg", "z", "a.jpg"), Item("b\tc.jpg", "x", "b\tc.jpg", "", 2)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
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
    categories, indices = find_categories(items, table)
    assert [category.name for category in categories] == ["Live", "color_illustration"]
    assert indices == {"Live": 0, "color_illustration": 1}
    assert find_categories(items, table, herbariograph=True)[1] == {"Live": 6, "color_illustration": 4}
    (tmp_path / "c.tsv").write_text("INDEX\tLABEL\n0\tcolor_illustration\n1\tLive\n")
    assert find_categories(items, table)[1] == {"Live": 1, "color_illustration": 0}
    with pytest.raises(UsageError, match="'Palm' is not one of the categories in .*c.tsv"):
        find_categories([Item("p", "Palm", "p")], table)
    with pytest.raises(UsageError, match="c.tsv has other categories") as error:
        find_categories(items, table, herbariograph=True)
    assert error.value.setting == "herbariograph"
