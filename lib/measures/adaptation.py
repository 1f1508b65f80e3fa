"""Learning from a reader: a linear step on the features that a model computes, taught by the categories of some images.

With the features f of an image, whose mean and standard deviation over all images are m and s, and the model's logits
z, the adapted logits are z + W x, where x = ((f - m) / s, 1) / sqrt(width + 1). W minimises the cross entropy of the
taught images plus ridge / 2 times the sum of its squares: a convex problem with one solution. W x is linear in f, so
that it becomes a part of the model's last layer (`fold`).

The reader is best asked about the images whose two likeliest categories have the most similar probabilities, by the
model as taught so far: least-margin sampling (arXiv:2302.12948 describes such a loop).
"""

from typing import NamedTuple

import numpy as np

from lib.errors import WorkError
from lib.measures.softmax import softmax

# A feature that varies by less than this share of its mean is taken for a constant: float32 weights for it would lose
# the precision of the logits.
_CONSTANT = 1e-4

_GRADIENT = 1e-8  # where the search for W stops; the contract with the pages is 1e-6
_MOST_STEPS = 100
_SHORTEST = 1e-9  # of a step


class Scaling(NamedTuple):
    """The mean and the standard deviation of each feature over all images, float64 `(width,)`; 1 for constants."""

    mean: np.ndarray
    deviation: np.ndarray


def measure(blocks):
    """The `Scaling` of features.

    Args:
        blocks: all images' features in parts, of which one at a time is in memory: float `(images, width)`.

    Raises:
        ValueError: there are none, or some that are not finite.
    """
    count, first = 0, None
    for block in blocks:
        if not len(block):
            continue
        if first is None:  # sums of differences from one image are exact for constants, and precise for the others
            first = block[0].astype("float64")
            total, squares = np.zeros(len(first)), np.zeros(len(first))
        centred = block.astype("float64") - first
        count += len(centred)
        total += centred.sum(axis=0)
        squares += np.einsum("ij,ij->j", centred, centred)
    if first is None:
        raise ValueError("there are no features")
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    mean += first
    if not (np.isfinite(mean).all() and np.isfinite(deviation).all()):
        raise ValueError("some features are infinite or NaN")
    return Scaling(mean, np.where(deviation > _CONSTANT * np.abs(mean), deviation, 1.0))


def scale(features, scaling):
    """Features as the method takes them: float64 `(images, width + 1)`, of about length 1, the last one constant."""
    scaled = (np.asarray(features, "float64") - scaling.mean) / scaling.deviation
    return np.hstack([scaled, np.ones((len(scaled), 1))]) / np.sqrt(scaled.shape[1] + 1)


def extend(kernel, bias, count):
    """An output layer with `count` more categories, whose logits are the mean of the others'.

    Args:
        kernel, bias: `(width, categories)` and `(categories,)`.

    Returns:
        float64 arrays of the same form.
    """
    kernel, bias = kernel.astype("float64"), bias.astype("float64")
    more = np.repeat(kernel.mean(axis=1, keepdims=True), count, axis=1)
    return np.hstack([kernel, more]), np.append(bias, np.full(count, bias.mean()))


def fit(scaled, logits, categories, ridge):
    """Learn from taught images.

    Args:
        scaled: of `scale`, `(images, width + 1)`.
        logits: the model's, `(images, categories)`.
        categories: int `(images,)`: what the reader decided.
        ridge: above 0; how strongly W is held at 0.

    Returns:
        W, float64 `(categories, width + 1)`; the gradient there is at most 1e-8 in length, or what float64 allows.

    Raises:
        WorkError: the search does not end, as with features of enormous size.
    """
    # Newton's method on the gradient, whose length falls with each step (possibly shortened); the steps by conjugate
    # gradients. Quasi-Newton methods, such as scipy's, stop a hundred times further away, where the loss, a sum of
    # thousands of numbers, no longer changes.
    wanted = np.eye(logits.shape[1])[categories]
    weights = np.zeros((logits.shape[1], scaled.shape[1]))

    def gradient(weights):
        probabilities = softmax(logits + scaled @ weights.T)
        return (probabilities - wanted).T @ scaled + ridge * weights, probabilities

    slope, probabilities = gradient(weights)
    for _ in range(_MOST_STEPS):
        size = np.linalg.norm(slope)
        if size <= _GRADIENT:
            break
        step, length = _newton_step(scaled, probabilities, slope, ridge), 1.0
        while length > _SHORTEST:
            tried = gradient(weights + length * step)
            if np.linalg.norm(tried[0]) < (1 - 1e-4 * length) * size:
                break
            length /= 2
        else:
            break
        weights, (slope, probabilities) = weights + length * step, tried
    if not np.linalg.norm(slope) <= 100 * _GRADIENT:
        raise WorkError("the search for the adapted weights did not converge; a larger ridge helps.", "ridge")
    return weights


def _newton_step(scaled, probabilities, slope, ridge):
    """Solve, by conjugate gradients, for the step that would take the gradient to 0 if it were linear."""
    step, residual = np.zeros_like(slope), -slope
    direction, squares = residual, np.vdot(residual, residual)
    size = np.sqrt(squares)
    enough = min(0.1, np.sqrt(size)) * size  # precise where it counts, near the solution
    for _ in range(slope.size):
        if np.sqrt(squares) <= enough:
            break
        change = probabilities * (scaled @ direction.T)
        change -= probabilities * change.sum(axis=1, keepdims=True)
        curved = change.T @ scaled + ridge * direction
        length = squares / np.vdot(direction, curved)
        step, residual = step + length * direction, residual - length * curved
        former, squares = squares, np.vdot(residual, residual)
        direction = residual + squares / former * direction
    return step


def fold(kernel, bias, scaling, weights):
    """The output layer that gives the adapted logits.

    Args:
        kernel, bias: the model's, of as many categories as `weights`.
        scaling: `Scaling`.
        weights: of `fit`.

    Returns:
        float64 `(width, categories)` and `(categories,)`.
    """
    parts = weights / np.sqrt(weights.shape[1])
    change = (parts[:, :-1] / scaling.deviation).T
    return kernel + change, bias + parts[:, -1] - scaling.mean @ change


def margins(probabilities):
    """How much more probable the likeliest category of each image is than the next: `(…, categories)` to `(…)`."""
    ordered = np.partition(probabilities, -2, axis=-1)
    return ordered[..., -1] - ordered[..., -2]


def least_sure(probabilities, count, known=()):
    """The images to ask about next.

    Args:
        probabilities: `(images, categories)`.
        count: how many, at most.
        known: indices of images not to ask about.

    Returns:
        Their indices, the least sure first; of equal ones the first.
    """
    order = np.argsort(margins(probabilities), kind="stable")
    return order[~np.isin(order, list(known))][:count]
