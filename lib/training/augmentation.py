"""Augmentation of a batch of images on the device, in one compiled step: changes, random crops and mixtures.

Everything random is drawn beforehand, for the whole batch, from (seed, epoch, step) alone. So a resumed training draws
the same, and so do several devices with a part of the batch each.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

# Separate random streams; 2 is that of `lib.training.randomness`.
_ORDER, _BATCH, _CHANGES = 0, 1, 3

# In the order of application; each is a probability in `Hyperparameters`.
CHANGES = (
    *("left_right", "rotate_one", "rotate_three", "rotate_two", "shear_x", "shear_y", "translate_x", "translate_y"),
    *("up_down", "gaussian_noise", "invert", "solarize_add"),
)

CROPS = (0.08, 1.0), (3 / 4, 4 / 3)  # for classifiers: shares of the area, ratios of width to height


class Draws(NamedTuple):
    """The random draws for a batch of N images.

    Attributes:
        windows: float32 `(N, 4)`: top, left, bottom and right of each image's crop, as shares of its sides.
        partners: int32 `(N,)`: the image of the batch that is mixed into each.
        shares: float32 `(N,)`: the partner's share of the mixture.
        changes: float32 `(N, 12)`: the amount of each of `CHANGES`, 0 for none: a share of the side for shears and
            translations, a standard deviation for noise, else 1; `(N, 0)` without hyperparameters.
        noises: int32 `(N, 2)`: the seed of each image's noise.
    """

    windows: np.ndarray
    partners: np.ndarray
    shares: np.ndarray
    changes: np.ndarray
    noises: np.ndarray


def epoch_order(seed, epoch, count):
    """The order of an epoch's `count` images: int64 `(count,)`."""
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(count)


def draw(seed, epoch, step, count, crops=CROPS, hyperparameters=None, mixup=1.0):
    """Draw the changes, crops and mixtures of one batch.

    Args:
        seed, epoch, step: the seeds of all draws.
        count: the number of images of the whole batch.
        crops: the ranges of a crop's share of the image's area, drawn uniformly, and of its ratio of width to height,
            in shares of the sides, drawn log-uniformly.
        hyperparameters: the `Hyperparameters` of the changes; None for no changes.
        mixup: the probability of mixing an image.

    Returns:
        `Draws`.
    """
    rng = np.random.default_rng([seed, _BATCH, epoch, step])
    areas, aspects = crops
    area = rng.uniform(*sorted(areas), count)
    aspect = np.exp(rng.uniform(*np.log(sorted(aspects)), count))
    height, width = np.minimum(np.sqrt(area / aspect), 1), np.minimum(np.sqrt(area * aspect), 1)
    top, left = rng.uniform(0, 1 - height), rng.uniform(0, 1 - width)
    others = np.random.default_rng([seed, _CHANGES, epoch, step])
    mixed = others.uniform(size=count) < mixup
    return Draws(
        windows=np.stack([top, left, top + height, left + width], axis=1).astype("float32"),
        partners=rng.integers(0, count, count).astype("int32"),
        shares=np.where(mixed, rng.uniform(0, 1, count), 0).astype("float32"),
        changes=_draw_changes(others, count, hyperparameters),
        noises=others.integers(0, 2**31, (count, 2)).astype("int32"),
    )


def _draw_changes(rng, count, hyperparameters):
    """The `changes` of `Draws`."""
    if hyperparameters is None:
        return np.zeros((count, 0), "float32")
    columns = []
    for name in CHANGES:
        done = rng.uniform(size=count) < getattr(hyperparameters, name)
        if name.startswith(("shear", "translate")):
            most = getattr(hyperparameters, f"{name}_proportion")
            amount = rng.uniform(-most, most, count)
        elif name == "gaussian_noise":
            amount = rng.uniform(0, hyperparameters.gaussian_noise_sd_max, count)
        else:
            amount = np.ones(count)
        columns.append(np.where(done, amount, 0))
    return np.stack(columns, axis=1).astype("float32")


