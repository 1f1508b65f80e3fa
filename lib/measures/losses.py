"""The losses, each a function of labels and logits.

To add one, write a function of labels, logits, a `Batch` and a `_Setup` that returns float32 `(images,)`, and add it to
`FUNCTIONS` and its name to `lib.measures.recipes.LOSSES`, which the command line offers.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from lib.measures.recipes import LossParameters

_TINY = 1e-7


class Batch(NamedTuple):
    """What a loss needs of the whole batch, of which a replica has a part.

    Attributes:
        sums: float32 `(classes,)`: the sum of its labels.
        images: float32 `()`: their number.
    """

    sums: Any
    images: Any


class _Setup(NamedTuple):
    """What a loss is built with.

    Attributes:
        parameters: `LossParameters`.
        smoothing: the share of a label that is divided evenly among all classes.
        class_balance, log_priors, rareness: float32 `(classes,)`, of the classes' numbers of images; None without them.
    """

    parameters: Any
    smoothing: float
    class_balance: Any = None
    log_priors: Any = None
    rareness: Any = None


def build_loss(name, parameters=None, class_counts=None, label_smoothing=0.2):
    """Build one of the losses.

    Args:
        name: one of `lib.measures.recipes.LOSSES`.
        parameters: `LossParameters`; None for the defaults.
        class_counts: `(classes,)`: the number of images of each class; needed by `cbf`, `cbs`, `la`, `lw` and `nis`.
        label_smoothing: the share of a label that `ce`, `fce` and `ccm` divide evenly among all classes.

    Returns:
        A function `loss(labels, logits, batch=None)`: float `(images, classes)` labels and logits to float32
        `(images,)`, whose mean is the loss. `batch` is the `Batch` that the images are a part of, by default they
        themselves. Finite, as its gradient is, for every finite input, also where classes are absent.
    """
    parameters = parameters or LossParameters()
    function, setup = FUNCTIONS[name], _Setup(parameters, label_smoothing)
    if class_counts is not None:
        counts = np.asarray(class_counts, "float64")
        frequencies = counts / counts.sum()
        setup = setup._replace(
            class_balance=_class_balance(tf.constant(counts, "float32"), parameters.beta),
            log_priors=np.log(frequencies**parameters.tau + _TINY).astype("float32"),
            rareness=((1 - frequencies) / max((1 - frequencies).min(), _TINY)).astype("float32"),
        )

    def loss(labels, logits, batch=None):
        labels, logits = tf.cast(labels, "float32"), tf.cast(logits, "float32")
        return function(labels, logits, batch or whole_batch(labels), setup)

    return loss


def whole_batch(labels):
    """The `Batch` that labels `(images, classes)` make up."""
    return Batch(tf.reduce_sum(labels, axis=0), tf.cast(tf.shape(labels)[0], "float32"))


def penalties(model):
    """The sum of a model's regularization losses, float32 `()`."""
    losses = [tf.cast(loss, "float32") for loss in model.losses]
    return tf.add_n(losses) if losses else tf.constant(0.0)


def ce(labels, logits, batch, setup):
    """Softmax cross entropy of smoothed labels."""
    return _cross_entropy(_smoothed(labels, setup), logits)


def fce(labels, logits, batch, setup):
    """The focal variant of `ce` (arXiv:1708.02002)."""
    alpha, gamma = setup.parameters.focal_alpha, setup.parameters.focal_gamma
    log_probabilities = tf.nn.log_softmax(logits)
    # Not to 0, where the power's slope is infinite for γ < 1.
    doubt = tf.maximum(1 - tf.exp(log_probabilities), _TINY)
    return tf.reduce_sum(-alpha * doubt**gamma * _smoothed(labels, setup) * log_probabilities, axis=-1)


def cbs(labels, logits, batch, setup):
    """Class-balanced sigmoid cross entropy (arXiv:1901.05555)."""
    return _weighted(labels, logits, batch, setup.class_balance)


