"""A compiled model gives the model's logits."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import FIXTURES
from make_keras_fixtures import SIZES, smooth_images

from lib.inference import compile_logits
from lib.keras_files import load_model


@pytest.mark.parametrize("name", ["reference-2.13", "reference-3.15", "nested-2.13", "nested-3.15"])
@pytest.mark.parametrize("size", SIZES)
def test_fixtures(name, size):
    model = load_model(FIXTURES / "keras" / f"{name}.keras")
    images = smooth_images(*size)
    logits = compile_logits(model, images.shape)(tf.constant(images))
    np.testing.assert_allclose(logits, np.asarray(model(images, training=False)), atol=1e-5)


def test_the_published_model(shared):
    model = load_model(shared / "models" / "ConvNeXt-distilled.keras")
    images = smooth_images(96, 96)
    logits = compile_logits(model, images.shape)(tf.constant(images))
    np.testing.assert_allclose(logits, np.asarray(model(images, training=False)), atol=1e-5)


@pytest.mark.parametrize("activation", ["gelu", "relu", "linear", "swish"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("branch", [True, False])
def test_what_is_folded_and_what_must_not_be(activation, bias, kernel, branch):
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", activation=activation, use_bias=bias)(inputs)
    x = y = layers.Conv2D(4, kernel, padding="same", activation=activation, use_bias=bias)(x)
    x = layers.LayerNormalization(epsilon=1e-5)(x)
    x = layers.Conv2D(4, kernel, padding="same", activation=activation, use_bias=bias)(x)
    if branch:
        x = layers.Add()([x, y])
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0.3, 0.7, weight.shape) for weight in model.get_weights()])
    images = rng.normal(0, 1, (2, 8, 8, 3)).astype("float32")
    changing = compile_logits(model, images.shape, changing=True)
    for _ in range(2):
        logits = compile_logits(model, images.shape)(tf.constant(images))
        expected = np.asarray(model(images, training=False))
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(changing(tf.constant(images)), expected, rtol=1e-4, atol=1e-5)
        model.set_weights([rng.normal(0.3, 0.7, weight.shape) for weight in model.get_weights()])
