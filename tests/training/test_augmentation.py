"""Crops and mixtures: what they do to pixels and labels, eagerly and in a dataset, and what is drawn."""

import numpy as np
import pytest
import tensorflow as tf

from lib.data.images import _resize
from lib.errors import UsageError
from lib.training.augmentation import Draws, change, check_square, crop, draw, epoch_order, mix, remix
from lib.training.changes import CHANGES
from lib.training.hyperparameters import PUBLISHED, Augmentation


def pictures(count=3, height=20, width=28, bands=3):
    return np.random.default_rng(1).integers(0, 256, (count, height, width, bands)).astype("uint8")


def everywhere(function, *arrays):
    """The results of a function called eagerly, in a `tf.function`, and in a dataset; they have to be the same."""
    eager = function(*map(tf.constant, arrays)).numpy()
    compiled = tf.function(function)(*map(tf.constant, arrays)).numpy()
    dataset = tf.data.Dataset.from_tensors(arrays).map(function)
    (mapped,) = dataset.as_numpy_iterator()
    rounding = 1e-5 * np.abs(eager).max()
    np.testing.assert_allclose(compiled, eager, atol=rounding)
    np.testing.assert_allclose(mapped, eager, atol=rounding)
    return eager


def test_the_whole_image_is_left_as_it_is():
    images = pictures(height=24, width=24)
    windows = np.tile(np.array([[0, 0, 1, 1]], "float32"), (3, 1))
    np.testing.assert_allclose(everywhere(lambda i, w: crop(i, w, 24), images, windows), images, atol=1e-3)


@pytest.mark.parametrize("size", [8, 24, 50])
def test_the_whole_image_is_resized_as_pictures_are_that_are_predicted_on(size):
    images = pictures()
    windows = np.tile(np.array([[0, 0, 1, 1]], "float32"), (3, 1))
    resized = everywhere(lambda i, w: crop(i, w, size), images, windows)
    for ours, picture in zip(resized, images):
        np.testing.assert_allclose(ours, _resize(size, picture), atol=0.02)


def test_a_window_of_whole_pixels_is_cut_out():
    images = pictures(height=20, width=20)
    windows = np.array([[0, 0, 0.5, 0.5], [0.5, 0.25, 1, 0.75], [0.1, 0.5, 0.6, 1]], "float32")
    cut = everywhere(lambda i, w: crop(i, w, 10), images, windows)
    np.testing.assert_allclose(cut[0], images[0, :10, :10], atol=1e-3)
    np.testing.assert_allclose(cut[1], images[1, 10:, 5:15], atol=1e-3)
    np.testing.assert_allclose(cut[2], images[2, 2:12, 10:], atol=1e-3)


def test_mixtures_of_pixels_and_labels():
    values, others = np.full((2, 4, 4, 3), 100, "float32"), np.full((2, 4, 4, 3), 200, "float32")
    mixed = everywhere(mix, values, others, np.array([0.25, 1], "float32"))
    assert (mixed[0] == 125).all() and (mixed[1] == 200).all()
    labels = everywhere(mix, np.eye(2, dtype="float32"), np.eye(2, dtype="float32")[::-1].copy(), np.float32([0.25, 0]))
    np.testing.assert_allclose(labels, [[0.75, 0.25], [0, 1]])


def test_remix_follows_the_article():
    """Classes of 100, 10 and 90 images, κ = 3, τ = 0.5."""
    counts = np.array([100, 10, 90], "float32")
    cases = [
        # own, partner, share of the partner -> label
        (0, 1, 0.6, [0, 1, 0]),  # the partner is rarer and λ = 0.4 < τ
        (0, 1, 0.4, [0.6, 0.4, 0]),  # λ = 0.6
        (1, 0, 0.4, [0, 1, 0]),  # the image is rarer and 1 − λ = 0.4 < τ
        (1, 0, 0.6, [0.6, 0.4, 0]),
        (0, 2, 0.9, [0.1, 0, 0.9]),  # about as frequent
        (1, 1, 0.3, [0, 1, 0]),
    ]
    own, partner, shares, expected = zip(*cases)
    one_hot = np.eye(3, dtype="float32")
    labels = everywhere(
        lambda a, b, s: remix(a, b, s, counts, 3.0, 0.5),
        one_hot[list(own)],
        one_hot[list(partner)],
        np.array(shares, "float32"),
    )
    np.testing.assert_allclose(labels, expected, atol=1e-6)


