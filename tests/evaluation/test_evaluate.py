"""Measuring and drawing in this process, on answers whose figures are known."""

import warnings

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

from lib.errors import UsageError
from lib.evaluation.evaluate import Answers, measure
from lib.evaluation.results import draw, rows_of_mistakes


class Grey:
    """Stands for `Images` of one band."""

    def take(self, indices):
        return np.full((len(indices), 8, 8, 1), 90, "uint8")


def answers(images, categories, sure=3.0, seed=1):
    """Random answers, the more often right the greater `sure`; every category is there."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % categories
    logits = rng.normal(size=(images, categories))
    logits[np.arange(images), labels] += sure
    return Answers(Grey(), labels, logits.astype("float32"), 0.0)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_a_category_that_counts_nothing():
    given, labels = answers(60, 4), ("a", "b", "c", "d")
    found = measure(given, labels, [1.0, 2.0, 0.0, 1.0])
    assert [row[0] for row in found.rows] == list(labels) and not found.absent
    assert found.rows[2][1:] == (0.0, 0.0, 0.0, 15, 0.0) and found.matrix[2].sum() == 0
    weights = np.array([1, 2, 0, 1])[given.true]
    expected = average_precision_score(given.true == 1, given.probabilities[:, 1], sample_weight=weights)
    assert found.rows[1][5] == pytest.approx(expected)
    assert found.accuracy.low < found.weighted["accuracy"] < found.accuracy.high
    with pytest.raises(UsageError, match="at least one category in the records needs a number above 0") as caught:
        measure(Answers(Grey(), np.full(60, 2), given.logits, 0.0), labels, [1, 1, 0, 1])
    assert caught.value.setting == "class_weights"


def test_the_smallest_and_the_largest_weights():
    found = measure(answers(60, 3), ("a", "b", "c"), [1e-30, 1e30, 1])
    assert all(np.isfinite(value) and value >= 0 for value in (*found.metrics.values(), *found.f1, *found.accuracy))
    assert measure(answers(60, 3), ("a", "b", "c"), [1e-30] * 3).accuracy.low > 0


def test_one_image():
    found = measure(answers(1, 3, sure=20), ("a", "b", "c"))
    assert found.weighted["accuracy"] == 1 and found.weighted["f1"] == pytest.approx(1 / 3)
    assert found.absent == ("b", "c") and len(found.rows) == 1
    assert found.accuracy == pytest.approx((0.2065, 1), abs=1e-4)


@pytest.mark.parametrize(("categories", "sure", "weighted"), [(3, 40.0, False), (45, 2.0, True)])
def test_the_pictures(tmp_path, categories, sure, weighted):
    given, labels = answers(90, categories, sure), tuple(f"category {number}" for number in range(categories))
    weights = [0.0, *[1.5] * (categories - 1)] if weighted else None
    found = measure(given, labels, weights)
    draw(tmp_path / "figures", found)
    for name in ("confusion", "mistakes", "precision-recall", "reliability"):
        with Image.open(tmp_path / "figures" / f"{name}.png") as picture:
            picture.load()
            assert min(picture.size) > 100, name


def test_mistakes_are_in_short_rows_the_surest_first():
    rows = rows_of_mistakes(measure(answers(90, 2, sure=-40.0), ("a", "b")))
    assert sum(len(pictures) for _, pictures in rows) == 60
    assert all(0 < len(pictures) <= 10 and pictures[0].shape == (8, 8, 3) for _, pictures in rows)
    assert {caption.split(" (")[0] for caption, _ in rows} == {"a taken for b", "b taken for a"}
    none = measure(answers(90, 2, sure=40.0), ("a", "b"))
    assert rows_of_mistakes(none) == [("There are no mistakes.", [])]
