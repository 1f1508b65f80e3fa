"""What models hold beside layers: arithmetic with constants, slices, parts of `keras.applications`, foreign names."""

import importlib
import json
import warnings

import keras
import numpy as np
import pytest
from conftest import FIXTURES
from make_keras_fixtures import SIZES, smooth_images

from lib.errors import UsageError
from lib.measures.softmax import probabilities_of
from lib.models.keras_files import load_model, save_model
from lib.models.keras_graphs import build_model, plain_description
from lib.storage.untrusted import RefusedError

KERAS_2 = keras.__version__.startswith("2.")
layers = keras.layers
MEAN, DEVIATION = np.array([103.0, 116.0, 123.0], "float32"), np.array([58.0, 57.0, 57.5], "float32")
utils = importlib.import_module("keras.src.applications.imagenet_utils")
FOREIGN = sorted(path.name for path in (FIXTURES / "keras").glob("foreign-*.keras"))


def foreign(old, new):
    """A function of the package that models call in each Keras: `old` of TensorFlow, `new` of `keras.ops`."""
    package, name = (importlib.import_module("tensorflow"), old) if KERAS_2 else (keras.ops, new)
    for part in name.split("."):
        package = getattr(package, part)
    return package


# Each: from the input tensor to the one that a convolution is given.
RECIPES = {
    "times a number": lambda x: x * (1 / 255),
    "a number times": lambda x: (1 / 255) * x,
    "divided": lambda x: x / 255,
    "less a number": lambda x: x - 127.5,
    "a number less": lambda x: 255.0 - x,
    "negative": lambda x: -x,
    "less a mean": lambda x: x - MEAN,
    "plus a mean": lambda x: x + -MEAN,
    "standardized": lambda x: (x - MEAN) / DEVIATION,
    "by functions": lambda x: foreign("divide", "divide")(foreign("subtract", "subtract")(x, MEAN), 58.0),
    "channels reversed": lambda x: x[:, :, :, ::-1],
    "channels reversed by a function": lambda x: foreign("reverse", "flip")(x, axis=[-1]),
    "channels by their numbers": lambda x: foreign("gather", "take")(x, [2, 0, 1], axis=-1),
    "channels stacked": lambda x: foreign("stack", "stack")([x[:, :, :, 2], x[:, :, :, 0]], axis=-1),
    "channels split": lambda x: foreign("concat", "concatenate")(foreign("split", "split")(x, 3, axis=-1)[::-1], -1),
    "one channel": lambda x: x[:, :, :, 1:2],
    "a margin cut off": lambda x: x[:, 2:-2, 2:-2],
    "the same type": lambda x: foreign("cast", "cast")(x, "float32") / 255,
    "mode tf": lambda x: utils.preprocess_input(x, mode="tf"),
    "mode torch": lambda x: utils.preprocess_input(x, mode="torch"),
    "resized": lambda x: foreign("image.resize", "image.resize")(x, (16, 24)),
    "rectified": lambda x: foreign("nn.relu", "relu")(x - 100.0),
    "pooled": lambda x: x - foreign("reduce_mean", "mean")(x, axis=[1, 2], keepdims=True),
}
if not KERAS_2:  # which can't save an ellipsis
    RECIPES["mode caffe"] = lambda x: utils.preprocess_input(x, mode="caffe")
    RECIPES["channels reversed by an ellipsis"] = lambda x: x[..., ::-1]


def model_after(*recipes):
    """A model with two outputs for each recipe."""
    inputs = keras.Input((32, 32, 3))
    seen = [layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3, strides=4)(recipe(inputs))) for recipe in recipes]
    model = keras.Model(inputs, layers.Concatenate()(seen) if len(seen) > 1 else seen[0])
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 1, weight.shape) for weight in model.get_weights()])
    return model