def change(images, changes, noises, hyperparameters):
    """Mirror, turn, shear, translate, invert and solarize images and add noise, as drawn for each.

    Args:
        images: `(N, height, width, bands)`, uint8 or float32, 0-255; square if there are quarter turns.
        changes, noises: of `Draws`.
        hyperparameters: the `Hyperparameters` that they were drawn by; changes of probability 0 are left out.

    Returns:
        float32 `(N, height, width, bands)`, 0-255.
    """
    images = tf.cast(images, "float32")
    for number, name in enumerate(CHANGES):
        if getattr(hyperparameters, name) > 0:
            amounts = changes[:, number]
            chosen = tf.where(amounts != 0)[:, 0]  # the others are not computed
            given = (tf.gather(values, chosen) for values in (images, amounts, noises))
            images = _replaced(images, amounts != 0, _change_by(name, *given, hyperparameters))
    return images


def _replaced(images, which, others):
    """Images `(N, …)`, those of `which`, bool `(N,)`, replaced by others in their order."""
    count = tf.shape(images)[0]
    places = tf.where(which, count + tf.cumsum(tf.cast(which, "int32")) - 1, tf.range(count))
    return tf.gather(tf.concat([images, others], axis=0), places)


def _change_by(name, images, amounts, noises, hyperparameters):
    """Apply one change to images `(K, height, width, bands)` by amounts `(K,)`."""
    height, width = (tf.cast(side, "float32") for side in tf.unstack(tf.shape(images)[1:3]))
    return {
        "left_right": lambda: images[:, :, ::-1],
        "up_down": lambda: images[:, ::-1],
        "rotate_one": lambda: tf.transpose(images, [0, 2, 1, 3])[:, ::-1],
        "rotate_two": lambda: images[:, ::-1, ::-1],
        "rotate_three": lambda: tf.transpose(images, [0, 2, 1, 3])[:, :, ::-1],
        "shear_x": lambda: _warp(images, b=amounts),
        "shear_y": lambda: _warp(images, d=amounts),
        "translate_x": lambda: _warp(images, c=amounts * width),
        "translate_y": lambda: _warp(images, f=amounts * height),
        "gaussian_noise": lambda: _add_noise(images, amounts * 255, noises),
        "invert": lambda: 255 - images,
        "solarize_add": lambda: tf.where(
            images < hyperparameters.solarize_add_threshold * 255,
            tf.minimum(images + hyperparameters.solarize_addition * 255, 255),
            images,
        ),
    }[name]()


def _warp(images, **given):
    """Take each pixel (x, y) from (ax + by + c, dx + ey + f), in pixels, bilinear, 0 outside of the image.

    Args:
        images: float32 `(K, height, width, bands)`.
        **given: coefficients `(K,)` that differ from the identity's.
    """
    zeros = tf.zeros(tf.shape(images)[0])
    coefficients = {**dict.fromkeys("abcdef", zeros), "a": zeros + 1, "e": zeros + 1, **given}
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([*coefficients.values(), zeros, zeros], axis=1),
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def _add_noise(images, deviations, noises):
    """Add noise of the standard deviations `(K,)` to images, from seeds `(K, 2)`; the result is clipped to 0-255."""

    def one(parts):
        image, deviation, seed = parts
        return tf.clip_by_value(image + deviation * tf.random.stateless_normal(tf.shape(image), seed), 0, 255)

    noisy = tf.map_fn(one, (images, deviations, noises), fn_output_signature=images.dtype)
    return tf.reshape(noisy, tf.shape(images))  # unknown to map_fn for 0 images


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
    """Labels of mixed images in favour of rare classes (arXiv:2007.03943).

    With λ = 1 − share, a mixture of an image of class i and one of class j is labelled j if j is rarer by a factor of κ
    and λ < τ, i if i is rarer by κ and 1 − λ < τ, else as by `mix`.

    Args:
        labels, others: float32 `(N, classes)`, one-hot: those of the images and of their partners.
        shares: float32 `(N,)`: the partner's share of the mixture.
        counts: float32 `(classes,)`: the number of images of each class.
        kappa, tau: κ and τ.
    """
    own = tf.reduce_sum(labels * counts, axis=-1)
    other = tf.reduce_sum(others * counts, axis=-1)
    partner_rules = (own >= kappa * other) & (1 - shares < tau)
    own_rules = (own * kappa <= other) & (shares < tau)
    shares = tf.where(partner_rules, 1.0, tf.where(own_rules, 0.0, shares))
    return mix(labels, others, shares)
