"""What is done to a batch of images while training: crops at random and mixtures, on the device, in one compiled step.

What is drawn at random is drawn beforehand, for the whole batch, from (seed, epoch, step) alone: so a resumed training
draws the same, and so do several devices that have a part of the batch each.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

# For each purpose a stream of its own.
_ORDER, _BATCH = 0, 1


class Draws(NamedTuple):
    """What is drawn for a batch of N images.

    Attributes:
        windows: float32 `(N, 4)`: top, left, bottom and right of each image's crop, as shares of its sides.
        partners: int32 `(N,)`: which image of the batch is mixed into each.
        shares: float32 `(N,)`: how much of the mixture the partner is.
    """

    windows: np.ndarray
    partners: np.ndarray
    shares: np.ndarray


def epoch_order(seed, epoch, count):
    """In what order an epoch takes `count` images: int64 `(count,)`."""
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(count)


def draw(seed, epoch, step, count, areas=(0.08, 1.0), aspects=(3 / 4, 4 / 3)):
    """Draw the crops and mixtures of one batch.

    Args:
        seed, epoch, step: from which all follows.
        count: how many images the whole batch has.
        areas: a crop's least and largest share of the image's area.
        aspects: its least and largest width by height, as shares of the sides; drawn evenly in the logarithm.

    Returns:
        `Draws`.
    """
    rng = np.random.default_rng([seed, _BATCH, epoch, step])
    area = rng.uniform(*sorted(areas), count)
    aspect = np.exp(rng.uniform(*np.log(sorted(aspects)), count))
    height, width = np.minimum(np.sqrt(area / aspect), 1), np.minimum(np.sqrt(area * aspect), 1)
    top, left = rng.uniform(0, 1 - height), rng.uniform(0, 1 - width)
    return Draws(
        windows=np.stack([top, left, top + height, left + width], axis=1).astype("float32"),
        partners=rng.integers(0, count, count).astype("int32"),
        shares=rng.uniform(0, 1, count).astype("float32"),
    )


def crop(images, windows, size):
    """Cut a window out of each image and resize it, bilinear with half-pixel centres, without antialiasing.

    Args:
        images: `(N, height, width, bands)`, uint8 or float32.
        windows: float32 `(N, 4)`: top, left, bottom and right as shares of the sides.
        size: height and width of the result.

    Returns:
        float32 `(N, size, size, bands)`.
    """
    # `crop_and_resize` puts the outermost samples onto the window's edges, and knows nothing outside of the image.
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    sides = tf.cast(tf.tile(tf.shape(images)[1:3], [2]), "float32")
    begin, end = windows[:, :2] * sides[:2], windows[:, 2:] * sides[:2]
    half = 0.5 * (end - begin) / size
    first, last = begin + half + 0.5, end - half + 0.5  # in pixels of the padded image, centres at whole numbers
    boxes = tf.concat([first, last], axis=1) / (sides + 1)
    return tf.image.crop_and_resize(padded, boxes, tf.range(tf.shape(images)[0]), [size, size])


def mix(values, others, shares):
    """Mixtures (1 − share)·value + share·other (arXiv:1710.09412), of images or of labels alike.

    Args:
        values, others: float32 `(N, …)`.
        shares: float32 `(N,)`.
    """
    shares = tf.reshape(shares, [-1] + [1] * (len(values.shape) - 1))
    return values + shares * (others - values)


def remix(labels, others, shares, counts, kappa, tau):
    """Labels of mixed images that favour rare classes (arXiv:2007.03943).

    With λ = 1 − share, a mixture of an image of class i and one of class j is all j if j is rarer by κ and λ < τ, all i
    if i is rarer by κ and 1 − λ < τ, else as of `mix`.

    Args:
        labels, others: float32 `(N, classes)`, one-hot: those of the images and of their partners.
        shares: float32 `(N,)`: how much of the mixture the partner is.
        counts: float32 `(classes,)`: how many images each class has.
        kappa, tau: κ and τ.
    """
    own = tf.reduce_sum(labels * counts, axis=-1)
    other = tf.reduce_sum(others * counts, axis=-1)
    partner_rules = (own >= kappa * other) & (1 - shares < tau)
    own_rules = (own * kappa <= other) & (shares < tau)
    shares = tf.where(partner_rules, 1.0, tf.where(own_rules, 0.0, shares))
    return mix(labels, others, shares)