def test_what_is_drawn_follows_from_seed_epoch_and_step_alone():
    for one, other in zip(draw(1, 2, 3, 64), draw(1, 2, 3, 64)):
        np.testing.assert_array_equal(one, other)
    for other in (draw(2, 2, 3, 64), draw(1, 3, 3, 64), draw(1, 2, 4, 64)):
        assert not np.array_equal(other.windows, draw(1, 2, 3, 64).windows)
    assert np.array_equal(epoch_order(1, 2, 50), epoch_order(1, 2, 50))
    assert not np.array_equal(epoch_order(1, 2, 50), epoch_order(1, 3, 50))
    assert sorted(epoch_order(1, 2, 50)) == list(range(50))


def test_the_ranges_of_what_is_drawn():
    drawn = Draws(*(np.concatenate(parts) for parts in zip(*(draw(1, 0, step, 500) for step in range(20)))))
    top, left, bottom, right = drawn.windows.T
    assert drawn.windows.min() >= 0 and drawn.windows.max() <= 1 + 1e-6
    height, width = bottom - top, right - left
    area, aspect = height * width, width / height
    inside = (height < 0.999) & (width < 0.999)  # not clipped
    assert area.min() >= 0.07 and area[inside].mean() == pytest.approx(0.5, abs=0.05)
    assert aspect[inside].min() > 0.74 and aspect[inside].max() < 1.34
    assert np.log(aspect[inside]).mean() == pytest.approx(0, abs=0.02)
    assert drawn.partners.min() == 0 and drawn.partners.max() == 499
    assert (drawn.partners[:500] == np.arange(500)).mean() < 0.02
    assert drawn.shares.mean() == pytest.approx(0.5, abs=0.02) and drawn.shares.max() < 1
    assert top[inside].mean() > 0.1 and (1 - bottom[inside]).mean() == pytest.approx(top[inside].mean(), abs=0.02)


def test_swapped_ranges_are_the_same():
    swapped = Augmentation(scale_low=1.0, scale_high=0.08, ratio_low=1.33, ratio_high=0.75)
    ordered = Augmentation(scale_low=0.08, scale_high=1.0, ratio_low=0.75, ratio_high=1.33)
    for one, other in zip(draw(1, 0, 0, 9, swapped), draw(1, 0, 0, 9, ordered)):
        np.testing.assert_array_equal(one, other)


def changed(name, images, amount, seeds=None, **strengths):
    """Images after the change with this name, by the same amount each, everywhere."""
    (number,) = [number for number, each in enumerate(CHANGES) if each.name == name]
    changes = np.zeros((len(images), len(CHANGES)), "float32")
    changes[:, number] = amount
    seeds = np.arange(2 * len(images)).reshape(-1, 2) if seeds is None else seeds
    settings = Augmentation(**{name: 0.5}, **strengths)
    return everywhere(lambda i, c, n: change(i, c, n, settings), images, changes, np.array(seeds, "int32"))


def moved(source):
    """A function from an image to one whose pixel (x, y) is, bilinear, that at `source(x, y)`, 0 outside."""

    def move(image):
        height, width = image.shape[:2]
        result = np.zeros(image.shape)
        for y in range(height):
            for x in range(width):
                from_x, from_y = source(x, y)
                left, top = int(np.floor(from_x)), int(np.floor(from_y))
                for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                    if 0 <= row < height and 0 <= column < width:
                        result[y, x] += (1 - abs(from_y - row)) * (1 - abs(from_x - column)) * image[row, column]
        return result

    return move


