"""The published categories and tables of labels."""

import itertools

import pytest

from lib.data.categories import CATEGORIES, LABELS, canonical, read_labels
from lib.errors import UsageError


def test_the_published_labels_are_in_the_models_order():
    assert " ".join(LABELS) == (
        "Animal Biocultural Corrupted Fragmentary Color Grayscale Live EM RLM TLM Slide Mixed Occluded Ordinary "
        "Reproduction Text Unpressed"
    )
    assert [category.index for category in CATEGORIES] == list(range(17))


def test_the_golden_labels_are_known(shared):
    lines = (shared / "golden" / "predictions.tsv").read_text().splitlines()[1:]
    assert {line.split("\t")[1] for line in lines} <= set(LABELS)


def test_labels_are_read_in_the_order_of_their_index(tmp_path):
    path = tmp_path / "categories.tsv"
    path.write_text("CATEGORY\tINDEX\tLABEL\nfern\t1\tFern\nmoss\t0\tMoss\n")
    assert read_labels(path) == ("Moss", "Fern")


def test_a_name_has_one_spelling():
    """Which is its own: also where an invisible character stands between a letter and its accent."""
    for signs in itertools.product(["e", "é", "\u0301", "\u200b", "\ufeff", " ", "\u00a0", "\u2000"], repeat=4):
        name = canonical("".join(signs))
        assert name == canonical(name) and not {*name} & {"\u200b", "\ufeff", "\u00a0"} and "e\u0301" not in name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "header"),
        ("INDEX\tNAME\n0\tMoss\n", "LABEL"),
        ("INDEX\tLABEL\n0\tMoss\n2\tFern\n", "every INDEX"),
        ("INDEX\tLABEL\n0\tMoss\n0\tFern\n", "repeats"),
        ("INDEX\tLABEL\nzero\tMoss\n", "line 2"),
        ("INDEX\tLABEL\n\n0\tFern\n\nzero\tMoss\n", "line 5"),
        ("INDEX\tLABEL\n0\n", "line 2"),
        ("INDEX\tLABEL\n\u00b2\tMoss\n", "line 2"),
        ("INDEX\tLABEL\n0\tMoss\n1\tMoss\n", "two categories"),
        ("INDEX\tLABEL\n", "every INDEX"),
        (f"INDEX\tLABEL\n{'9' * 5000}\tMoss\n", "line 2 needs a whole number as INDEX"),
    ],
)
def test_a_wrong_table_of_labels_is_refused(tmp_path, content, message):
    path = tmp_path / "categories.tsv"
    path.write_text(content)
    with pytest.raises(UsageError, match=message):
        read_labels(path)


def test_a_table_of_labels_must_be_text(tmp_path):
    path = tmp_path / "categories.tsv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="can't be read"):
        read_labels(path)
