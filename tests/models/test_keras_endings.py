"""Models that end in a softmax or sigmoid: their logits are computed with, their probabilities stay what they are."""

import keras
import numpy as np
import pytest
from make_keras_fixtures import smooth_images

from lib.measures.softmax import probabilities_of
from lib.models.inference import compile_features
from lib.models.keras_archives import read_description
from lib.models.keras_endings import without_activation
from lib.models.keras_files import load_model, save_model

layers = keras.layers


def function(name):
    """The activation as a function of a tensor, which Keras records as an operation."""
    return getattr(keras.activations, name)


def start(inputs):
    return layers.Dense(8, activation="relu")(layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(inputs)))


def nested(end, outer=lambda x: x):
    """A model in a model, whose last layers are made by `end`, and `outer` after it."""
    inputs, around = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    return keras.Model(around, outer(keras.Model(inputs, end(start(inputs)))(around)))


def sequential(*end):
    first = [layers.Rescaling(1 / 255), layers.GlobalAveragePooling2D(), layers.Dense(8, activation="relu")]
    return keras.Sequential([keras.Input((8, 8, 3)), *first, *end])


def plain(end):
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, end(start(inputs)))


def as_convolution(x):
    x = layers.Conv2D(5, 1)(layers.Reshape((1, 1, 8))(x))
    return layers.Activation("softmax")(layers.Flatten(name="flatten")(x))


ENDINGS = {
    "dense": ("softmax", lambda: plain(layers.Dense(5, activation="softmax"))),
    "dense sigmoid": ("sigmoid", lambda: plain(layers.Dense(5, activation="sigmoid"))),
    "dense by a function": ("softmax", lambda: plain(layers.Dense(5, activation=keras.activations.softmax))),
    "dense by a layer": ("softmax", lambda: plain(layers.Dense(5, activation=layers.Softmax()))),
    "layer": ("softmax", lambda: plain(lambda x: layers.Softmax()(layers.Dense(5)(x)))),
    "activation": (
        "softmax",
        lambda: plain(lambda x: layers.Activation("softmax", dtype="float32")(layers.Dense(5)(x))),
    ),
    "activation sigmoid": ("sigmoid", lambda: plain(lambda x: layers.Activation("sigmoid")(layers.Dense(5)(x)))),
    "operation": ("softmax", lambda: plain(lambda x: function("softmax")(layers.Dense(5)(x)))),
    "operation sigmoid": ("sigmoid", lambda: plain(lambda x: function("sigmoid")(layers.Dense(5)(x)))),
    "then linear": (
        "softmax",
        lambda: plain(lambda x: layers.Activation("linear")(layers.Dense(5, activation="softmax")(x))),
    ),
    "sequential": ("softmax", lambda: sequential(layers.Dense(5, activation="softmax"))),
    "sequential layer": ("softmax", lambda: sequential(layers.Dense(5), layers.Softmax())),
    "sequential, then dropout": (
        "softmax",
        lambda: sequential(layers.Dense(5, activation="softmax"), layers.Dropout(0.1)),
    ),
    "model in a model": ("softmax", lambda: nested(layers.Dense(5, activation="softmax"))),
    "after a model": ("softmax", lambda: nested(layers.Dense(5), layers.Softmax())),
    "of a convolution": ("softmax", lambda: plain(as_convolution)),
    "none": (None, lambda: plain(layers.Dense(5))),
    "another": (None, lambda: plain(layers.Dense(5, activation="tanh"))),
    "in the middle": (None, lambda: plain(lambda x: layers.Dense(5)(layers.Dense(8, activation="softmax")(x)))),
    "used twice": (
        None,
        lambda: plain(lambda x: (lambda y: layers.Multiply()([layers.Dense(5)(y), y]))(layers.Dense(5, "softmax")(x))),
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.slow
def test_an_ending_is_taken_off_and_put_back(name, tmp_path):
    activation, make = ENDINGS[name]
    model = make()
    rng = np.random.default_rng(3)
    model.set_weights([rng.normal(0, 1, weight.shape) for weight in model.get_weights()])
    model.save(tmp_path / "theirs.keras")
    images = smooth_images(8, 8)
    expected = np.asarray(model(images, training=False))
    opened = load_model(tmp_path / "theirs.keras", categories=5)
    assert opened.output_activation == activation
    logits = np.asarray(opened(images, training=False))
    found = logits if activation is None else probabilities_of(logits, activation)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    if activation is not None:
        assert abs(logits).max() > 1, "no logits"
        # What the logits follow from, and not the logits or probabilities themselves.
        assert compile_features(opened, images.shape)(images)[1].shape == (2, 8)
    save_model(opened, tmp_path / "ours.keras")
    by_keras = keras.models.load_model(tmp_path / "ours.keras", compile=False)
    np.testing.assert_allclose(np.asarray(by_keras(images, training=False)), expected, atol=1e-5)
    assert without_activation(read_description(tmp_path / "ours.keras"))[1] == activation


def test_a_softmax_in_reduced_precision_leaves_logits_in_float32(tmp_path):
    plain(layers.Dense(5, activation="softmax")).save(tmp_path / "a.keras")
    assert load_model(tmp_path / "a.keras", precision="mixed_bfloat16").output.dtype == "float32"


def test_what_is_no_description_is_left_to_those_who_tell_what_is_wrong():
    for wrong in ({}, {"class_name": "Functional", "config": {"layers": 7}}, {"class_name": "Mine"}):
        assert without_activation(wrong) == (wrong, None)


def test_probabilities_as_a_model_gives_them():
    logits = np.array([[-1000.0, 0, 1000]], "float32")
    np.testing.assert_array_equal(probabilities_of(logits, "sigmoid"), [[0, 0.5, 1]])
    np.testing.assert_array_equal(probabilities_of(logits, "softmax"), [[0, 0, 1]])
    np.testing.assert_array_equal(probabilities_of(logits), [[0, 0, 1]])