@pytest.mark.slow
def test_arithmetic_and_slices(tmp_path):
    model = model_after(*RECIPES.values())
    model.save(tmp_path / "theirs.keras")
    save_model(load_model(tmp_path / "theirs.keras"), tmp_path / "ours.keras")
    images = smooth_images(32, 32)
    expected = np.asarray(model(images, training=False))
    assert (np.ptp(expected, axis=0) > 0.01).all()
    for path in ("theirs.keras", "ours.keras"):
        found = np.asarray(load_model(tmp_path / path)(images, training=False))
        near = np.isclose(found, expected, rtol=1e-4, atol=1e-4).all(axis=0).reshape(-1, 2).all(axis=1)
        assert near.all(), [name for name, right in zip(RECIPES, near) if not right]


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (lambda x: 1.0 / (x + 1.0), "a division by a tensor"),
        (lambda x: x / (x + 1.0), "between two tensors"),
        (lambda x: x + np.ones((32, 1, 1), "float32"), "a constant of 32x1x1, not one number for each channel"),
        (lambda x: (x / 255) ** 2, r"which no plain layer stands for"),
        (lambda x: foreign("reverse", "flip")(x, axis=[1]), "along another axis than the channels'"),
    ],
)
def test_what_no_plain_layer_does_is_refused_with_its_name(recipe, words, tmp_path):
    model_after(recipe).save(tmp_path / "a.keras")
    with pytest.raises(UsageError, match=rf"a\.keras holds the operation '[\w.]+'.*{words}"):
        load_model(tmp_path / "a.keras")


@pytest.mark.parametrize("written_by", ["2.13.1", "3.15.1"])
@pytest.mark.parametrize("activation", ["hard_sigmoid", "hard_silu", "hard_swish", "relu6", "silu"])
def test_an_activation_is_that_of_the_keras_that_wrote_the_file(activation, written_by):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="mixed"), layers.Activation("linear", name="end")]
    )
    description = keras.saving.serialize_keras_object(model)
    for place in (0, 1):
        changed = json.loads(json.dumps(description))
        changed["config"]["layers"][1 + place]["config"]["activation"] = activation
        built, _ = build_model(changed, 1000, written_by)
        built.set_weights([4 * np.eye(4), np.zeros(4)])
        x = np.array([[-2, -0.3, 0.4, 2]], "float32")
        hard = np.clip(4 * x * (0.2 if written_by < "3" else 1 / 6) + 0.5, 0, 1)
        expected = {
            "hard_sigmoid": hard,
            "relu6": np.clip(4 * x, 0, 6),
            "silu": 4 * x / (1 + np.exp(-4 * x)),
        }.get(activation, 4 * x * np.clip(4 * x / 6 + 0.5, 0, 1))
        np.testing.assert_allclose(np.asarray(built(x)), expected, atol=1e-5)


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_every_keras_give_what_that_one_gives(name, tmp_path):
    newer = name.startswith("foreign-3")
    expected = np.load(FIXTURES / "keras" / ("expected-foreign-3.npz" if newer else "expected.npz"))
    model = load_model(FIXTURES / "keras" / name, categories=5)
    save_model(model, tmp_path / "again.keras")
    for opened in (model, load_model(tmp_path / "again.keras")):
        assert opened.output_activation == "softmax"
        for height, width in SIZES:
            logits = np.asarray(opened(smooth_images(height, width), training=False))
            np.testing.assert_allclose(probabilities_of(logits), expected[f"foreign-{height}x{width}"], atol=1e-5)


def test_an_initializer_of_tensorflow_becomes_that_of_keras():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, bias_initializer="zeros")])
    description = keras.saving.serialize_keras_object(model)
    theirs = {"module": "tensorflow.python.ops.init_ops_v2", "class_name": "Constant", "config": {"value": 0}}
    description["config"]["layers"][1]["config"]["bias_initializer"] = {**theirs, "registered_name": "Constant"}
    built, _ = build_model(description, 1000)
    written = plain_description(keras.saving.serialize_keras_object(built))["config"]["layers"][1]["config"]
    assert written["bias_initializer"] == {**theirs, "module": "keras.initializers", "registered_name": None}
    theirs["module"] = "subprocess"
    description["config"]["layers"][1]["config"]["bias_initializer"] = dict(theirs, class_name="Popen")
    with pytest.raises(RefusedError, match="uses Popen"):
        build_model(description, 1000)


def small_convnext():
    module = importlib.import_module("keras.src.applications.convnext")
    sizes = {"depths": [1, 1, 1, 1], "projection_dims": [4, 8, 12, 16], "drop_path_rate": 0.2}
    name = {"model_name" if KERAS_2 else "name": "small"}
    return module.ConvNeXt(**sizes, weights=None, input_shape=(32, 32, 3), classes=5, **name)


def small_efficientnet():
    module = importlib.import_module("keras.src.applications.efficientnet")
    block = module.DEFAULT_BLOCKS_ARGS[:2]
    name = {"model_name" if KERAS_2 else "name": "small"}
    return module.EfficientNet(0.25, 1, 32, weights=None, blocks_args=block, input_shape=(32, 32, 3), classes=5, **name)


