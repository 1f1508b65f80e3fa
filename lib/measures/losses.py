"""The losses, a registry: what each is, which parameters it has, and the function of labels and logits.

To add one, write a function of labels, logits, a `Batch` and a `_Setup` that returns float32 `(images,)`, and enter it
with `@_loss`. The command line offers it, and tests ask for its values in `tests/measures/test_losses.py` and for its
row in `docs/trainImagesC.md`.
"""

import dataclasses
import math
from typing import Any, Callable, NamedTuple, Tuple

from lib.system.lazy import LazyModule

np, tf = LazyModule("numpy"), LazyModule("tensorflow")  # which the command line does without

_TINY = 1e-7


@dataclasses.dataclass(frozen=True)
class LossParameters:
    """The parameters of losses.

    Attributes:
        focal_alpha, focal_gamma: α and γ of `fce`.
        beta, gamma: β and γ of the class-balanced losses.
        tau: τ of the logit adjustment.
        ccm: the weights of the three parts of `ccm`.
    """

    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    beta: float = 0.99
    gamma: float = 1.0
    tau: float = 0.0
    ccm: Tuple[float, ...] = (1.0, 1.0, 1.0)


class Loss(NamedTuple):
    """A loss.

    Attributes:
        compute: the function.
        meaning: what it is, for the documentation.
        parameters: the names of the `LossParameters` that it depends on.
    """

    compute: Callable
    meaning: str
    parameters: Tuple[str, ...]


LOSSES = {}  # by name, in the order of the functions below


def _loss(meaning, *parameters):
    """Enter a function in `LOSSES`, by its name."""

    def enter(function):
        LOSSES[function.__name__] = Loss(function, meaning, parameters)
        return function

    return enter


def losses_with(parameter):
    """The names of the losses that depend on a parameter."""
    return [name for name, loss in LOSSES.items() if parameter in loss.parameters]


class Batch(NamedTuple):
    """What a loss needs of the whole batch, of which a replica has a part.

    Attributes:
        sums: float32 `(categories,)`: the sum of its labels.
        images: float32 `()`: their number.
    """

    sums: Any
    images: Any


class _Setup(NamedTuple):
    """What a loss is built with.

    Attributes:
        parameters: `LossParameters`.
        smoothing: the share of a label that is divided evenly among all categories.
        class_balance, log_priors, rareness: float32 `(categories,)`, of the categories' numbers of images; None without
            these.
    """

    parameters: Any
    smoothing: float
    class_balance: Any = None
    log_priors: Any = None
    rareness: Any = None


def build_loss(name, parameters=None, class_counts=None, label_smoothing=0.2):
    """Build one of the losses.

    Args:
        name: one of `LOSSES`.
        parameters: `LossParameters`; None for the defaults.
        class_counts: `(categories,)`: the number of images of each; needed by `cbf`, `cbs`, `la`, `lw` and `nis`.
        label_smoothing: the share of a label that `ce`, `fce` and `ccm` divide evenly among all categories.

    Returns:
        A function `loss(labels, logits, batch=None)`: float `(images, categories)` labels and logits to float32
        `(images,)`, whose mean is the loss. `batch` is the `Batch` that the images are a part of, by default they
        themselves. Finite, as its gradient is, for every finite input, also where categories are absent.
    """
    parameters = parameters or LossParameters()
    function, setup = LOSSES[name].compute, _Setup(parameters, label_smoothing)
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
    """The `Batch` that labels `(images, categories)` make up."""
    return Batch(tf.reduce_sum(labels, axis=0), tf.cast(tf.shape(labels)[0], "float32"))


def penalties(model):
    """The sum of a model's regularization losses, float32 `()`."""
    losses = [tf.cast(loss, "float32") for loss in model.losses]
    return tf.add_n(losses) if losses else tf.constant(0.0)


@_loss("cross entropy of labels smoothed by 0.2")
def ce(labels, logits, batch, setup):
    return _cross_entropy(_smoothed(labels, setup), logits)


@_loss("its focal variant (arXiv:1708.02002)", "focal_alpha", "focal_gamma")
def fce(labels, logits, batch, setup):
    alpha, gamma = setup.parameters.focal_alpha, setup.parameters.focal_gamma
    log_probabilities = tf.nn.log_softmax(logits)
    # Above 0, where the slope of the power is infinite for γ < 1.
    doubt = tf.maximum(1 - tf.exp(log_probabilities), _TINY)
    return tf.reduce_sum(-alpha * doubt**gamma * _smoothed(labels, setup) * log_probabilities, axis=-1)


