"""Crops and mixtures: what they do to pixels and labels, eagerly and in a dataset, and what is drawn."""

import numpy as np
import pytest
import tensorflow as tf

from lib.augmentation import Draws, crop, draw, epoch_order, mix, remix
from lib.images import _resize


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
    for one, other in zip(draw(1, 0, 0, 9, (1.0, 0.08), (1.33, 0.75)), draw(1, 0, 0, 9, (0.08, 1.0), (0.75, 1.33))):
        np.testing.assert_array_equal(one, other)
