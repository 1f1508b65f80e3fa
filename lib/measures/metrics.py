"""The metrics of a model on labelled images: loss, accuracy, area under the precision-recall curve, macro F1.

They are computed from counts, tensors that are added up on the device, over steps and replicas, and read once an epoch.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from lib.measures.uncertainty import divide, mean_f1

THRESHOLDS = 200


class Counts(NamedTuple):
    """Sums over images, float32 but where it says otherwise.

    Attributes:
        images: `()`: their number.
        loss: `()`: the sum of their losses.
        right: `(categories,)`: the number of images of each category, their largest label, that were answered with it.
        labels: `(categories,)`: the number of images of each category.
        answers: `(categories,)`: the number of images answered with each category.
        positive, negative: `(200,)`: the number of labels above 0, and of 0, in each of 200 steps of the sigmoid of
            their logits, float64: 1,500 images of 21,000 categories have more labels than float32 counts to.
        agreed: `()`: the number of images answered as the teacher does, 0 without one.
    """

    images: Any
    loss: Any
    right: Any
    labels: Any
    answers: Any
    positive: Any
    negative: Any
    agreed: Any


def count(labels, logits, losses, weights=None, teacher=None):
    """The counts of a batch.

    Args:
        labels: float `(images, categories)`.
        logits: float `(images, categories)`.
        losses: float `(images,)`.
        weights: float `(images,)`, 0 for padding; None for 1 each.
        teacher: float `(images, categories)`: a teacher's logits of the same images; None without one.

    Returns:
        `Counts`.
    """
    labels, logits = tf.cast(labels, "float32"), tf.cast(logits, "float32")
    weights = tf.ones_like(losses) if weights is None else weights
    categories = labels.shape[-1]
    one_hot = tf.one_hot(tf.argmax(labels, axis=-1), categories) * weights[:, None]
    answered = tf.argmax(logits, axis=-1)
    answers = tf.one_hot(answered, categories)
    steps = tf.math.ceil(tf.sigmoid(logits) * (THRESHOLDS - 1)) - 1
    steps = tf.cast(tf.clip_by_value(steps, 0, THRESHOLDS - 1), "int32")

    def histogram(where):
        amounts = tf.cast(where, "float64") * tf.cast(weights, "float64")[:, None]
        return tf.math.unsorted_segment_sum(tf.reshape(amounts, [-1]), tf.reshape(steps, [-1]), THRESHOLDS)

    agreed = tf.constant(0.0)
    if teacher is not None:
        agreed = tf.reduce_sum(weights * tf.cast(answered == tf.argmax(teacher, axis=-1), "float32"))
    return Counts(
        images=tf.reduce_sum(weights),
        loss=tf.reduce_sum(losses * weights),
        right=tf.reduce_sum(one_hot * answers, axis=0),
        labels=tf.reduce_sum(one_hot, axis=0),
        answers=tf.reduce_sum(answers * weights[:, None], axis=0),
        positive=histogram(labels > 0),  # as Keras counts soft labels
        negative=histogram(labels <= 0),
        agreed=agreed,
    )


def no_counts(categories):
    """The counts of no images, to start adding up from."""
    one, many, steps = tf.zeros([]), tf.zeros([categories]), tf.zeros([THRESHOLDS], "float64")
    return Counts(one, one, many, many, many, steps, steps, one)


def add(one, other):
    """The counts of two sets of images together."""
    return Counts(*(a + b for a, b in zip(one, other)))


def replica_variable(value, aggregation=tf.VariableAggregation.SUM):
    """A variable that each replica of a strategy has for itself, aggregated when it is read."""
    return tf.Variable(
        value, trainable=False, synchronization=tf.VariableSynchronization.ON_READ, aggregation=aggregation
    )


class Counters:
    """`Counts` that stay on the devices of a strategy, and are added up over its replicas when they are read.

    Args:
        strategy: a `tf.distribute.Strategy`.
        categories: their number.
    """

    def __init__(self, strategy, categories):
        with strategy.scope():
            self._variables = Counts(*map(replica_variable, no_counts(categories)))

    def add(self, counts):
        """Add a replica's counts, in the step that a strategy runs."""
        for variable, value in zip(self._variables, counts):
            variable.assign_add(value)

    def read(self):
        """The `Counts` of all replicas, as arrays."""
        return Counts(*(variable.read_value().numpy() for variable in self._variables))

    def assign(self, counts):
        """Continue from counts that were read before, or from `no_counts`."""
        for variable, value in zip(self._variables, counts):
            variable.assign(tf.cast(value, variable.dtype))


def summarise(counts, taught=False):
    """The metrics of counts.

    Args:
        counts: `Counts`.
        taught: whether there was a teacher.

    Returns:
        A dictionary of floats: the mean `loss`; the `accuracy`; `auc`, the area under the precision-recall curve over
        all categories together, with 200 thresholds and Davis and Goadrich's interpolation, as in Keras; `f1`, the mean
        F1 over all categories, 0 for one that neither occurs nor is answered. If `taught` also `agreement`, the share
        of images answered as the teacher does.
    """
    counts = Counts(*(np.asarray(value, "float64") for value in counts))
    found = {
        "loss": float(divide(counts.loss, counts.images)),
        "accuracy": float(divide(counts.right.sum(), counts.images)),
        "auc": float(_area(counts.positive, counts.negative)),
        "f1": float(mean_f1(counts.right, counts.labels, counts.answers)),
    }
    if taught:
        found["agreement"] = float(divide(counts.agreed, counts.images))
    return found


def _area(positive, negative):
    """The area under the precision-recall curve of two histograms over thresholds."""
    true, false = positive[::-1].cumsum()[::-1], negative[::-1].cumsum()[::-1]  # above each threshold
    answered = true + false
    gained, more = true[:-1] - true[1:], np.maximum(answered[:-1] - answered[1:], 0)
    slope = divide(gained, more)
    intercept = true[1:] - slope * answered[1:]
    both = (answered[:-1] > 0) & (answered[1:] > 0)
    ratio = np.where(both, divide(answered[:-1], np.maximum(answered[1:], 0)), 1.0)
    pieces = divide(slope * (gained + intercept * np.log(ratio)), np.maximum(positive.sum(), 0))
    return pieces.sum()
