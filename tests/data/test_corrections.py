"""A person's decisions: what is read, and what can't be meant."""

import pytest

from lib.data.categories import LABELS, read_labels
from lib.data.corrections import find_new_categories, read_corrections
from lib.errors import UsageError


@pytest.fixture
def write(tmp_path):
    def written(text):
        (tmp_path / "corrections.tsv").write_text(text, encoding="utf-8")
        return str(tmp_path / "corrections.tsv")

    return written


def test_what_a_person_decided(write):
    rows = ["FILE\tCATEGORY\tROLE", "a/1.jpg\tText\tteach", "a/2.jpg\tSlide\taudit", "a/3\\t.jpg\tText\t", "", ""]
    found = read_corrections(write("\r\n".join(rows)))
    assert found.taught == {"a/1.jpg": "Text", "a/3\\t.jpg": "Text"} and found.audited == {"a/2.jpg": "Slide"}
    assert list(found.decided) == ["a/1.jpg", "a/3\\t.jpg", "a/2.jpg"]


def test_further_columns_and_no_roles_and_equal_rows(write):
    found = read_corrections(write("NOTE\tCATEGORY\tFILE\n!\t Se\u0301che\u0301 \ta.jpg\n?\tSéché\ta.jpg\n"))
    assert found.taught == {"a.jpg": "Séché"} and found.audited == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "needs a header with the columns FILE and CATEGORY"),
        ("FILE\tPREDICTION\na.jpg\tText\n", "needs a header with the columns FILE and CATEGORY"),
        ("FILE\tCATEGORY\n", "has no rows"),
        ("FILE\tCATEGORY\n\tText\n", "line 2 needs a FILE and a CATEGORY"),
        ("FILE\tCATEGORY\na.jpg\n", "line 2 needs a FILE and a CATEGORY"),
        ("FILE\tCATEGORY\na.jpg\tA\x01\n", "line 2 has a CATEGORY with characters that aren't text"),
        ("FILE\tCATEGORY\tROLE\na.jpg\tText\ttest\n", "line 2 has the ROLE 'test'; it must be teach or audit"),
        ("FILE\tCATEGORY\na.jpg\tText\nb.jpg\tText\na.jpg\tSlide\n", "lines 2 and 4 say both Text and Slide of a.jpg"),
        (
            "FILE\tCATEGORY\tROLE\na.jpg\tText\taudit\na.jpg\tText\tteach\n",
            "lines 2 and 3 say both audit and teach of a.jpg",
        ),
    ],
)
def test_tables_that_say_nothing_or_two_things(write, text, words):
    with pytest.raises(UsageError, match="corrections.tsv") as raised:
        read_corrections(write(text))
    assert words in str(raised.value)


def categories(write, *names, role="teach"):
    rows = "".join(f"{number}.jpg\t{name}\t{role}\n" for number, name in enumerate(names))
    return read_corrections(write(f"FILE\tCATEGORY\tROLE\n{rows}"))


def test_categories_that_the_model_lacks(write):
    assert find_new_categories(categories(write, *LABELS), LABELS) == []
    assert find_new_categories(categories(write, "Text", "Moss", "Fern", "Moss"), LABELS) == ["Fern", "Moss"]
    assert find_new_categories(categories(write, "Fern", role="audit"), LABELS) == [], "nothing is learnt of it"


@pytest.mark.parametrize(
    ("name", "likely"),
    [("Ordinray", "Ordinary"), ("ordinary", "Ordinary"), ("Slides", "Slide"), ("Microscope slides", "Slide")],
)
@pytest.mark.parametrize("role", ["teach", "audit"])
def test_a_category_spelled_almost_like_another(write, name, likely, role):
    found = categories(write, "Text", name, role=role)
    with pytest.raises(UsageError) as raised:
        find_new_categories(found, LABELS)
    assert f"the CATEGORY {name!r} (of 1.jpg), almost {likely!r}" in str(raised.value)
    assert "⟦new_categories⟧" in str(raised.value)
    assert find_new_categories(found, LABELS, [name]) == ([name] if role == "teach" else [])


def test_a_label_is_found_however_its_accents_are_stored(write, tmp_path):
    table = tmp_path / "categories.tsv"
    table.write_text("INDEX\tLABEL\n0\tSe\u0301che\u200b\u0301\n1\tText\n", encoding="utf-8")
    labels, found = read_labels(str(table)), categories(write, "Séché", " Text\u200b")
    assert found.taught == {"0.jpg": labels[0], "1.jpg": "Text"} and find_new_categories(found, labels) == []


def test_new_categories_spelled_almost_alike(write):
    with pytest.raises(UsageError, match="almost 'Fern'"):
        find_new_categories(categories(write, "Ferns", "Fern"), LABELS)
    assert find_new_categories(categories(write, "Ferns", "Fern"), LABELS, ["Ferns"]) == ["Fern", "Ferns"]
