"""The layers that Keras lacks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lib.models.layers import LayerScale, RandomCrop


def test_layer_scale_multiplies_each_channel(tmp_path):
    layer = LayerScale(epsilon=0.5, name="scale")
    x = np.arange(24, dtype="float32").reshape(1, 2, 4, 3)
    np.testing.assert_allclose(np.asarray(layer(x)), x / 2)
    layer.set_weights([np.array([1, 2, 3], "float32")])
    np.testing.assert_allclose(np.asarray(layer(x)), x * [1, 2, 3])
    assert LayerScale.from_config(layer.get_config()).epsilon == 0.5
    inputs = keras.Input((None, None, 3))
    keras.Model(inputs, layer(inputs)).save(tmp_path / "a.keras")
    again = keras.models.load_model(tmp_path / "a.keras")  # by Keras itself: the layer is registered
    np.testing.assert_allclose(np.asarray(again(x)), x * [1, 2, 3])


@pytest.mark.parametrize(("height", "width"), [(6, 8), (12, 8), (9, 30), (3, 4), (5, 3)])
def test_inference_takes_the_middle_window_of_the_targets_aspect(height, width):
    crop = RandomCrop(6, 8)
    image = np.random.default_rng(0).uniform(0, 255, (2, height, width, 3)).astype("float32")
    window_height, window_width = min(height, width * 6 // 8), min(width, height * 8 // 6)
    top, left = (height - window_height) // 2, (width - window_width) // 2
    window = image[:, top : top + window_height, left : left + window_width]
    expected = tf.image.resize(window, (6, 8)).numpy()
    traced = tf.function(lambda x: crop(x, training=False), input_signature=[tf.TensorSpec((None, None, None, 3))])
    dataset = tf.data.Dataset.from_tensors(image).map(lambda x: crop(x, training=False))
    for result in (crop(image, training=False), traced(image), next(iter(dataset))):
        np.testing.assert_allclose(np.asarray(result), expected, atol=1e-4)


def test_training_crops_anywhere_what_is_large_enough():
    crop = RandomCrop(4, 5, seed=3)
    image = np.arange(9 * 11, dtype="float32").reshape(1, 9, 11, 1)
    traced = tf.function(lambda x: crop(x, training=True), input_signature=[tf.TensorSpec((None, None, None, 1))])
    places = set()
    for _ in range(40):
        window = np.asarray(traced(image))
        top, left = divmod(int(window[0, 0, 0, 0]), 11)
        np.testing.assert_array_equal(window, image[:, top : top + 4, left : left + 5])
        places.add((top, left))
    assert len(places) > 15
    small = image[:, :3]
    np.testing.assert_array_equal(np.asarray(traced(small)), np.asarray(crop(small, training=False)))
