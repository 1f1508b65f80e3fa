"""The metrics: Keras's own, counted in any number of parts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lib.measures import metrics


def example(seed=1, images=64, categories=5, soft=False):
    rng = np.random.default_rng(seed)
    drawn = rng.dirichlet(np.ones(categories), images) if soft else rng.integers(0, categories - 1, images)
    labels = drawn if soft else np.eye(categories)[drawn]
    logits = rng.normal(size=(images, categories)) * 3 + 2 * labels
    return labels.astype("float32"), logits.astype("float32"), rng.random(images).astype("float32")


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_they_are_those_of_keras(soft, compiled):
    labels, logits, losses = example(soft=soft)
    counted = (tf.function(metrics.count) if compiled else metrics.count)(labels, logits, losses)
    made = metrics.summarise(counted)
    accuracy = keras.metrics.CategoricalAccuracy()
    accuracy.update_state(labels, logits)
    area = keras.metrics.AUC(num_thresholds=200, curve="PR", from_logits=True)
    area.update_state(labels, logits)
    assert set(made) == {"loss", "accuracy", "auc", "f1"}
    assert made["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert made["accuracy"] == pytest.approx(float(accuracy.result()), rel=1e-6)
    assert made["auc"] == pytest.approx(float(area.result()), rel=1e-4)


def test_macro_f1_counts_an_absent_category_as_0():
    labels = np.eye(4, dtype="float32")[[0, 0, 1, 1, 1]]
    logits = np.eye(4, dtype="float32")[[0, 1, 1, 1, 2]]
    made = metrics.summarise(metrics.count(labels, logits, np.zeros(5, "float32")))
    assert made["f1"] == pytest.approx((2 / 3 + 2 * (2 / 3 * 2 / 3) / (4 / 3) + 0 + 0) / 4)
    assert made["accuracy"] == pytest.approx(3 / 5)


def test_parts_add_up_and_filling_does_not_count():
    labels, logits, losses = example(2)
    whole = metrics.count(labels, logits, losses)
    total = metrics.no_counts(5)
    for start in (0, 40):
        part = slice(start, start + 40)
        kept = np.ones(len(labels[part]), "float32")
        filled = [np.concatenate([values[part], values[:3]]) for values in (labels, logits, losses)]
        total = metrics.add(total, metrics.count(*filled, weights=np.append(kept, np.zeros(3, "float32"))))
    for one, other in zip(total, whole):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_more_labels_are_counted_than_float32_counts_to():
    categories, images = 2**20, 17
    counts = metrics.count(tf.zeros([images, categories]), tf.zeros([images, categories]), tf.zeros([images]))
    assert counts.negative.numpy().sum() == images * categories > 2**24
    one = metrics.count(tf.zeros([1, 1]), tf.zeros([1, 1]), tf.zeros([1]))
    counters = metrics.Counters(tf.distribute.get_strategy(), categories)
    counters.add(counts)
    for total in (metrics.add(counts, counts), counters.read()):
        wanted = np.asarray(total.negative).sum() + 1
        assert np.asarray(total.negative + one.negative).sum() == wanted


def test_no_images_give_no_number_that_is_none():
    assert set(metrics.summarise(metrics.no_counts(3)).values()) == {0.0}


def test_an_image_that_counts_twice_is_two_images():
    labels, logits, losses = example(3)
    weights = np.where(np.arange(len(labels)) < 20, 2, 1).astype("float32")
    twice = [np.concatenate([values, values[:20]]) for values in (labels, logits, losses)]
    for one, other in zip(metrics.count(labels, logits, losses, weights), metrics.count(*twice)):
        np.testing.assert_allclose(one, other, rtol=1e-5)
