"""What changes the weights: the optimizers, and how their learning rate goes."""

import keras
import tensorflow as tf


@keras.utils.register_keras_serializable("herbariograph")
class CyclicalLearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """Up and down in straight lines between two rates, the height halved with each cycle (arXiv:1506.01186).

    Args:
        initial_learning_rate: the lower rate, that of step 0.
        maximal_learning_rate: the upper rate of the first cycle.
        step_size: how many steps half a cycle takes.
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


def cycling(learning_rate, half_cycle):
    """The `CyclicalLearningRate` of every training: from a quarter of the rate up to it in `half_cycle` steps."""
    return CyclicalLearningRate(learning_rate / 4, learning_rate, half_cycle)


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
