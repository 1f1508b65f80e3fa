"""Measuring and drawing in this process, on answers whose figures are known."""

import warnings

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

from lib.display.contact_sheet import contact_sheet
from lib.errors import UsageError
from lib.evaluation import evaluate as evaluation


class Grey:
    """Stands for `lib.data.records.Images` of one band."""

    def take(self, indices):
        return np.full((len(indices), 8, 8, 1), 90, "uint8")


def answers(images, classes, sure=3.0, seed=1):
    """Random answers, the more often right the greater `sure`; every category is there."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    logits = rng.normal(size=(images, classes))
    logits[np.arange(images), labels] += sure
    return evaluation.Answers(Grey(), labels, logits.astype("float32"), 0.0)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_a_category_that_counts_nothing():
    given, labels = answers(60, 4), ("a", "b", "c", "d")
    found = evaluation.evaluate(given, labels, [1.0, 2.0, 0.0, 1.0])
    assert [row[0] for row in found.rows] == list(labels) and not found.absent
    assert found.rows[2][1:] == (0.0, 0.0, 0.0, 15, 0.0) and found.matrix[2].sum() == 0
    weights = np.array([1, 2, 0, 1])[given.labels]
    expected = average_precision_score(given.labels == 1, given.probabilities[:, 1], sample_weight=weights)
    assert found.rows[1][5] == pytest.approx(expected)
    assert found.accuracy.low < found.metrics["accuracy"] < found.accuracy.high
    with pytest.raises(UsageError, match="-w/--weight: at least one category in the records needs a number above 0"):
        evaluation.evaluate(evaluation.Answers(Grey(), np.full(60, 2), given.logits, 0.0), labels, [1, 1, 0, 1])


def test_the_smallest_and_the_largest_weights():
    found = evaluation.evaluate(answers(60, 3), ("a", "b", "c"), [1e-30, 1e30, 1])
    assert all(np.isfinite(value) and value >= 0 for value in (*found.metrics.values(), *found.f1, *found.accuracy))
    assert evaluation.evaluate(answers(60, 3), ("a", "b", "c"), [1e-30] * 3).accuracy.low > 0


def test_one_image(tmp_path):
    found = evaluation.evaluate(answers(1, 3, sure=20), ("a", "b", "c"))
    assert found.metrics["accuracy"] == 1 and found.metrics["f1"] == pytest.approx(1 / 3)
    assert found.absent == ("b", "c") and len(found.rows) == 1
    assert found.accuracy == (1, 1)


@pytest.mark.parametrize(("classes", "sure", "weighted"), [(3, 40.0, False), (45, 2.0, True)])
def test_the_pictures(tmp_path, classes, sure, weighted):
    given, labels = answers(90, classes, sure), tuple(f"category {number}" for number in range(classes))
    weights = [0.0, *[1.5] * (classes - 1)] if weighted else None
    found = evaluation.evaluate(given, labels, weights)
    evaluation.draw(tmp_path / "figures", found, given, labels, weights)
    for name in ("confusion", "mistakes", "precision-recall", "reliability"):
        with Image.open(tmp_path / "figures" / f"{name}.png") as picture:
            picture.load()
            assert min(picture.size) > 100, name


def test_mistakes_are_in_short_rows_the_surest_first():
    given = answers(90, 2, sure=-40.0)
    rows = evaluation._mistakes(given, given.probabilities, ("a", "b"))
    assert sum(len(pictures) for _, pictures in rows) == 60
    assert all(0 < len(pictures) <= 10 and pictures[0].shape == (8, 8, 3) for _, pictures in rows)
    assert {caption.split(" (")[0] for caption, _ in rows} == {"a taken for b", "b taken for a"}
    none = answers(90, 2, sure=40.0)
    assert evaluation._mistakes(none, none.probabilities, ("a", "b")) == [("There are no mistakes.", [])]


def test_a_contact_sheet_has_room_for_its_captions():
    black = np.zeros((8, 8, 3), "uint8")
    caption = "Reproduction taken for Fragmentary (0.95)" * 3
    sheet = np.asarray(contact_sheet([(caption, [black])]))
    assert (sheet[:, -4:] == 255).all() and (sheet[:15, -16:-4] < 128).any()  # the last letter, then a margin
    assert contact_sheet([("short", [black])]).width == 204