def blurred(image):
    """An image blurred by a standard deviation of a tenth of its sides: each pixel is a weighted mean of all."""
    weights = np.exp(-0.5 * ((np.arange(12)[:, None] - np.arange(12)) / 1.2) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("yv,xw,vwb->yxb", weights, weights, image)


def in_range(values):
    return np.clip(values, 0, 255)


# What each change does to the pixels of a 12 x 12 image, by an amount: name -> [(amount, image -> image), …].
PIXELS = {
    "left_right": [(1, lambda image: image[:, ::-1])],
    "up_down": [(1, lambda image: image[::-1])],
    "rotate_one": [(1, lambda image: np.rot90(image, 1))],  # counter-clockwise
    "rotate_two": [(1, lambda image: np.rot90(image, 2))],
    "rotate_three": [(1, lambda image: np.rot90(image, 3))],
    "shear_x": [(0.25, moved(lambda x, y: (x + 0.25 * y, y))), (-0.15, moved(lambda x, y: (x - 0.15 * y, y)))],
    "shear_y": [(0.25, moved(lambda x, y: (x, y + 0.25 * x))), (-0.15, moved(lambda x, y: (x, y - 0.15 * x)))],
    "translate_x": [(0.25, moved(lambda x, y: (x + 3, y))), (-0.15, moved(lambda x, y: (x - 1.8, y)))],
    "translate_y": [(0.25, moved(lambda x, y: (x, y + 3))), (-0.15, moved(lambda x, y: (x, y - 1.8)))],
    "blur": [(0.1, blurred), (1e-6, lambda image: image)],
    "brightness": [(0.5, lambda image: in_range(image * 1.5)), (-0.2, lambda image: image * 0.8)],
    "contrast": [
        (1.0, lambda image: in_range(2.0 * image - image.mean())),
        (-0.25, lambda image: 0.75 * image + 0.25 * image.mean()),
    ],
    "warmth": [(0.3, lambda image: in_range(image * np.array([1.3, 1, 0.7])))],
    "invert": [(1, lambda image: 255 - image)],
    "solarize_add": [(1, lambda image: np.where(image < 102, np.minimum(image + 178.5, 255), image))],
}
STRENGTHS = {"solarize_add": {"solarize_add_threshold": 0.4, "solarize_addition": 0.7}}


@pytest.mark.parametrize("name", [each.name for each in CHANGES if each.name != "gaussian_noise"])
def test_what_a_change_does_to_pixels(name):
    images = pictures(height=12, width=12)
    images[0, 0, :, 0] = 102  # the threshold of solarizing
    for amount, expected in PIXELS[name]:
        done = changed(name, images, amount, **STRENGTHS.get(name, {}))
        for ours, image in zip(done, images):
            np.testing.assert_allclose(ours, expected(image.astype("float64")), atol=0.02)
    np.testing.assert_array_equal(changed(name, images, 0, **STRENGTHS.get(name, {})), images)


def test_shears_translations_and_blurs_of_images_that_are_no_squares():
    images = pictures(2)  # 28 x 20
    for name, source in (
        ("shear_x", lambda x, y: (x + 0.25 * y, y)),
        ("translate_x", lambda x, y: (x + 7, y)),
        ("translate_y", lambda x, y: (x, y + 5)),
    ):
        for ours, image in zip(changed(name, images, 0.25), images):
            np.testing.assert_allclose(ours, moved(source)(image), atol=0.02)
    done = changed("blur", images, 0.1)
    turned = changed("blur", images.transpose(0, 2, 1, 3), 0.1)
    np.testing.assert_allclose(done, turned.transpose(0, 2, 1, 3), atol=0.02)
    assert done.std() < 0.5 * images.std()


def test_grey_images_have_no_warmth():
    images = pictures(bands=1)
    np.testing.assert_array_equal(changed("warmth", images, 0.3), images)


def test_noise_has_its_deviation_and_follows_from_its_numbers_alone():
    images = np.full((3, 64, 64, 3), 128, "uint8")
    seeds = ((1, 2), (3, 4), (5, 6))
    done = changed("gaussian_noise", images, 0.1, seeds)
    assert (done - 128).std() == pytest.approx(25.5, rel=0.03) and (done - 128).mean() == pytest.approx(0, abs=0.5)
    assert not np.array_equal(done[0], done[1])
    again = changed("gaussian_noise", images, 0.1, ((3, 4), (1, 2), (9, 9)))
    np.testing.assert_array_equal(again[:2], done[1::-1])
    loud = changed("gaussian_noise", images, 2.0, seeds)
    assert loud.min() == 0 and loud.max() == 255
    np.testing.assert_array_equal(changed("gaussian_noise", images, 0, seeds), images)


def test_changes_come_in_their_order():
    images = pictures(1, 12, 12)
    everything = Augmentation(**{each.name: 1.0 for each in CHANGES})
    drawn = draw(1, 0, 0, 1, everything)
    expected = images
    for each in CHANGES:
        expected = change(expected, drawn.changes, drawn.noises, Augmentation(**{each.name: 1.0}))
    np.testing.assert_allclose(change(images, drawn.changes, drawn.noises, everything), expected, atol=1e-3)
    published = ("leftRight", "rotateOne", "rotateThree", "rotateTwo", "shearX", "shearY", "translateX", "translateY")
    published += ("upDown", "GaussianNoise", "invert", "solarizeAdd")
    assert tuple(each.key for each in CHANGES if each.key in published) == published


def test_changes_are_drawn_as_probably_and_as_strongly_as_asked():
    given = {each.name: 0.1 + 0.05 * number for number, each in enumerate(CHANGES)}
    drawn = draw(1, 2, 3, 20_000, Augmentation(**given, shear_y_proportion=0.3, gaussian_noise_sd_max=0.5))
    for number, each in enumerate(CHANGES):
        assert (drawn.changes[:, number] != 0).mean() == pytest.approx(given[each.name], abs=0.015), each.name
    amounts = {each.name: column for each, column in zip(CHANGES, drawn.changes.T)}
    for name, low, high in (
        ("shear_x", -0.1, 0.1),
        ("shear_y", -0.3, 0.3),
        ("gaussian_noise", 0, 0.5),
        ("blur", 0, 0.01),
        ("warmth", -0.1, 0.1),
    ):
        values, slack = amounts[name][amounts[name] != 0], 0.05 * (high - low)
        assert low <= values.min() < low + slack and high - slack < values.max() <= high + 1e-7, name
    both = (amounts["left_right"] != 0) & (amounts["up_down"] != 0)
    assert both.mean() == pytest.approx(given["left_right"] * given["up_down"], abs=0.01)


def test_changes_leave_crops_mixtures_and_other_changes_as_they_are():
    plain, other = draw(1, 2, 3, 50), draw(1, 2, 3, 50, Augmentation(invert=0.5))
    for name in ("windows", "partners", "shares", "noises"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(other, name))
    assert not plain.changes.any()
    more = draw(1, 2, 3, 50, Augmentation(invert=0.5, left_right=0.5, blur=1.0))
    inverted = [each.name for each in CHANGES].index("invert")
    assert other.changes[:, inverted].any()
    np.testing.assert_array_equal(more.changes[:, inverted], other.changes[:, inverted])
    fewer = draw(1, 2, 3, 5000, Augmentation(mixup=0.3))
    assert (fewer.shares > 0).mean() == pytest.approx(0.3, abs=0.02)
    assert not draw(1, 2, 3, 50, Augmentation(mixup=0)).shares.any()


def test_the_published_augmentation_is_drawn_as_ever():
    """Cropping and mixing alone, from NumPy's generator: the same as before there was a choice."""
    drawn = draw(1, 2, 3, 2)
    np.testing.assert_allclose(drawn.windows[0], [0.023503976, 0.090356313, 0.94283426, 0.79049844], rtol=1e-6)
    np.testing.assert_allclose(drawn.shares, [0.70049882, 0.91974723], rtol=1e-6)


def test_what_never_happens_is_not_computed():
    graph = tf.function(lambda i, c, n: change(i, c, n, PUBLISHED)).get_concrete_function(
        tf.TensorSpec((2, 8, 8, 3), tf.uint8),
        tf.TensorSpec((2, len(CHANGES))),
        tf.TensorSpec((2, 2), tf.int32),
    )
    assert {node.type for node in graph.graph.get_operations()} <= {"Placeholder", "Cast", "Identity"}


def test_quarter_turns_need_squares():
    check_square(np.zeros((4, 4, 3)), Augmentation(rotate_one=0.5), "augment")
    check_square(np.zeros((4, 5, 3)), Augmentation(rotate_two=0.5), "augment")
    with pytest.raises(UsageError, match="^rotateOne and rotateThree need square images, but .* are 5 x 4") as caught:
        check_square(np.zeros((4, 5, 3)), Augmentation(rotate_one=0.5, rotate_three=0.1), "augment")
    assert caught.value.setting == "augment"
