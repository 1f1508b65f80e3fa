"""What a page learns with: which images it draws, and when their features are those of the table."""

import json
import shutil

import numpy as np
import pytest
from conftest import FIXTURES

from lib.data.corrections import Corrections
from lib.measures.adaptation import extend, fit, measure, scale
from lib.measures.softmax import softmax
from lib.models.output_layer import read_output_layer
from lib.prediction.report import Predicted
from lib.prediction.settings import RIDGE, Settings
from lib.prediction.teaching import can_be_taught, draw, find_teaching

MODEL = FIXTURES / "keras" / "reference-3.10.keras"  # of 8 features and 5 categories
LABELS = list("ABCDE")
NOTHING = Corrections("c.tsv", {}, {})


def test_the_same_images_are_drawn_each_time_and_nearly_all_again_when_there_are_more():
    names = [f"{number}.jpg" for number in range(1000)]
    drawn = draw(names, 200)
    assert len(set(drawn)) == 200 and drawn == draw(names[::-1], 200)
    again = draw([*names, *(f"new-{number}.jpg" for number in range(100))], 200)
    assert len({*drawn} & {*again}) > 150
    assert draw(names, 100) == drawn[:100]  # the order in which they are asked about
    assert [len(draw(names[:count], 200)) for count in (0, 3, 4, 100)] == [0, 0, 1, 25]
    share = np.mean([int(name[:-4]) < 500 for name in drawn])  # by no rule that the names follow
    assert 0.4 < share < 0.6


class Folder:
    def __init__(self):
        self.features = np.random.default_rng(0).standard_normal((40, 8)).astype("float32")
        self.layer = read_output_layer(MODEL)
        self.logits = self.features @ self.layer.kernel + self.layer.bias
        self.names = [f"{number}.jpg" for number in range(40)]
        chances = softmax(self.logits)
        self.rows = [
            Predicted(name, LABELS[row.argmax()], round(float(row.max()), 4), "", None)
            for name, row in zip(self.names, chances)
        ]
        self.write(self.features)
        settings = {"settings": {"model": str(MODEL)}, "versions": {}}
        with open("t.tsv.settings.json", "w") as file:
            json.dump(settings, file)

    def write(self, features, names=None):
        names = np.array(names or self.names)
        np.savez("t.tsv.features.npz", embeddings=features, paths=names, settings=np.array("{}"))

    def find(self, rows=None, labels=LABELS, corrections=NOTHING):
        return find_teaching(
            Settings(report_from="t.tsv", report="t.html"), rows or self.rows, labels, ["3.jpg"], corrections
        )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Folder()


def test_the_features_and_the_layer_give_the_models_logits(folder):
    found, lacking = folder.find(folder.rows[10:20])
    assert lacking == "" and found.features.dtype == "float16" and found.features.shape == (10, 8)
    ones = np.ones((10, 1))
    logits = np.hstack([found.features.astype("float64"), ones]) @ found.kernel.T.astype("float64")
    np.testing.assert_allclose(logits, folder.logits[10:20], atol=0.02)
    whole = (folder.features - folder.features.mean(axis=0)) / folder.features.std(axis=0)
    np.testing.assert_allclose(found.features, whole[10:20], atol=2e-3)  # over all images, not those that are shown
    assert found.command["features"] == "t.tsv.features.npz" and found.command["stem"] == "t"
    assert found.audited == ["3.jpg"] and found.command["published"] is False


def test_an_image_without_features_is_no_reason_to_learn_nothing(folder):
    folder.write(folder.features[1:], folder.names[1:])
    found, lacking = folder.find()
    assert lacking == "" and np.isnan(found.features[0]).all() and not np.isnan(found.features[1:]).any()


def test_features_that_are_not_the_tables(folder):
    folder.write(folder.features[::-1].copy())
    assert "no model" in folder.find()[1]
    folder.write(folder.features[:, :7].copy())
    assert "no model" in folder.find()[1]
    folder.write(np.full((40, 8), np.nan, "float32"))
    assert "can't be read" in folder.find()[1]
    folder.write(folder.features)
    assert "no model" in folder.find(labels=LABELS[::-1])[1]
    assert folder.find()[1] == ""
    with open("t.tsv.features.npz", "wb") as file:
        file.write(b"something else")
    assert "can't be read" in folder.find()[1]


@pytest.mark.parametrize("ridge", [RIDGE, 1.5])
def test_the_table_of_an_adapted_model_follows_from_the_corrections(folder, ridge):
    with open("t.tsv.settings.json", "w") as file:
        json.dump({"settings": {"model": str(MODEL), "ridge": ridge}, "versions": {}}, file)
    taught = {f"{number}.jpg": "New" if number < 5 else LABELS[number % 3] for number in range(20)}
    corrections = Corrections("c.tsv", taught, {"30.jpg": "A"})
    labels = [*LABELS, "New"]
    scaled, layer = scale(folder.features, measure([folder.features])), extend(*folder.layer, 1)
    logits = folder.features @ layer[0] + layer[1]
    wanted = np.array([labels.index(label) for label in taught.values()])
    chances = softmax(logits + scaled @ fit(scaled[:20], logits[:20], wanted, ridge).T)
    decided = corrections.decided
    rows = [
        Predicted(
            name, decided.get(name, labels[row.argmax()]), None if name in decided else round(row.max(), 4), "", None
        )
        for name, row in zip(folder.names, chances)
    ]
    found, lacking = folder.find(rows, labels, corrections)
    assert lacking == "" and len(found.kernel) == 5
    assert found.ridge == ridge and found.command["ridge"] == ("" if ridge == RIDGE else "1.5")
    answers = folder.logits.argmax(axis=1)
    np.testing.assert_array_equal(found.probabilities.argmax(axis=1), answers)  # before anything was taught
    np.testing.assert_array_equal(found.counts, np.bincount(answers, minlength=5))
    for ending in (".features.npz", ".settings.json"):
        shutil.copy(f"t.tsv{ending}", f"t-adapted.tsv{ending}")
    again, _ = find_teaching(
        Settings(report_from="t-adapted.tsv", report="t.html", model=str(MODEL)), rows, labels, [], corrections
    )
    assert again.command["stem"] == "t"  # the same names again
    assert "no model" in folder.find(rows, labels, corrections._replace(taught={}))[1]


@pytest.mark.parametrize("ridge", ["true", "9" * 401, "1e999", "-1", "0", '"1"', "1001", "null"])
def test_a_ridge_that_none_is_is_not_taken(folder, ridge):
    with open("t.tsv.settings.json", "w") as file:
        settings = f'{{"model": {json.dumps(str(MODEL))}, "ridge": {ridge}}}'
        file.write(f'{{"settings": {settings}, "versions": {{}}}}')
    found, lacking = folder.find()
    assert lacking == "" and found.ridge == RIDGE


def test_which_models_can_be_taught(shared):
    cases = shared / "cases" / "models"
    assert can_be_taught(MODEL) and can_be_taught(str(cases / "logits.keras"))
    assert not can_be_taught(str(cases / "SOURCES.md")) and not can_be_taught(__file__)
