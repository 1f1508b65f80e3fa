"""Intervals, comparisons and calibration, against plain resampling and known cases."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as their_matrix
from sklearn.metrics import f1_score

from lib.measures.uncertainty import (
    calibration,
    compare,
    confusion_matrix,
    intervals,
    macro_f1,
    mcnemar,
    share_interval,
)


def answers(seed, images=400, categories=5, right=0.8):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, categories, images)
    return labels, np.where(rng.random(images) < right, labels, rng.integers(0, categories, images))


def test_the_matrix_has_the_true_categories_as_rows():
    labels, answered = answers(1)
    np.testing.assert_array_equal(confusion_matrix(labels, answered, 5), their_matrix(labels, answered))
    weights = np.array([1, 2, 3, 0.5, 0])
    expected = their_matrix(labels, answered, sample_weight=weights[labels])
    np.testing.assert_allclose(confusion_matrix(labels, answered, 5, weights), expected)


def test_macro_f1_of_all_categories():
    labels, answered = answers(2)
    assert macro_f1(confusion_matrix(labels, answered, 5)) == pytest.approx(f1_score(labels, answered, average="macro"))
    assert macro_f1(confusion_matrix(labels, answered, 10)) == pytest.approx(
        f1_score(labels, answered, average="macro") / 2
    )


@pytest.mark.parametrize("weights", [None, [1, 5, 1, 0.2, 1]])
def test_the_intervals_are_those_of_drawing_images(weights):
    labels, answered = answers(3)
    rng, accuracy, f1 = np.random.default_rng(1), [], []
    for _ in range(2000):
        drawn = rng.integers(0, len(labels), len(labels))
        matrix = confusion_matrix(labels[drawn], answered[drawn], 5, weights)
        accuracy.append(np.trace(matrix) / matrix.sum())
        f1.append(macro_f1(matrix))
    for found, expected in zip(intervals(labels, answered, 5, weights), (accuracy, f1)):
        np.testing.assert_allclose(found, np.percentile(expected, [2.5, 97.5]), atol=0.006)


def test_of_few_images_all_of_them_right_the_accuracy_is_not_certain():
    labels = np.arange(12) % 3
    accuracy, _ = intervals(labels, labels, 3)
    np.testing.assert_allclose(accuracy, proportion_interval(12, 12), atol=1e-9)
    assert 0.75 < accuracy.low < 0.77


def proportion_interval(right, count, z=1.959963984540054):
    """Wilson's, as he wrote it (1927)."""
    share, square = right / count, z * z / count
    centre, half = share + square / 2, z * np.sqrt(share * (1 - share) / count + square / (4 * count))
    return (centre - half) / (1 + square), (centre + half) / (1 + square)


def test_two_models_on_the_same_images():
    labels, first = answers(5)
    _, second = answers(5, right=0.9)
    found = compare(labels, first, second, 5)
    assert found.only_first == ((first == labels) & (second != labels)).sum()
    assert found.only_second == ((first != labels) & (second == labels)).sum()
    scores = [f1_score(labels, answered, average="macro") for answered in (first, second)]
    assert found.f1_difference == pytest.approx(scores[1] - scores[0])
    assert found.interval.low < found.f1_difference < found.interval.high
    assert found.p_value < 0.01 < found.interval.low + 0.01
    same = compare(labels, first, first, 5)
    assert (same.p_value, same.f1_difference, same.interval) == (1.0, 0.0, (0.0, 0.0))


def test_mcnemars_p_value():
    labels = np.zeros(20, int)
    first, second = np.zeros(20, int), np.zeros(20, int)
    second[:8] = 1  # eight that only the first answers rightly
    assert compare(labels, first, second, 2).p_value == pytest.approx(2 * 0.5**8)


def test_calibration():
    chances = np.array([[0.9, 0.1]] * 10 + [[0.35, 0.65]] * 10)
    labels = np.array([0] * 9 + [1] + [1] * 5 + [0] * 5)  # 90 % and 50 % right
    error, parts, certainty, right = calibration(chances, labels)
    assert error == pytest.approx(0.5 * 0 + 0.5 * 0.15)
    assert parts[13] == parts[9] == 0.5 and certainty[9] == pytest.approx(0.65) and right[13] == pytest.approx(0.9)
    weighted, *_ = calibration(chances, labels, np.array([0.0] * 10 + [1.0] * 10))
    assert weighted == pytest.approx(0.15)


def test_wilsons_interval_and_mcnemars_p_are_the_known_ones():
    # Wilson for 81 of 263 (Newcombe 1998, Table I: 0.2553 to 0.3662) and for all of 20.
    assert share_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert share_interval(20, 20) == pytest.approx((20 / (20 + 1.959964**2), 1), abs=1e-6)
    assert mcnemar(0, 0) == 1 and mcnemar(1, 9) == pytest.approx(2 * 11 / 2**10)
