"""The changes that augment images, a registry: what each is called, how strongly it acts, what it does to pixels.

To add one, write a function of images, amounts, seeds and settings, enter it in `CHANGES`, and add what it does to the
pixels of an image to `tests/training/test_augmentation.py`. Settings, logs, searches and the command line follow.
"""

from typing import Callable, NamedTuple, Tuple

from lib.system.lazy import LazyModule

tf = LazyModule("tensorflow")


class Strength(NamedTuple):
    """A number from 0 to 1 that says how strongly a change acts.

    Attributes:
        name, key: in the settings, and in a log.
        meaning: for the documentation.
        range: the default range of a search.
        default: its value where none is given.
    """

    name: str
    key: str
    meaning: str
    range: Tuple[float, float] = (0.05, 0.3)
    default: float = 0.1


def _one(rng, count, settings):
    """The `amounts` of a change that is always the same."""
    return rng.uniform(1, 1, count)


class Change(NamedTuple):
    """A change.

    Attributes:
        name, key: of its probability, in the settings and in a log.
        meaning: of that, for the documentation.
        apply: from float32 images `(K, height, width, bands)`, 0-255, their amounts, float32 `(K,)`, their seeds, int32
            `(K, 2)`, and the settings to changed images.
        amounts: from a NumPy generator, a count and the settings to the amounts of as many images.
        strengths: the further settings that it has.
        square: whether images have to be square.
    """

    name: str
    key: str
    meaning: str
    apply: Callable
    amounts: Callable = _one
    strengths: Tuple[Strength, ...] = ()
    square: bool = False


def _within(strength, lowest=-1):
    """The `amounts` from `lowest` times a strength to that strength, uniformly."""

    def amounts(rng, count, settings):
        most = getattr(settings, strength)
        return rng.uniform(lowest * most, most, count)

    return amounts


def _left_right(images, amounts, seeds, settings):
    return images[:, :, ::-1]


def _rotate_one(images, amounts, seeds, settings):
    return tf.transpose(images, [0, 2, 1, 3])[:, ::-1]


def _rotate_two(images, amounts, seeds, settings):
    return images[:, ::-1, ::-1]


def _rotate_three(images, amounts, seeds, settings):
    return tf.transpose(images, [0, 2, 1, 3])[:, :, ::-1]


def _shear_x(images, amounts, seeds, settings):
    return _warp(images, b=amounts)


def _shear_y(images, amounts, seeds, settings):
    return _warp(images, d=amounts)


def _translate_x(images, amounts, seeds, settings):
    return _warp(images, c=amounts * tf.cast(tf.shape(images)[2], "float32"))


def _translate_y(images, amounts, seeds, settings):
    return _warp(images, f=amounts * tf.cast(tf.shape(images)[1], "float32"))


def _up_down(images, amounts, seeds, settings):
    return images[:, ::-1]


def _blur(images, amounts, seeds, settings):
    """A Gaussian blur; beyond the edges, nothing is taken into account."""
    height, width = (tf.cast(side, "float32") for side in tf.unstack(tf.shape(images)[1:3]))
    deviations = tf.maximum(amounts * tf.minimum(height, width), 1e-3)  # in pixels; at 0.001 nothing is changed

    def weights(side):
        """Each place's weights of all places of its line: `(K, side, side)`."""
        places = tf.range(side)
        distances = (places[:, None] - places[None, :]) / deviations[:, None, None]
        return tf.nn.softmax(-0.5 * distances**2)

    return tf.einsum("kyv,kxw,kvwb->kyxb", weights(height), weights(width), images, optimize="optimal")


def _brightness(images, amounts, seeds, settings):
    return tf.clip_by_value(images * _each(1 + amounts), 0, 255)


def _contrast(images, amounts, seeds, settings):
    means = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    return tf.clip_by_value(means + (images - means) * _each(1 + amounts), 0, 255)


def _warmth(images, amounts, seeds, settings):
    if images.shape[-1] != 3:
        return images
    factors = tf.stack([1 + amounts, tf.ones_like(amounts), 1 - amounts], axis=-1)[:, None, None]
    return tf.clip_by_value(images * factors, 0, 255)


