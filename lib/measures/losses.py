"""The 15 losses, each a function of labels and logits.

C is the number of classes, p = softmax(logits); σCE is the sigmoid cross entropy of each class by itself. The factor of
label smoothing moves that share of a label evenly to all classes.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from lib.measures.recipes import LOSSES

NEED_COUNTS = ("cbf", "cbs", "la", "lw", "nis")  # which depend on how many images each class has

_TINY = 1e-7


class Batch(NamedTuple):
    """What a loss has to know of the whole batch, of which a replica sees a part.

    Attributes:
        sums: float32 `(classes,)`: the sum of its labels.
        images: float32 `()`: how many images it has.
    """

    sums: Any
    images: Any


def build_loss(
    name,
    *,
    class_counts=None,
    cb_beta=0.99,
    cb_gamma=1.0,
    la_tau=0.0,
    ccm_weights=(1, 1, 1),
    focal_alpha=0.25,
    focal_gamma=2.0,
    label_smoothing=0.2,
):
    """Build one of the losses.

    Args:
        name: one of `lib.measures.recipes.LOSSES`:
            `ce` softmax cross entropy of smoothed labels; `fce` its focal variant (arXiv:1708.02002);
            `cbs`, `cbf` class-balanced sigmoid cross entropy and its focal variant (arXiv:1901.05555), `cbbs` the first
            with the batch's own counts; `la` logit adjustment (arXiv:2007.07314), `lab` with the batch's frequencies;
            `lw`, `lwb` logits shifted or scaled by how rare a class is, in all or in the batch; `nis` sigmoid cross
            entropy weighted by rareness; `cos`, `mae`, `mse` cosine, absolute and squared distance; `ccm` cosine, cross
            entropy and squared distance together (arXiv:1901.09054); `bel` cbbs + lab.
        class_counts: how many images each class has, in their order; needed by `NEED_COUNTS`.
        cb_beta, cb_gamma: β and γ of the class-balanced losses.
        la_tau: τ of the logit adjustment.
        ccm_weights: of the three parts of `ccm`.
        focal_alpha, focal_gamma: α and γ of `fce`.
        label_smoothing: in `ce`, `fce` and `ccm`.

    Returns:
        A function `loss(labels, logits, batch=None)`: float `(images, classes)` labels and logits to float32
        `(images,)`, whose mean is the loss. `batch` is the `Batch` that the images are a part of, by default they
        themselves. Finite, as its gradient is, for every finite input, also where classes are absent.

    Raises:
        ValueError: an unknown name, or no class counts for a loss that needs them.
    """
    if name not in LOSSES:
        raise ValueError(f"{name!r} is none of the losses {', '.join(LOSSES)}")
    if name in NEED_COUNTS and class_counts is None:
        raise ValueError(f"the loss {name} needs the number of images of each class")
    if class_counts is not None:
        counts = np.asarray(class_counts, "float64")
        frequencies = counts / counts.sum()
        log_priors = np.log(frequencies**la_tau + _TINY).astype("float32")
        rareness = ((1 - frequencies) / max((1 - frequencies).min(), _TINY)).astype("float32")
        weights = _class_balance(tf.constant(counts, "float32"), cb_beta)

    def smoothed(labels):
        return labels * (1 - label_smoothing) + label_smoothing / labels.shape[-1]

    def ce(labels, logits, batch):
        return _cross_entropy(smoothed(labels), logits)

    def cbs(labels, logits, batch):
        return _weighted(labels, logits, batch, weights)

    def cbf(labels, logits, batch):
        modulation = tf.exp(-cb_gamma * labels * logits - cb_gamma * tf.nn.softplus(-logits))
        return _weighted(labels, logits, batch, weights, modulation)

    def cbbs(labels, logits, batch):
        return _weighted(labels, logits, batch, _class_balance(batch.sums, cb_beta))

    def la(labels, logits, batch):
        return _cross_entropy(labels, logits + log_priors)

    def lab(labels, logits, batch):
        return _cross_entropy(labels, logits + tf.math.log(_frequencies(batch) ** la_tau + _TINY))

    def lw(labels, logits, batch):
        return _cross_entropy(labels, logits + rareness)

    def lwb(labels, logits, batch):
        absence = 1 - _frequencies(batch)
        return _cross_entropy(labels, logits * (absence / tf.maximum(tf.reduce_min(absence), _TINY)))

    def nis(labels, logits, batch):
        return _weighted(labels, logits, batch, rareness)

    def cos(labels, logits, batch):
        return 1 - tf.reduce_sum(_unit(logits) * labels, axis=-1)

    def mae(labels, logits, batch):
        return tf.reduce_sum(tf.abs(_unit(logits) - labels), axis=-1)

    def mse(labels, logits, batch):
        return tf.reduce_sum(tf.math.squared_difference(logits, labels), axis=-1)

    def ccm(labels, logits, batch):
        parts = (part(labels, logits, batch) for part in (cos, ce, mse))
        return tf.add_n([weight * part for weight, part in zip(ccm_weights, parts)])

    def fce(labels, logits, batch):
        log_probabilities = tf.nn.log_softmax(logits)
        # Not to 0, where the power's slope is infinite for γ < 1.
        doubt = tf.maximum(1 - tf.exp(log_probabilities), _TINY)
        return tf.reduce_sum(-focal_alpha * doubt**focal_gamma * smoothed(labels) * log_probabilities, axis=-1)

    def bel(labels, logits, batch):
        return cbbs(labels, logits, batch) + lab(labels, logits, batch)

    chosen = {
        "bel": bel,
        "cbbs": cbbs,
        "cbf": cbf,
        "cbs": cbs,
        "ccm": ccm,
        "ce": ce,
        "cos": cos,
        "fce": fce,
        "la": la,
        "lab": lab,
        "lw": lw,
        "lwb": lwb,
        "mae": mae,
        "mse": mse,
        "nis": nis,
    }[name]

    def loss(labels, logits, batch=None):
        labels, logits = tf.cast(labels, "float32"), tf.cast(logits, "float32")
        return chosen(labels, logits, batch or whole_batch(labels))

    return loss


def whole_batch(labels):
    """The `Batch` of images that are one by themselves."""
    return Batch(tf.reduce_sum(labels, axis=0), tf.cast(tf.shape(labels)[0], "float32"))


def penalties(model):
    """The sum of the penalties that a model's layers carry, float32 `()`."""
    losses = [tf.cast(loss, "float32") for loss in model.losses]
    return tf.add_n(losses) if losses else tf.constant(0.0)


def _cross_entropy(labels, logits):
    return tf.nn.softmax_cross_entropy_with_logits(labels, logits)


def _weighted(labels, logits, batch, weights, modulation=1.0):
    """Sigmoid cross entropy of each class, times the weight of the image's classes, by the sum of all labels."""
    entropies = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
    own = tf.reduce_sum(labels * weights, axis=-1, keepdims=True)
    total = tf.maximum(tf.reduce_sum(batch.sums), _TINY)
    return tf.reduce_sum(own * modulation * entropies, axis=-1) * (batch.images / total)


def _class_balance(counts, beta):
    """What an image of each class weighs, (1 − β)/(1 − β^count), the sum being 1; 0 for a class without images."""
    effective = -tf.math.expm1(counts * math.log(beta))
    weights = tf.math.divide_no_nan((1 - beta) * tf.cast(counts > 0, "float32"), effective)
    return tf.math.divide_no_nan(weights, tf.reduce_sum(weights))


def _frequencies(batch):
    return batch.sums / tf.maximum(tf.reduce_sum(batch.sums), _TINY)


def _unit(logits):
    return tf.math.l2_normalize(logits, axis=-1)
