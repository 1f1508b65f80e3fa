"""Augmentation of a batch of images on the device, in one compiled step: changes, random crops and mixtures.

Everything random is drawn beforehand, for the whole batch, from (seed, epoch, step) alone. So a resumed training draws
the same, and so do several devices with a part of the batch each.
"""

import zlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from lib.errors import UsageError, option
from lib.training import randomness
from lib.training.changes import CHANGES
from lib.training.hyperparameters import PUBLISHED


class Draws(NamedTuple):
    """The random draws for a batch of N images.

    Attributes:
        windows: float32 `(N, 4)`: top, left, bottom and right of each image's crop, as shares of its sides.
        partners: int32 `(N,)`: the image of the batch that is mixed into each.
        shares: float32 `(N,)`: the partner's share of the mixture.
        changes: float32 `(N, changes)`: the amount of each of `CHANGES`, 0 for none.
        noises: int32 `(N, 2)`: the seed of each image's noise.
    """

    windows: np.ndarray
    partners: np.ndarray
    shares: np.ndarray
    changes: np.ndarray
    noises: np.ndarray


def epoch_order(seed, epoch, count):
    """The order of an epoch's `count` images: int64 `(count,)`."""
    return np.random.default_rng([seed, randomness.ORDER, epoch]).permutation(count)


def draw(seed, epoch, step, count, settings=PUBLISHED):
    """Draw the changes, crops and mixtures of one batch.

    Args:
        seed, epoch, step: the seeds of all draws.
        count: the number of images of the whole batch.
        settings: `lib.training.hyperparameters.Augmentation`. A crop's share of the image's area is drawn uniformly,
            its ratio of width to height, in shares of the sides, log-uniformly.

    Returns:
        `Draws`.
    """
    rng = np.random.default_rng([seed, randomness.BATCH, epoch, step])
    areas, aspects = settings.crops
    area = rng.uniform(*sorted(areas), count)
    aspect = np.exp(rng.uniform(*np.log(sorted(aspects)), count))
    height, width = np.minimum(np.sqrt(area / aspect), 1), np.minimum(np.sqrt(area * aspect), 1)
    top, left = rng.uniform(0, 1 - height), rng.uniform(0, 1 - width)
    others = np.random.default_rng([seed, randomness.CHANGES, epoch, step])
    mixed = others.uniform(size=count) < settings.mixup
    return Draws(
        windows=np.stack([top, left, top + height, left + width], axis=1).astype("float32"),
        partners=rng.integers(0, count, count).astype("int32"),
        shares=np.where(mixed, rng.uniform(0, 1, count), 0).astype("float32"),
        changes=_draw_changes([seed, randomness.CHANGES, epoch, step], count, settings),
        noises=others.integers(0, 2**31, (count, 2)).astype("int32"),
    )


def _draw_changes(seeds, count, settings):
    """The `changes` of `Draws`. Each has a stream of its own, so that a further one leaves the others as they are."""
    drawn = np.zeros((count, len(CHANGES)), "float32")
    for column, change in zip(drawn.T, CHANGES):
        probability = getattr(settings, change.name)
        if probability > 0:
            rng = np.random.default_rng([*seeds, zlib.crc32(change.key.encode())])
            column[:] = np.where(rng.uniform(size=count) < probability, change.amounts(rng, count, settings), 0)
    return drawn


def check_square(images, settings, setting):
    """Raise UsageError, about a setting, if changes need square images and those of `train` are not."""
    height, width, _ = images.shape
    needy = [change.key for change in CHANGES if change.square and getattr(settings, change.name) > 0]
    if needy and height != width:
        theirs = f"those of {option('train')} are {width} x {height}"
        raise UsageError(f"{' and '.join(needy)} need square images, but {theirs}.", setting)


def change(images, changes, noises, settings):
    """Change images as drawn for each, by those of `CHANGES` that the settings make happen, in their order.

    Args:
        images: `(N, height, width, bands)`, uint8 or float32, 0-255.
        changes, noises: of `Draws`.
        settings: the `Augmentation` that they were drawn by; changes of probability 0 are left out.

    Returns:
        float32 `(N, height, width, bands)`, 0-255.
    """
    images = tf.cast(images, "float32")
    for number, each in enumerate(CHANGES):
        if getattr(settings, each.name) > 0:
            amounts = changes[:, number]
            chosen = tf.where(amounts != 0)[:, 0]  # the others are not computed
            given = (tf.gather(values, chosen) for values in (images, amounts, noises))
            images = _replaced(images, amounts != 0, each.apply(*given, settings))
    return images


def _replaced(images, which, others):
    """Images `(N, …)`, those of `which`, bool `(N,)`, replaced by others in their order."""
    count = tf.shape(images)[0]
    places = tf.where(which, count + tf.cumsum(tf.cast(which, "int32")) - 1, tf.range(count))
    return tf.gather(tf.concat([images, others], axis=0), places)


def crop(images, windows, size):
    """Cut a window out of each image and resize it, bilinear with half-pixel centres, without antialiasing.

    Args:
        images: `(N, height, width, bands)`, uint8 or float32.
        windows: float32 `(N, 4)`: top, left, bottom and right as shares of the sides.
        size: height and width of the result.

    Returns:
        float32 `(N, size, size, bands)`.
    """
    # `crop_and_resize` aligns the outermost samples with the window's edges, and has no pixels beyond the image's.
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
    """Labels of mixed images in favour of rare categories (arXiv:2007.03943).

    With λ = 1 − share, a mixture of an image of category i and one of category j is labelled j if j is rarer by a
    factor of κ and λ < τ, i if i is rarer by κ and 1 − λ < τ, else as by `mix`.

    Args:
        labels, others: float32 `(N, categories)`, one-hot: those of the images and of their partners.
        shares: float32 `(N,)`: the partner's share of the mixture.
        counts: float32 `(categories,)`: the number of images of each category.
        kappa, tau: κ and τ.
    """
    own = tf.reduce_sum(labels * counts, axis=-1)
    other = tf.reduce_sum(others * counts, axis=-1)
    partner_rules = (own >= kappa * other) & (1 - shares < tau)
    own_rules = (own * kappa <= other) & (shares < tau)
    shares = tf.where(partner_rules, 1.0, tf.where(own_rules, 0.0, shares))
    return mix(labels, others, shares)