def _gaussian_noise(images, amounts, seeds, settings):
    def one(parts):
        image, amount, seed = parts
        return tf.clip_by_value(image + 255 * amount * tf.random.stateless_normal(tf.shape(image), seed), 0, 255)

    noisy = tf.map_fn(one, (images, amounts, seeds), fn_output_signature=images.dtype)
    return tf.reshape(noisy, tf.shape(images))  # unknown to map_fn for 0 images


def _invert(images, amounts, seeds, settings):
    return 255 - images


def _solarize_add(images, amounts, seeds, settings):
    lighter = tf.minimum(images + settings.solarize_addition * 255, 255)
    return tf.where(images < settings.solarize_add_threshold * 255, lighter, images)


def _each(numbers):
    """Numbers `(K,)` for multiplying images `(K, height, width, bands)` by."""
    return numbers[:, None, None, None]


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


def _moving(name, key, meaning, apply, of_strength):
    """A shear or translation by an amount in either direction."""
    proportion = Strength(f"{name}_proportion", f"{key}proportion", of_strength)
    return Change(name, key, meaning, apply, _within(proportion.name), (proportion,))


# In the order of application.
CHANGES = (
    Change("left_right", "leftRight", "probability of flipping left to right", _left_right),
    Change("rotate_one", "rotateOne", "probability of a quarter turn counter-clockwise", _rotate_one, square=True),
    Change("rotate_three", "rotateThree", "probability of three quarter turns", _rotate_three, square=True),
    Change("rotate_two", "rotateTwo", "probability of two quarter turns", _rotate_two),
    _moving(
        "shear_x",
        "shearX",
        "probability of shearing along x, x += s·y about the top left corner",
        _shear_x,
        "s is drawn uniformly from ± this",
    ),
    _moving("shear_y", "shearY", "probability of shearing along y, y += s·x", _shear_y, "likewise"),
    _moving(
        "translate_x",
        "translateX",
        "probability of translation along x",
        _translate_x,
        "maximum translation, as a share of the width",
    ),
    _moving(
        "translate_y",
        "translateY",
        "probability of translation along y",
        _translate_y,
        "likewise, of the height",
    ),
    Change("up_down", "upDown", "probability of flipping top to bottom", _up_down),
    Change(
        "blur",
        "blur",
        "probability of a Gaussian blur",
        _blur,
        _within("blur_sd_max", lowest=0),
        (
            Strength(
                "blur_sd_max",
                "blurSDmax",
                "the blur's standard deviation is drawn uniformly from 0 to this share of the shorter side",
                range=(0.002, 0.02),
                default=0.01,
            ),
        ),
    ),
    Change(
        "brightness",
        "brightness",
        "probability of multiplying all values by a factor",
        _brightness,
        _within("brightness_change"),
        (Strength("brightness_change", "brightnessChange", "the factor is drawn uniformly from 1 ± this"),),
    ),
    Change(
        "contrast",
        "contrast",
        "probability of multiplying the values' distances from their mean by a factor",
        _contrast,
        _within("contrast_change"),
        (Strength("contrast_change", "contrastChange", "likewise"),),
    ),
    Change(
        "warmth",
        "warmth",
        "probability of warmer or colder light: red × (1 + w), blue × (1 - w)",
        _warmth,
        _within("warmth_change"),
        (Strength("warmth_change", "warmthChange", "w is drawn uniformly from ± this"),),
    ),
    Change(
        "gaussian_noise",
        "GaussianNoise",
        "probability of adding noise",
        _gaussian_noise,
        _within("gaussian_noise_sd_max", lowest=0),
        (
            Strength(
                "gaussian_noise_sd_max",
                "GaussianNoiseSDmax",
                "the noise's standard deviation is drawn uniformly from 0 to this × 255",
                range=(0.02, 0.2),
            ),
        ),
    ),
    Change("invert", "invert", "probability of inverting", _invert),
    Change(
        "solarize_add",
        "solarizeAdd",
        "probability of lightening dark values",
        _solarize_add,
        strengths=(
            Strength("solarize_addition", "solarizeAddition", "this × 255 is added to values", range=(0.05, 0.5)),
            Strength("solarize_add_threshold", "solarizeAddThreshold", "if they are below this × 255", (0.05, 0.5)),
        ),
    ),
)
