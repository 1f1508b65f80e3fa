"""The layers that Keras lacks, or has with another behaviour in each version.

Importing this module makes Keras know `LayerScale`, so that `keras.models.load_model` opens files that hold it.
"""

import functools

import keras


class LayerScale(keras.layers.Layer):
    """Multiplies each channel by a factor of its own that is learnt (arXiv:2103.17239).

    In and out: a float tensor, channels last. One weight, `gamma`, `(channels,)`.

    Args:
        epsilon: the initial value of every factor.
    """

    def __init__(self, epsilon=1.0, **options):
        super().__init__(**options)
        self.epsilon = epsilon

    def build(self, input_shape):
        initializer = keras.initializers.Constant(self.epsilon)
        self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer=initializer)
        super().build(input_shape)

    def call(self, inputs):
        return inputs * self.gamma

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return dict(super().get_config(), epsilon=self.epsilon)


# Under the bare name, since the published pipeline's files have it so.
keras.utils.get_custom_objects()["LayerScale"] = LayerScale


if keras.__version__.startswith("2."):
    RandomCrop = keras.layers.RandomCrop
else:

    class RandomCrop(keras.layers.RandomCrop):
        """Keras 2.13's RandomCrop on Keras 3, which leaves some sizes uncropped and fails on unknown ones.

        In training an image of at least the target size is cropped at a random place, the same for the whole batch.
        Otherwise the largest window in the middle with the target's aspect is cut out and resized, bilinear without
        antialiasing.

        In: float `(batch, height, width, channels)`; out: `(batch, target height, target width, channels)`.
        """

        def call(self, inputs, training=True):
            inputs = keras.ops.cast(inputs, self.compute_dtype)
            _, height, width, _ = keras.ops.shape(inputs)
            if not training:
                return self._crop_middle(inputs, height, width)
            fits = keras.ops.logical_and(height >= self.height, width >= self.width)
            crops = (self._crop_anywhere, self._crop_middle)
            return keras.ops.cond(fits, *(functools.partial(crop, inputs, height, width) for crop in crops))

        def _crop_anywhere(self, inputs, height, width):
            places = keras.random.uniform((2,), seed=self.generator)
            free = keras.ops.cast(keras.ops.stack([height - self.height, width - self.width]) + 1, "float32")
            top, left = keras.ops.unstack(keras.ops.cast(keras.ops.floor(places * free), "int32"))
            window = inputs[:, top : top + self.height, left : left + self.width]
            return keras.ops.reshape(window, (-1, self.height, self.width, inputs.shape[-1]))

        def _crop_middle(self, inputs, height, width):
            def scaled(length, numerator, denominator):
                exact = keras.ops.cast(length * numerator, "float32") / denominator
                return keras.ops.cast(exact, "int32")

            window_height = keras.ops.minimum(height, scaled(width, self.height, self.width))
            window_width = keras.ops.minimum(width, scaled(height, self.width, self.height))
            top = (height - window_height) // 2
            left = (width - window_width) // 2
            window = inputs[:, top : top + window_height, left : left + window_width]
            resized = keras.ops.image.resize(window, (self.height, self.width), interpolation="bilinear")
            return keras.ops.cast(resized, self.compute_dtype)