APPLICATIONS = {"ConvNeXt": small_convnext, "EfficientNet": small_efficientnet}


@pytest.mark.parametrize("name", APPLICATIONS)
@pytest.mark.slow
def test_models_of_keras_applications(name, tmp_path):
    model = APPLICATIONS[name]()
    rng = np.random.default_rng(1)
    model.set_weights([np.abs(weight + rng.normal(0, 0.1, weight.shape)) for weight in model.get_weights()])
    model.save(tmp_path / "theirs.keras")
    save_model(load_model(tmp_path / "theirs.keras"), tmp_path / "ours.keras")
    images = smooth_images(32, 32)
    expected = np.asarray(model(images, training=False))
    assert np.ptp(expected) > 0.01
    for path in ("theirs.keras", "ours.keras"):
        opened = load_model(tmp_path / path, categories=5)
        assert opened.output_activation == "softmax"
        found = probabilities_of(np.asarray(opened(images, training=False)))
        np.testing.assert_allclose(found, expected, atol=1e-5)
        kinds = {type(layer).__name__ for layer in opened.layers} - {"LayerScale", "Functional", "InputLayer"}
        assert all(hasattr(layers, kind) or kind in ("TFOpLambda", "SlicingOpLambda") for kind in kinds), kinds


def test_a_dropped_path_is_all_or_nothing_for_each_image():
    module = importlib.import_module("keras.src.applications.convnext")
    inputs = keras.Input((4, 4, 3))
    x = layers.GlobalAveragePooling2D()(module.StochasticDepth(0.5, name="depth")(inputs))
    built, _ = build_model(keras.saving.serialize_keras_object(keras.Model(inputs, layers.Dense(2)(x))), 1000)
    (drop,) = (layer for layer in built.layers if layer.name == "depth")
    values = np.asarray(drop(np.ones((200, 4, 4, 3), "float32"), training=True))
    of_each = values.reshape(200, -1)
    assert set(np.unique(of_each)) == {0, 2} and (np.ptp(of_each, axis=1) == 0).all()
    assert 60 < (of_each[:, 0] == 0).sum() < 140


def test_names_that_the_running_keras_refuses_are_changed_and_stay_apart(tmp_path):
    refused = ("a b", "a:b", "größe") if not KERAS_2 else ("a/b", "a.b", "b/a")
    inputs = x = keras.Input((8, 8, 3))
    for name in refused:
        x = layers.Conv2D(4, 1, name=name)(x)
    model = keras.Model(inputs, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))
    model.save(tmp_path / "a.keras")
    opened = load_model(tmp_path / "a.keras")
    assert len({layer.name for layer in opened.layers}) == len(model.layers)
    np.testing.assert_allclose(
        np.asarray(opened(smooth_images(8, 8))), np.asarray(model(smooth_images(8, 8))), atol=1e-3
    )


@pytest.mark.parametrize("named", ["inputs", "outputs", "both", "lists"])
def test_inputs_and_outputs_by_name(named, tmp_path):
    inputs = keras.Input((8, 8, 3), name="image")
    outputs = layers.Dense(5)(layers.GlobalAveragePooling2D()(inputs))
    given = {"image": inputs} if named in ("inputs", "both") else [inputs] if named == "lists" else inputs
    made = {"answer": outputs} if named in ("outputs", "both") else [outputs] if named == "lists" else outputs
    model = keras.Model(given, made)
    model.save(tmp_path / "a.keras")
    opened = load_model(tmp_path / "a.keras", categories=5)
    plain = keras.Model(inputs, outputs)
    images = smooth_images(8, 8)
    np.testing.assert_allclose(np.asarray(opened(images)), np.asarray(plain(images)), rtol=1e-5)


def test_the_cases_that_were_reported(shared):
    pixels = (np.random.RandomState(0).rand(2, 96, 96, 3) * 255).astype("float32")
    logits = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in (shared / "cases" / "models").glob("*.keras"):
            logits[path.stem] = np.asarray(load_model(path)(pixels, training=False))
    for name in ("softmax-dense", "softmax-layer", "operator-with-constant"):
        np.testing.assert_allclose(logits[name], logits["logits"], atol=1e-4)
    assert logits["preprocess-input"].sum() == pytest.approx(-13.9927, abs=1e-4)
    assert logits["keras-applications-convnext"].sum() == pytest.approx(-1.45783, abs=1e-5)
    assert logits["named-input"].shape == (2, 17)
