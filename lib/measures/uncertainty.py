"""Confidence intervals of accuracy and F1, comparison of two models on the same images, calibration.

The bootstrap draws the number of images of each combination of true and answered category, which is the same as drawing
images with replacement, and costs no more for many than for few.
"""

from typing import NamedTuple

import numpy as np

_DRAWS = 10_000
_AT_ONCE = 4_000_000  # numbers drawn at once


class Interval(NamedTuple):
    """The bounds of 95 % of the draws."""

    low: float
    high: float


class Comparison(NamedTuple):
    """Two models on the same images.

    Attributes:
        only_first, only_second: the number of images that only the one or the other answered correctly.
        p_value: of McNemar's exact test, two-sided.
        f1_difference: macro F1 of the second minus that of the first.
        interval: of that difference.
    """

    only_first: int
    only_second: int
    p_value: float
    f1_difference: float
    interval: Interval


def confusion_matrix(true, answers, categories, weights=None):
    """The number (or weight) of images of each category, a row, answered with each, a column.

    Args:
        true, answers: int `(images,)`: the true categories, and those answered.
        categories: their number.
        weights: `(categories,)`: the weight of an image of each category; None for 1.

    Returns:
        `(categories, categories)`, int64; float64 with weights.
    """
    pairs = np.asarray(true, "int64") * categories + np.asarray(answers, "int64")
    matrix = np.bincount(pairs, minlength=categories * categories).reshape(categories, categories)
    return matrix if weights is None else matrix * np.asarray(weights, "float64")[:, None]


def macro_f1(matrix):
    """The mean F1 over the categories of a confusion matrix `(categories, categories)`, 0 for an absent one."""
    return mean_f1(np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0))


def mean_f1(right, labels, answers):
    """The mean F1 over categories, 0 for one that neither occurs nor is answered.

    Args:
        right, labels, answers: `(…, categories)`: the number of true positives of each category, of images that have
            it, and of images answered with it.

    Returns:
        float64 `(…)`.
    """
    return divide(2.0 * right, labels + answers).mean(axis=-1)


def divide(one, other):
    """A quotient of arrays or numbers, float64, 0 where the divisor is."""
    one, other = np.asarray(one, "float64"), np.asarray(other, "float64")
    return np.divide(one, other, out=np.zeros(np.broadcast(one, other).shape), where=other != 0)


def intervals(true, answers, categories, weights=None):
    """The 95 % intervals of accuracy, by Wilson's score, and of macro F1, by bootstrap; with weights both by bootstrap.

    If all of a few images are answered correctly, a bootstrap's interval has no width; Wilson's has.

    Args:
        true, answers, categories, weights: see `confusion_matrix`.

    Returns:
        Two `Interval`s.
    """
    accuracy, f1 = [], []
    for counts, (label, answer) in _draws([true, answers], weights):
        right, of_label, of_answer = _margins(counts, label, answer, categories)
        f1.append(mean_f1(right, of_label, of_answer))
        if weights is not None:
            accuracy.append(divide(right.sum(axis=1), counts.sum(axis=1)))
    if accuracy:
        return _interval(accuracy), _interval(f1)
    return share_interval(int(np.sum(np.asarray(true) == answers)), len(true)), _interval(f1)


def compare(true, first, second, categories, weights=None):
    """Compare two models' answers on the same images; see `Comparison`."""
    differences = []
    for counts, (label, one, other) in _draws([true, first, second], weights):
        scores = [mean_f1(*_margins(counts, label, answer, categories)) for answer in (one, other)]
        differences.append(scores[1] - scores[0])
    measured = [macro_f1(confusion_matrix(true, answers, categories, weights)) for answers in (first, second)]
    only_first = int(((first == true) & (second != true)).sum())
    only_second = int(((first != true) & (second == true)).sum())
    p_value = mcnemar(only_first, only_second)
    return Comparison(only_first, only_second, p_value, float(measured[1] - measured[0]), _interval(differences))


def mcnemar(only_first, only_second):
    """The two-sided p of McNemar's exact test, from how many images only the one or the other answered correctly."""
    from scipy.stats import binomtest

    disagreements = only_first + only_second
    return float(binomtest(only_first, disagreements).pvalue) if disagreements else 1.0


def share_interval(right, count):
    """The 95 % interval of a share, by Wilson's score, from how many of `count` images, at least 1, are right."""
    from scipy.stats import binomtest

    found = binomtest(right, count).proportion_ci(method="wilson")
    return Interval(float(found.low), float(found.high))


def _draws(columns, weights):
    """Draw samples of images, the same ones at each call.

    Yields:
        `(draws at once, combinations)`: the number (or weight) of each combination of the columns; and for each column
        its category in each combination.
    """
    rng = np.random.default_rng(0)
    combinations, counts = np.unique(np.stack(columns), axis=1, return_counts=True)
    step = max(1, _AT_ONCE // len(counts))
    for start in range(0, _DRAWS, step):
        drawn = rng.multinomial(counts.sum(), counts / counts.sum(), min(step, _DRAWS - start)).astype("float64")
        if weights is not None:
            drawn *= np.asarray(weights, "float64")[combinations[0]]
        yield drawn, combinations


def _margins(counts, true, answers, categories):
    """The arguments of `mean_f1`, each `(draws, categories)`, of drawn counts."""
    one_hot, right = np.eye(categories), true == answers
    return counts[:, right] @ one_hot[true[right]], counts @ one_hot[true], counts @ one_hot[answers]


def _interval(parts):
    low, high = np.percentile(np.concatenate(parts), [2.5, 97.5])
    return Interval(float(low), float(high))


def calibration(probabilities, true, weights=None, bins=15):
    """The expected calibration error (arXiv:1706.04599).

    Args:
        probabilities: float `(images, categories)`.
        true: int `(images,)`.
        weights: `(images,)`; None for 1.
        bins: the number of steps of confidence.

    Returns:
        The error, and three arrays `(bins,)`: the share of the images in each step of confidence, their mean confidence
        and their accuracy, NaN in a step without images.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == true
    weights = np.ones(len(true)) if weights is None else weights
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    total = np.bincount(place, weights, bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, weights * confidence, bins) / total
        accuracy = np.bincount(place, weights * right, bins) / total
    shares = total / total.sum()
    return float(np.nansum(shares * np.abs(accuracy - mean))), shares, mean, accuracy
