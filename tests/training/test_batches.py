"""What steps are fed with: the replicas' parts make up the whole batch."""

import numpy as np
import pytest
import tensorflow as tf
from toys import write_records
from trainings import images_of

from lib.training.augmentation import draw
from lib.training.batches import feeds, mixed_examples, plain_feed, stacked, training_feed


@pytest.fixture
def images(tmp_path):
    return images_of(write_records(tmp_path / "a.tfr", 30, 1))


@pytest.mark.parametrize("replicas", [2, 3])
def test_the_replicas_parts_are_the_whole_batch(images, replicas):
    indices, draws = np.random.default_rng(1).permutation(30)[:12], draw(1, 2, 3, 12)
    whole = mixed_examples(training_feed(images, indices, draws), 16, 3)
    parts = [
        mixed_examples(training_feed(images, indices, draws, replica, replicas), 16, 3) for replica in range(replicas)
    ]
    for values, *others in zip(whole[:2], *parts):
        np.testing.assert_allclose(tf.concat(others, axis=0), values, atol=1e-3)


def test_eagerly_compiled_and_in_a_dataset_it_is_the_same(images):
    feed = training_feed(images, np.arange(8), draw(1, 2, 3, 8))
    (mapped,) = tf.data.Dataset.from_tensors(feed).map(lambda feed: mixed_examples(feed, 16, 3))
    compiled = tf.function(lambda feed: mixed_examples(feed, 16, 3))(feed)
    for values, *others in zip(mixed_examples(feed, 16, 3)[:2], compiled, mapped):
        for other in others:
            np.testing.assert_allclose(other, values, atol=1e-3)


def test_the_label_is_mixed_like_the_image(images):
    draws = draw(1, 2, 3, 4)._replace(windows=np.tile(np.float32([0, 0, 1, 1]), (4, 1)))
    pixels, labels, _ = mixed_examples(training_feed(images, np.arange(4), draws), 16, 3)
    for number in range(4):
        share, partner = draws.shares[number], draws.partners[number]
        expected = (1 - share) * images.take([number]) + share * images.take([partner])
        np.testing.assert_allclose(pixels[number], expected[0], atol=1e-2)
        one_hot = np.eye(3)[images.records.category]
        np.testing.assert_allclose(labels[number], (1 - share) * one_hot[number] + share * one_hot[partner], atol=1e-6)


def test_the_last_batch_is_filled_and_says_so(images):
    parts = [plain_feed(images, 24, 8, replica, 2) for replica in range(2)]
    np.testing.assert_array_equal(np.concatenate([part.mask for part in parts]), [1, 1, 1, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(parts[0].images, images.take(np.arange(24, 28)))
    np.testing.assert_array_equal(parts[1].images[:2], images.take(np.arange(28, 30)))


def test_feeds_come_in_order_and_end_with_their_reader(images):
    strategy = tf.distribute.OneDeviceStrategy("/CPU:0")
    made = feeds(
        strategy, range(0, 30, 8), lambda start, *replica: stacked([plain_feed(images, start, 8, *replica)] * 2)
    )
    first = next(made)
    assert first.images.shape == (2, 8, 16, 16, 3)
    np.testing.assert_array_equal(first.categories[1], images.records.category[:8])
    assert [int(feed.categories[0, 0]) for feed in made] == [images.records.category[start] for start in (8, 16, 24)]
