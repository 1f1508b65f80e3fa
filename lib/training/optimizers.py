"""What changes the weights."""

import keras
import tensorflow as tf


def build_optimizer(name, schedule, decay, precision="float32"):
    """Build an optimizer.

    Args:
        name: one of `lib.measures.recipes.OPTIMIZERS`: `a` Adam (arXiv:1412.6980), `aw` AdamW (arXiv:1711.05101), `sgd`
            plain stochastic gradient descent.
        schedule: the learning rate, a number or a schedule of Keras.
        decay: the decoupled weight decay of `aw` and `sgd`.
        precision: under `mixed_float16` the loss is scaled, lest small gradients vanish (arXiv:1710.03740).
    """
    optimizer = {
        "a": lambda: keras.optimizers.Adam(schedule),
        "aw": lambda: keras.optimizers.AdamW(schedule, weight_decay=decay),
        # With a momentum of 0 the flag changes nothing; it is what the published pipeline's settings say.
        "sgd": lambda: keras.optimizers.SGD(schedule, momentum=0.0, nesterov=True, weight_decay=decay),
    }[name]()
    if precision == "mixed_float16":
        if keras.__version__.startswith("2."):
            return keras.mixed_precision.LossScaleOptimizer(optimizer)
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def scaled(optimizer, loss):
    """The loss as the optimizer wants it differentiated."""
    scale = getattr(optimizer, "scale_loss", None) or getattr(optimizer, "get_scaled_loss", None)
    return scale(loss) if scale else loss


def apply(optimizer, gradients, variables):
    """Change variables by the gradients, of the scaled loss, summed over all replicas."""
    if hasattr(optimizer, "get_unscaled_gradients"):  # Keras 2's wrapper, which else leaves it to its caller
        gradients = optimizer.get_unscaled_gradients(gradients)
    optimizer.apply_gradients(zip(gradients, variables))


def state_of(optimizer):
    """All variables that an optimizer goes on from."""
    scale = getattr(optimizer, "_loss_scale", None)  # Keras 2 does not count these to the optimizer's variables
    return [*optimizer.variables, *getattr(scale, "_weights", {}).values()]


def learning_rate(optimizer):
    """The rate of its next step."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    rate = inner._learning_rate
    return float(tf.convert_to_tensor(rate(inner.iterations) if callable(rate) else rate))
