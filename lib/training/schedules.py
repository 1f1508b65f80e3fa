"""How the learning rate goes."""

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
