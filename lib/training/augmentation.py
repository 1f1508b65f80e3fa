"""What is done to a batch of images while training: changes, crops at random and mixtures, on the device, in one
compiled step.

What is drawn at random is drawn beforehand, for the whole batch, from (seed, epoch, step) alone: so a resumed training
draws the same, and so do several devices that have a part of the batch each.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

# For each purpose a stream of its own; 2 is that of `lib.training.randomness`.
_ORDER, _BATCH, _CHANGES = 0, 1, 3

# In the order in which they are done; each is a probability of `Hyperparameters`.
CHANGES = (
    *("left_right", "rotate_one", "rotate_three", "rotate_two", "shear_x", "shear_y", "translate_x", "translate_y"),
    *("up_down", "gaussian_noise", "invert", "solarize_add"),
)

CROPS = (0.08, 1.0), (3 / 4, 4 / 3)  # of a classifier's training: shares of the area, widths by heights


class Draws(NamedTuple):
    """What is drawn for a batch of N images.

    Attributes:
        windows: float32 `(N, 4)`: top, left, bottom and right of each image's crop, as shares of its sides.
        partners: int32 `(N,)`: which image of the batch is mixed into each.
        shares: float32 `(N,)`: how much of the mixture the partner is.
        changes: float32 `(N, 12)`: how much of each of `CHANGES` is done, 0 for nothing: a share of the side for what
            shears and translates, a standard deviation for noise, else 1; `(N, 0)` where none ever is.
        noises: int32 `(N, 2)`: what each image's noise follows from.
    """

    windows: np.ndarray
    partners: np.ndarray
    shares: np.ndarray
    changes: np.ndarray
    noises: np.ndarray


def epoch_order(seed, epoch, count):
    """In what order an epoch takes `count` images: int64 `(count,)`."""
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(count)


def draw(seed, epoch, step, count, crops=CROPS, hyperparameters=None, mixup=1.0):
    """Draw the changes, crops and mixtures of one batch.

    Args:
        seed, epoch, step: from which all follows.
        count: how many images the whole batch has.
        crops: a crop's least and largest share of the image's area, and its least and largest width by height, as
            shares of the sides; the latter is drawn evenly in the logarithm.
        hyperparameters: the `Hyperparameters` that images are changed by; None for no changes.
        mixup: with what probability an image is mixed.

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
    """Mirror, turn, shear and move images, add noise, invert and solarize them, each as was drawn for it.

    Args:
        images: `(N, height, width, bands)`, uint8 or float32, 0-255; square if there are quarter turns.
        changes, noises: of `Draws`.
        hyperparameters: the `Hyperparameters` that they were drawn by: what it never does costs nothing.

    Returns:
        float32 `(N, height, width, bands)`, 0-255.
    """
    images = tf.cast(images, "float32")
    for number, name in enumerate(CHANGES):
        if getattr(hyperparameters, name) > 0:
            amounts = changes[:, number]
            chosen = tf.where(amounts != 0)[:, 0]  # so that the others cost nothing
            given = (tf.gather(values, chosen) for values in (images, amounts, noises))
            images = _replaced(images, amounts != 0, _change_by(name, *given, hyperparameters))
    return images


def _replaced(images, which, others):
    """Images `(N, …)`, those of `which`, bool `(N,)`, replaced by others in their order."""
    count = tf.shape(images)[0]
    places = tf.where(which, count + tf.cumsum(tf.cast(which, "int32")) - 1, tf.range(count))
    return tf.gather(tf.concat([images, others], axis=0), places)


def _change_by(name, images, amounts, noises, hyperparameters):
    """Images `(K, height, width, bands)` after the change of one name by amounts `(K,)`."""
    zeros, ones = tf.zeros_like(amounts), tf.ones_like(amounts)
    sides = tf.cast(tf.shape(images)[1:3], "float32")
    if name == "shear_x":
        return _warp(images, [ones, amounts, zeros, zeros, ones, zeros])
    if name == "shear_y":
        return _warp(images, [ones, zeros, zeros, amounts, ones, zeros])
    if name == "translate_x":
        return _warp(images, [ones, zeros, amounts * sides[1], zeros, ones, zeros])
    if name == "translate_y":
        return _warp(images, [ones, zeros, zeros, zeros, ones, amounts * sides[0]])
    if name == "gaussian_noise":
        return _add_noise(images, amounts * 255, noises)
    return {
        "left_right": lambda: images[:, :, ::-1],
        "up_down": lambda: images[:, ::-1],
        "rotate_one": lambda: tf.transpose(images, [0, 2, 1, 3])[:, ::-1],
        "rotate_two": lambda: images[:, ::-1, ::-1],
        "rotate_three": lambda: tf.transpose(images, [0, 2, 1, 3])[:, :, ::-1],
        "invert": lambda: 255 - images,
        "solarize_add": lambda: tf.where(
            images < hyperparameters.solarize_add_threshold * 255,
            tf.minimum(images + hyperparameters.solarize_addition * 255, 255),
            images,
        ),
    }[name]()


def _warp(images, coefficients):
    """Take each pixel (x, y) from (ax + by + c, dx + ey + f) of its image, bilinear, 0 outside: x and y in pixels from
    the centre of the top left one.

    Args:
        images: float32 `(K, height, width, bands)`.
        coefficients: a, b, c, d, e, f, each `(K,)`.
    """
    zeros = tf.zeros_like(coefficients[0])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([*coefficients, zeros, zeros], axis=1),
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def _add_noise(images, deviations, noises):
    """Add to each image noise of its standard deviation `(K,)`, which follows from its two numbers `(K, 2)` alone, so
    that it is the same on whatever device; the result stays within 0-255.
    """

    def one(parts):
        image, deviation, seed = parts
        return tf.clip_by_value(image + deviation * tf.random.stateless_normal(tf.shape(image), seed), 0, 255)

    noisy = tf.map_fn(one, (images, deviations, noises), fn_output_signature=images.dtype)
    return tf.reshape(noisy, tf.shape(images))  # which it lacks if there are none


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
