"""Crops and mixtures: what they do to pixels and labels, eagerly and in a dataset, and what is drawn."""

import numpy as np
import pytest
import tensorflow as tf

from lib.data.images import _resize
from lib.training.augmentation import CHANGES, Draws, change, crop, draw, epoch_order, mix, remix
from lib.training.hyperparameters import Hyperparameters


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
        np.testing.assert_allclose(ours, _resize(picture, size), atol=0.02)


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
    for one, other in zip(draw(1, 0, 0, 9, ((1.0, 0.08), (1.33, 0.75))), draw(1, 0, 0, 9, ((0.08, 1.0), (0.75, 1.33)))):
        np.testing.assert_array_equal(one, other)


def search(**given):
    """What never changes an image but by what is given."""
    return Hyperparameters(**given)


def changed(images, made, amount, noises=((1, 2), (3, 4), (5, 6))):
    """Images after the one change that `made` has, by the same amount each, everywhere."""
    (number,) = [number for number, name in enumerate(CHANGES) if getattr(made, name)]
    changes = np.zeros((len(images), len(CHANGES)), "float32")
    changes[:, number] = amount
    return everywhere(lambda i, c, n: change(i, c, n, made), images, changes, np.array(noises, "int32"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("left_right", lambda image: image[:, ::-1]),
        ("up_down", lambda image: image[::-1]),
        ("rotate_one", lambda image: np.rot90(image, 1)),  # counter-clockwise
        ("rotate_two", lambda image: np.rot90(image, 2)),
        ("rotate_three", lambda image: np.rot90(image, 3)),
        ("invert", lambda image: 255 - image),
    ],
)
def test_mirrors_quarter_turns_and_negatives(name, expected):
    images = pictures(height=12, width=12)
    done = changed(images, search(**{name: 0.5}), 1)
    for ours, image in zip(done, images):
        np.testing.assert_array_equal(ours, expected(image))
    np.testing.assert_array_equal(changed(images, search(**{name: 0.5}), 0), images)


def moved(image, source):
    """An image whose pixel (x, y) is, bilinear, that at `source(x, y)`, 0 outside: one at a time."""
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


@pytest.mark.parametrize("amount", [0.25, -0.15, 0.0])
@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("shear_x", lambda x, y, s: (x + s * y, y)),
        ("shear_y", lambda x, y, s: (x, y + s * x)),
        ("translate_x", lambda x, y, s: (x + 28 * s, y)),
        ("translate_y", lambda x, y, s: (x, y + 20 * s)),
    ],
)
def test_shears_and_translations(name, source, amount):
    images = pictures(2)
    done = changed(images, search(**{name: 0.5}), amount, noises=((1, 2), (3, 4)))
    for ours, image in zip(done, images):
        np.testing.assert_allclose(ours, moved(image, lambda x, y: source(x, y, amount)), atol=0.02)


def test_solarized():
    image = np.arange(0, 240, 6, "uint8").reshape(1, 4, 10, 1)  # one of 102, which is the threshold
    made = search(solarize_add=1.0, solarize_add_threshold=0.4, solarize_addition=0.7)
    done = changed(image, made, 1, noises=((1, 2),))
    np.testing.assert_allclose(done, np.where(image < 102, np.minimum(image + 178.5, 255), image))


def test_noise_has_its_deviation_and_follows_from_its_numbers_alone():
    images = np.full((3, 64, 64, 3), 128, "uint8")
    made = search(gaussian_noise=1.0)
    done = changed(images, made, 0.1)
    assert (done - 128).std() == pytest.approx(25.5, rel=0.03) and (done - 128).mean() == pytest.approx(0, abs=0.5)
    assert not np.array_equal(done[0], done[1])
    again = changed(images, made, 0.1, noises=((3, 4), (1, 2), (9, 9)))
    np.testing.assert_array_equal(again[:2], done[1::-1])
    loud = changed(images, made, 2.0)
    assert loud.min() == 0 and loud.max() == 255
    np.testing.assert_array_equal(changed(images, made, 0), images)


def test_changes_come_in_the_logs_order():
    images = pictures(1, 12, 12)
    order = ("left_right", "rotate_one", "rotate_three", "rotate_two", "shear_x", "shear_y", "translate_x")
    order += ("translate_y", "up_down", "gaussian_noise", "invert", "solarize_add")
    made = search(**dict.fromkeys(order, 1.0))
    drawn = draw(1, 0, 0, 1, hyperparameters=made)
    expected = images
    for name in order:
        expected = change(expected, drawn.changes, drawn.noises, search(**{name: 1.0}))
    np.testing.assert_allclose(change(images, drawn.changes, drawn.noises, made), expected, atol=1e-3)


def test_changes_are_drawn_as_probably_and_as_strongly_as_asked():
    given = {name: 0.1 + 0.05 * number for number, name in enumerate(CHANGES)}
    made = search(**given, shear_y_proportion=0.3, gaussian_noise_sd_max=0.5)
    drawn = draw(1, 2, 3, 20_000, hyperparameters=made)
    for number, name in enumerate(CHANGES):
        assert (drawn.changes[:, number] != 0).mean() == pytest.approx(given[name], abs=0.015), name
    amounts = dict(zip(CHANGES, drawn.changes.T))
    for name, low, high in (("shear_x", -0.1, 0.1), ("shear_y", -0.3, 0.3), ("gaussian_noise", 0, 0.5)):
        values = amounts[name][amounts[name] != 0]
        assert low <= values.min() < low + 0.02 and high - 0.02 < values.max() <= high, name
    chosen = drawn.changes != 0
    assert (chosen[:, 0] & chosen[:, 8]).mean() == pytest.approx(given["left_right"] * given["up_down"], abs=0.01)


def test_changes_leave_crops_and_mixtures_as_they_are():
    plain, other = draw(1, 2, 3, 50), draw(1, 2, 3, 50, hyperparameters=search(invert=0.5))
    for name in ("windows", "partners", "shares"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(other, name))
    assert plain.changes.shape == (50, 0)
    fewer = draw(1, 2, 3, 5000, mixup=0.3)
    assert (fewer.shares > 0).mean() == pytest.approx(0.3, abs=0.02)
    assert not draw(1, 2, 3, 50, mixup=0).shares.any()


def test_what_never_happens_is_not_computed():
    graph = tf.function(lambda i, c, n: change(i, c, n, search())).get_concrete_function(
        tf.TensorSpec((2, 8, 8, 3), tf.uint8), tf.TensorSpec((2, 12)), tf.TensorSpec((2, 2), tf.int32)
    )
    assert {node.type for node in graph.graph.get_operations()} <= {"Placeholder", "Cast", "Identity"}
