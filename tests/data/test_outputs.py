"""What numbers of records and outputs of models stand for: found beside the files, checked, handed on."""

import shutil
import types

import pytest

from lib.data.categories import CATEGORIES, Category, write_categories
from lib.data.outputs import categories_of_model, categories_of_records, labels_of_outputs
from lib.errors import UsageError

FERN_MOSS = (Category(0, "Fern", "Fern"), Category(1, "Moss", "Moss"))
MOSS_FERN = (Category(0, "Moss", "Moss"), Category(1, "Fern", "Fern"))


@pytest.fixture
def folder(tmp_path):
    write_categories(tmp_path / "own-categories.tsv", FERN_MOSS)
    write_categories(tmp_path / "same-categories.tsv", [each._replace(label=each.label[0]) for each in FERN_MOSS])
    write_categories(tmp_path / "other-categories.tsv", MOSS_FERN)
    (tmp_path / "map.tsv").write_text("OLD\tNEW\n0\t1\n1\t0\n")
    (tmp_path / "joined.tsv").write_text("OLD\tNEW\n0\t0\n1\t0\n")
    return tmp_path


def of_records(folder, train, validate=(), categories=2, number_map=None):
    paths = {"train": [str(folder / name) for name in train], "validate": [str(folder / name) for name in validate]}
    number_map = number_map and str(folder / number_map)
    settings = types.SimpleNamespace(**paths, categories=categories, number_map=number_map)
    return categories_of_records(settings, "train", "validate")


def test_the_categories_of_records_are_those_of_the_table_beside_them(folder):
    for train in (["own-train.tfr"], ["own-train-00000-of-00002.tfr", "own-train-00001-of-00002.tfr"]):
        assert of_records(folder, train, ["own-validation.tfr"]) == FERN_MOSS
    assert of_records(folder, ["unknown-train.tfr"], ["own-validation.tfr"]) == FERN_MOSS
    assert of_records(folder, ["unknown-train.tfr", "own.tfr"]) is None
    assert of_records(folder, ["own-train.tfr"], ["same-validation.tfr"]) == FERN_MOSS


def test_the_published_records_have_the_published_categories(folder):
    assert of_records(folder, ["herbariograph-96-train.tfr"], categories=17) == CATEGORIES
    assert of_records(folder, ["herbariograph-mine-train.tfr"], categories=17) is None


def test_a_number_map_gives_the_categories_their_new_numbers(folder):
    swapped = of_records(folder, ["own-train.tfr"], number_map="map.tsv")
    assert swapped == MOSS_FERN
    assert of_records(folder, ["own-train.tfr"], number_map="joined.tsv") is None
    (joined,) = of_records(folder, ["own-train.tfr"], number_map="joined.tsv", categories=1)
    assert joined == Category(0, "Fern + Moss", "Fern + Moss")


def test_another_number_of_categories_and_contradictions_are_refused(folder):
    with pytest.raises(UsageError, match=r"own-categories\.tsv lists 2 categories, not 17") as caught:
        of_records(folder, ["own-train.tfr"], categories=17)
    assert caught.value.setting == "categories"
    words = r"other-categories\.tsv has the category 'Moss' as number 0, .*own-categories\.tsv 'Fern'"
    with pytest.raises(UsageError, match=words) as caught:
        of_records(folder, ["own-train.tfr"], ["other-validation.tfr"])
    assert caught.value.setting == "validate"


def test_the_categories_of_a_model_are_those_beside_it_or_the_published_ones(folder, shared):
    published = shared / "models" / "ConvNeXt-distilled.keras"
    assert categories_of_model(str(published), 17) == (CATEGORIES, "the published model")
    (folder / "run").mkdir()
    copied = shutil.copy(published, folder / "run" / "mine.keras")
    assert categories_of_model(copied, 17)[0] == CATEGORIES
    with open(copied, "ab") as file:
        file.write(b"\0")
    assert categories_of_model(copied, 17) == (None, None), "17 outputs alone don't make a published model"
    write_categories(folder / "run" / "categories.tsv", FERN_MOSS)
    assert categories_of_model(copied, 2)[0] == FERN_MOSS
    assert categories_of_model(copied, 17) == (None, None)


def test_labels_are_the_models_and_records_have_to_agree(folder):
    def labels(records="own-test.tfr", **more):
        settings = {"model": str(folder / "m" / "x.keras"), "test": [str(folder / records)], "categories": 2}
        return labels_of_outputs(types.SimpleNamespace(**{**settings, "labels": None, **more}), "test")

    (folder / "m").mkdir()
    (folder / "m" / "x.keras").touch()
    assert labels("unknown-test.tfr") == ("category 0", "category 1")
    assert labels() == ("Fern", "Moss")
    write_categories(folder / "m" / "categories.tsv", [each._replace(label=each.label[0]) for each in FERN_MOSS])
    assert labels() == labels("unknown-test.tfr") == ("F", "M")
    assert labels(labels=str(folder / "other-categories.tsv")) == ("Moss", "Fern")
    with pytest.raises(UsageError, match="the table beside the records has the category 'Moss' as number 0") as caught:
        labels("other-test.tfr")
    assert caught.value.setting == "test"