def cbf(labels, logits, batch, setup):
    """The focal variant of `cbs` (arXiv:1901.05555)."""
    gamma = setup.parameters.gamma
    modulation = tf.exp(-gamma * labels * logits - gamma * tf.nn.softplus(-logits))
    return _weighted(labels, logits, batch, setup.class_balance, modulation)


def cbbs(labels, logits, batch, setup):
    """`cbs` with the numbers of images in the batch."""
    return _weighted(labels, logits, batch, _class_balance(batch.sums, setup.parameters.beta))


def la(labels, logits, batch, setup):
    """Logit adjustment (arXiv:2007.07314)."""
    return _cross_entropy(labels, logits + setup.log_priors)


def lab(labels, logits, batch, setup):
    """`la` with the frequencies in the batch."""
    return _cross_entropy(labels, logits + tf.math.log(_frequencies(batch) ** setup.parameters.tau + _TINY))


def lw(labels, logits, batch, setup):
    """Logits shifted by how rare a class is."""
    return _cross_entropy(labels, logits + setup.rareness)


def lwb(labels, logits, batch, setup):
    """Logits scaled by how rare a class is in the batch."""
    absence = 1 - _frequencies(batch)
    return _cross_entropy(labels, logits * (absence / tf.maximum(tf.reduce_min(absence), _TINY)))


def nis(labels, logits, batch, setup):
    """Sigmoid cross entropy weighted by how rare a class is."""
    return _weighted(labels, logits, batch, setup.rareness)


def cos(labels, logits, batch, setup):
    """Cosine distance."""
    return 1 - tf.reduce_sum(_unit(logits) * labels, axis=-1)


def mae(labels, logits, batch, setup):
    """Absolute distance of unit vectors."""
    return tf.reduce_sum(tf.abs(_unit(logits) - labels), axis=-1)


def mse(labels, logits, batch, setup):
    """Squared distance."""
    return tf.reduce_sum(tf.math.squared_difference(logits, labels), axis=-1)


def ccm(labels, logits, batch, setup):
    """Cosine, cross entropy and squared distance together (arXiv:1901.09054)."""
    parts = (part(labels, logits, batch, setup) for part in (cos, ce, mse))
    return tf.add_n([weight * part for weight, part in zip(setup.parameters.ccm, parts)])


def bel(labels, logits, batch, setup):
    """`cbbs` and `lab` together."""
    return cbbs(labels, logits, batch, setup) + lab(labels, logits, batch, setup)


FUNCTIONS = {
    function.__name__: function
    for function in (bel, cbf, cbs, cbbs, ccm, ce, cos, fce, la, lab, lw, lwb, mae, mse, nis)
}


def _smoothed(labels, setup):
    return labels * (1 - setup.smoothing) + setup.smoothing / labels.shape[-1]


def _cross_entropy(labels, logits):
    return tf.nn.softmax_cross_entropy_with_logits(labels, logits)


def _weighted(labels, logits, batch, weights, modulation=1.0):
    """Sigmoid cross entropy weighted by the image's classes, divided by the mean sum of an image's labels."""
    entropies = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
    own = tf.reduce_sum(labels * weights, axis=-1, keepdims=True)
    total = tf.maximum(tf.reduce_sum(batch.sums), _TINY)
    return tf.reduce_sum(own * modulation * entropies, axis=-1) * (batch.images / total)


def _class_balance(counts, beta):
    """The weights of classes, (1 − β)/(1 − β^count), 0 for one without images, scaled to a sum of 1."""
    effective = -tf.math.expm1(counts * math.log(beta))
    weights = tf.math.divide_no_nan((1 - beta) * tf.cast(counts > 0, "float32"), effective)
    return tf.math.divide_no_nan(weights, tf.reduce_sum(weights))


def _frequencies(batch):
    return batch.sums / tf.maximum(tf.reduce_sum(batch.sums), _TINY)


def _unit(logits):
    return tf.math.l2_normalize(logits, axis=-1)
