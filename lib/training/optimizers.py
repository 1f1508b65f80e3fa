"""The optimizers and their cyclical learning rate."""

import keras
import tensorflow as tf


@keras.utils.register_keras_serializable("herbariograph")
class CyclicalLearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """The triangular2 policy: linear between two rates, the amplitude halved each cycle (arXiv:1506.01186).

    Args:
        initial_learning_rate: the lower rate, that of step 0.
        maximal_learning_rate: the upper rate of the first cycle.
        step_size: the steps of half a cycle.
    """

    def __init__(self, initial_learning_rate, maximal_learning_rate, step_size):
        super().__init__()
        self.initial_learning_rate = initial_learning_rate
        self.maximal_learning_rate = maximal_learning_rate
        self.step_size = step_size

    def __call__(self, step):
        """The rate, float32, at a step, counted from 0."""
        halves = tf.cast(step, "float32") / self.step_size
        cycle = tf.floor(halves / 2)
        height = 1 - tf.abs(halves - 2 * cycle - 1)
        height *= 0.5**cycle
        return self.initial_learning_rate + (self.maximal_learning_rate - self.initial_learning_rate) * height

    def get_config(self):
        """The arguments."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "maximal_learning_rate": self.maximal_learning_rate,
            "step_size": self.step_size,
        }


def build_optimizer(name, learning_rate, half_cycle, decay, precision="float32"):
    """Build an optimizer whose learning rate cycles.

    Args:
        name: one of `lib.measures.recipes.OPTIMIZERS`: `a` Adam (arXiv:1412.6980), `aw` AdamW (arXiv:1711.05101), `sgd`
            plain stochastic gradient descent.
        learning_rate: the maximum; the minimum is a quarter of it.
        half_cycle: the steps from the minimum to the maximum.
        decay: the decoupled weight decay of `aw` and `sgd`.
        precision: with `mixed_float16` the loss is scaled, so that small gradients don't vanish (arXiv:1710.03740).
    """
    schedule = CyclicalLearningRate(learning_rate / 4, learning_rate, half_cycle)
    if name == "a":
        optimizer = keras.optimizers.Adam(schedule)
    elif name == "aw":
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=decay)
    else:  # with a momentum of 0 nesterov changes nothing; it is in the published pipeline's settings
        optimizer = keras.optimizers.SGD(schedule, momentum=0.0, nesterov=True, weight_decay=decay)
    if precision == "mixed_float16":
        return keras.mixed_precision.LossScaleOptimizer(optimizer)
    return optimizer


def scaled(optimizer, loss):
    """The loss to differentiate."""
    scale = getattr(optimizer, "scale_loss", None) or getattr(optimizer, "get_scaled_loss", None)
    return scale(loss) if scale else loss


def apply(optimizer, gradients, variables):
    """Apply the gradients of the scaled loss, summed over all replicas."""
    if hasattr(optimizer, "get_unscaled_gradients"):  # Keras 2's wrapper leaves it to the caller
        gradients = optimizer.get_unscaled_gradients(gradients)
    optimizer.apply_gradients(zip(gradients, variables))


def state_of(optimizer):
    """All variables of an optimizer."""
    scale = getattr(optimizer, "_loss_scale", None)  # Keras 2 doesn't list these among the variables
    return [*optimizer.variables, *getattr(scale, "_weights", {}).values()]


def learning_rate(optimizer):
    """The learning rate of the next step."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    rate = inner._learning_rate
    return float(tf.convert_to_tensor(rate(inner.iterations) if callable(rate) else rate))
