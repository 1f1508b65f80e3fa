"""A compiled model gives the model's logits."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import FIXTURES
from make_keras_fixtures import SIZES, smooth_images

from lib.errors import UsageError
from lib.models.inference import NoFeaturesError, compile_features, compile_logits
from lib.models.keras_files import load_model


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


def test_features_are_those_of_the_layer_and_change_no_logits(shared):
    model = load_model(shared / "models" / "ConvNeXt-distilled.keras")
    images = tf.constant(np.concatenate([smooth_images(96, 96)] * 2))
    logits, features = compile_features(model, images.shape)(images)
    layer = model.get_layer("output_layerNormalization")
    expected = np.asarray(keras.Model(model.input, layer.output)(images, training=False))
    assert features.shape == expected.shape == (len(images), 192) and features.dtype == tf.float32
    np.testing.assert_allclose(features, expected, atol=2e-5)
    np.testing.assert_array_equal(logits, compile_logits(model, images.shape)(images))


@pytest.mark.parametrize("name", ["nested-2.13", "nested-3.15"])
def test_features_of_another_model_are_what_its_last_layer_is_given(name):
    model = load_model(FIXTURES / "keras" / f"{name}.keras")
    images = smooth_images(*SIZES[0])
    logits, features = compile_features(model, images.shape)(tf.constant(images))
    expected = keras.Model(model.input, model.layers[-1].input)(images, training=False)
    np.testing.assert_allclose(features, np.asarray(expected), atol=2e-5)
    np.testing.assert_allclose(logits, np.asarray(model(images, training=False)), atol=1e-5)


def test_a_model_that_is_applied_plainly_has_features_too():
    inputs = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(6, 3)(inputs))  # a layer that is not followed
    model = keras.Model(inputs, keras.layers.Dense(2)(pooled))
    images = np.random.default_rng(0).normal(0, 1, (2, 8, 8, 3)).astype("float32")
    logits, features = compile_features(model, images.shape)(tf.constant(images))
    expected = keras.Model(inputs, pooled)(images)
    np.testing.assert_allclose(features, np.asarray(expected), rtol=1e-5)
    np.testing.assert_allclose(logits, np.asarray(model(images)), rtol=1e-5)


def test_a_model_with_features_that_cannot_be_applied_is_called_by_its_name():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Embedding(10, 4)(keras.layers.Flatten()(inputs))  # of the pixels, which go up to 255
    x = keras.layers.LayerNormalization(name="output_layerNormalization")(keras.layers.GlobalAveragePooling1D()(x))
    compute = compile_features(keras.Model(inputs, keras.layers.Dense(3)(x)), (1, 8, 8, 3), "m.keras")
    with pytest.raises(UsageError, match=r"^m\.keras can't be applied to images of 8 x 8 pixels"):
        compute(tf.fill((1, 8, 8, 3), 255.0))


def test_a_model_without_one_vector_for_each_image_has_none():
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 1)(inputs))
    with pytest.raises(NoFeaturesError, match="the input of its last layer is not one vector"):
        compile_features(keras.Model(inputs, outputs), (1, 8, 8, 3))
