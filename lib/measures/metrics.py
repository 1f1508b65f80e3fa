"""What is reported of a model on labelled images: loss, accuracy, area under the precision-recall curve, macro F1.

The counts that they follow from are plain tensors, so that they are added on the device, over steps and over replicas,
and read once an epoch.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from lib.measures.uncertainty import mean_f1

AGREEMENT = "agreement"  # reported, too, where there is a teacher
THRESHOLDS = 200


class Counts(NamedTuple):
    """Sums over images, float32 but where it says otherwise.

    Attributes:
        images: `()`: how many.
        loss: `()`: the sum of their losses.
        right: `(classes,)`: how many of each class, the label's largest, were answered with it.
        labels: `(classes,)`: how many have that class.
        answers: `(classes,)`: how many were answered with it.
        positive, negative: `(200,)`: how many labels above 0, and how many of 0, there are in each of 200 steps of the
            sigmoid of their logits, float64: a test of 1,500 images and 21,000 classes has more than float32 counts to.
        agreed: `()`: how many were answered as the teacher does, 0 without one.
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
        labels: float `(images, classes)`.
        logits: float `(images, classes)`.
        losses: float `(images,)`.
        weights: float `(images,)`: what each image counts: 0 for one that only fills the batch; None for 1 each.
        teacher: float `(images, classes)`: a teacher's logits of the same images; None without one.

    Returns:
        `Counts`.
    """
    labels, logits = tf.cast(labels, "float32"), tf.cast(logits, "float32")
    weights = tf.ones_like(losses) if weights is None else weights
    classes = labels.shape[-1]
    one_hot = tf.one_hot(tf.argmax(labels, axis=-1), classes) * weights[:, None]
    answered = tf.argmax(logits, axis=-1)
    answers = tf.one_hot(answered, classes)
    steps = tf.math.ceil(tf.sigmoid(logits) * (THRESHOLDS - 1)) - 1
    steps = tf.cast(tf.clip_by_value(steps, 0, THRESHOLDS - 1), "int32")

    def histogram(where):
        amounts = tf.cast(where, "float64") * tf.cast(weights, "float64")[:, None]
        return tf.math.unsorted_segment_sum(tf.reshape(amounts, [-1]), tf.reshape(steps, [-1]), THRESHOLDS)

    return Counts(
        images=tf.reduce_sum(weights),
        loss=tf.reduce_sum(losses * weights),
        right=tf.reduce_sum(one_hot * answers, axis=0),
        labels=tf.reduce_sum(one_hot, axis=0),
        answers=tf.reduce_sum(answers * weights[:, None], axis=0),
        positive=histogram(labels > 0),  # a part of a label is one to Keras, too
        negative=histogram(labels <= 0),
        agreed=tf.constant(0.0)
        if teacher is None
        else tf.reduce_sum(weights * tf.cast(answered == tf.argmax(teacher, axis=-1), "float32")),
    )


def no_counts(classes):
    """The counts of no images: what to begin adding with."""
    one, many, steps = tf.zeros([]), tf.zeros([classes]), tf.zeros([THRESHOLDS], "float64")
    return Counts(one, one, many, many, many, steps, steps, one)


def add(one, other):
    """The counts of two sets of images together."""
    return Counts(*(a + b for a, b in zip(one, other)))


class Counters:
    """Counts that stay on the devices of a strategy and added up over its replicas when they are read.

    Args:
        strategy: a `tf.distribute.Strategy`.
        classes: how many there are.
    """

    def __init__(self, strategy, classes):
        with strategy.scope():
            self._variables = Counts(
                *(
                    tf.Variable(
                        zeros,
                        trainable=False,
                        synchronization=tf.VariableSynchronization.ON_READ,
                        aggregation=tf.VariableAggregation.SUM,
                    )
                    for zeros in no_counts(classes)
                )
            )

    def add(self, counts):
        """Add a replica's counts, in the step that a strategy runs."""
        for variable, value in zip(self._variables, counts):
            variable.assign_add(value)

    def read(self):
        """The `Counts` of all replicas, as arrays."""
        return Counts(*(variable.read_value().numpy() for variable in self._variables))

    def assign(self, counts):
        """Go on from counts that were read before, or from `no_counts`."""
        for variable, value in zip(self._variables, counts):
            variable.assign(tf.cast(value, variable.dtype))


def summarise(counts, taught=False):
    """The metrics that counts give.

    Args:
        counts: `Counts`.
        taught: whether there was a teacher.

    Returns:
        A dictionary of floats: the mean `loss`; the `accuracy`; the area under the one precision-recall curve over all
        classes, `auc`, with 200 thresholds and Davis and Goadrich's interpolation, as Keras has it; and `f1`, the mean
        F1 over all classes, 0 for one that neither occurs nor is answered. If `taught` also `agreement`, the share of
        the images that were answered as the teacher does.
    """
    counts = Counts(*(np.asarray(value, "float64") for value in counts))
    found = {
        "loss": float(_divide(counts.loss, counts.images)),
        "accuracy": float(_divide(counts.right.sum(), counts.images)),
        "auc": float(_area(counts.positive, counts.negative)),
        "f1": float(mean_f1(counts.right, counts.labels, counts.answers)),
    }
    if taught:
        found[AGREEMENT] = float(_divide(counts.agreed, counts.images))
    return found


def _area(positive, negative):
    """The area under the precision-recall curve of two histograms over thresholds."""
    true, false = positive[::-1].cumsum()[::-1], negative[::-1].cumsum()[::-1]  # above each threshold
    answered = true + false
    gained, more = true[:-1] - true[1:], np.maximum(answered[:-1] - answered[1:], 0)
    slope = _divide(gained, more)
    intercept = true[1:] - slope * answered[1:]
    both = (answered[:-1] > 0) & (answered[1:] > 0)
    ratio = np.where(both, _divide(answered[:-1], np.maximum(answered[1:], 0)), 1.0)
    pieces = _divide(slope * (gained + intercept * np.log(ratio)), np.maximum(positive.sum(), 0))
    return pieces.sum()


def _divide(one, other):
    """A quotient, 0 where the divisor is."""
    one, other = np.asarray(one, "float64"), np.asarray(other, "float64")
    return np.divide(one, other, out=np.zeros(np.broadcast(one, other).shape), where=other != 0)