@_loss("class-balanced sigmoid cross entropy (arXiv:1901.05555)", "beta")
def cbs(labels, logits, batch, setup):
    return _weighted(labels, logits, batch, setup.class_balance)


@_loss("its focal variant (arXiv:1901.05555)", "beta", "gamma")
def cbf(labels, logits, batch, setup):
    gamma = setup.parameters.gamma
    modulation = tf.exp(-gamma * labels * logits - gamma * tf.nn.softplus(-logits))
    return _weighted(labels, logits, batch, setup.class_balance, modulation)


@_loss("`cbs` with the counts of the batch", "beta")
def cbbs(labels, logits, batch, setup):
    return _weighted(labels, logits, batch, _class_balance(batch.sums, setup.parameters.beta))


@_loss("logit adjustment (arXiv:2007.07314)", "tau")
def la(labels, logits, batch, setup):
    return _cross_entropy(labels, logits + setup.log_priors)


@_loss("`la` with the counts of the batch", "tau")
def lab(labels, logits, batch, setup):
    return _cross_entropy(labels, logits + tf.math.log(_frequencies(batch) ** setup.parameters.tau + _TINY))


@_loss("cross entropy of logits shifted by how rare a category is")
def lw(labels, logits, batch, setup):
    return _cross_entropy(labels, logits + setup.rareness)


@_loss("cross entropy of logits scaled by how rare a category is in the batch")
def lwb(labels, logits, batch, setup):
    absence = 1 - _frequencies(batch)
    return _cross_entropy(labels, logits * (absence / tf.maximum(tf.reduce_min(absence), _TINY)))


@_loss("sigmoid cross entropy weighted by how rare a category is")
def nis(labels, logits, batch, setup):
    return _weighted(labels, logits, batch, setup.rareness)


@_loss("cosine distance")
def cos(labels, logits, batch, setup):
    return 1 - tf.reduce_sum(_unit(logits) * labels, axis=-1)


@_loss("absolute distance of unit vectors")
def mae(labels, logits, batch, setup):
    return tf.reduce_sum(tf.abs(_unit(logits) - labels), axis=-1)


@_loss("squared distance")
def mse(labels, logits, batch, setup):
    return tf.reduce_sum(tf.math.squared_difference(logits, labels), axis=-1)


@_loss("weighted sum of `cos`, `ce` and `mse` (arXiv:1901.09054)", "ccm")
def ccm(labels, logits, batch, setup):
    parts = (part(labels, logits, batch, setup) for part in (cos, ce, mse))
    return tf.add_n([weight * part for weight, part in zip(setup.parameters.ccm, parts)])


@_loss("`cbbs` and `lab` together", "beta", "tau")
def bel(labels, logits, batch, setup):
    return cbbs(labels, logits, batch, setup) + lab(labels, logits, batch, setup)


def _smoothed(labels, setup):
    return labels * (1 - setup.smoothing) + setup.smoothing / labels.shape[-1]


def _cross_entropy(labels, logits):
    return tf.nn.softmax_cross_entropy_with_logits(labels, logits)


def _weighted(labels, logits, batch, weights, modulation=1.0):
    """Sigmoid cross entropy weighted by the image's categories, divided by the mean sum of an image's labels."""
    entropies = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
    own = tf.reduce_sum(labels * weights, axis=-1, keepdims=True)
    total = tf.maximum(tf.reduce_sum(batch.sums), _TINY)
    return tf.reduce_sum(own * modulation * entropies, axis=-1) * (batch.images / total)


def _class_balance(counts, beta):
    """The weights of categories, (1 − β)/(1 − β^count), 0 for one without images, scaled to a sum of 1."""
    effective = -tf.math.expm1(counts * math.log(beta))
    weights = tf.math.divide_no_nan((1 - beta) * tf.cast(counts > 0, "float32"), effective)
    return tf.math.divide_no_nan(weights, tf.reduce_sum(weights))


def _frequencies(batch):
    return batch.sums / tf.maximum(tf.reduce_sum(batch.sums), _TINY)


def _unit(logits):
    return tf.math.l2_normalize(logits, axis=-1)
