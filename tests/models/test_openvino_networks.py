"""OpenVINO gives Keras's logits and features, or names what it can't compute."""

import concurrent.futures
import json
import re
import zipfile

import keras
import numpy as np
import pytest
from conftest import FIXTURES, SHARED
from make_keras_fixtures import smooth_images

import convnext as script
from lib.data.images import read_image
from lib.errors import UsageError
from lib.models.convnext import convnext
from lib.models.keras_descriptions import FEATURES, NoFeaturesError
from lib.models.keras_files import load_model, save_model
from lib.models.openvino_networks import UnknownLayersError, compile_network, read_network

SIZES = (64, 96, 128)
MOST = 1e-4  # by which a logit may differ

GOLDEN = SHARED / "golden" / "architectures.jsonl"
OPTIONS = [json.loads(line)["options"] for line in GOLDEN.read_text().splitlines()] if GOLDEN.is_file() else []
OTHERS = ["-a 3 -m -g -p 12 -f elu -n 1:1:1:1 -x 8", "-a 2 -m -c -s -l -d -b 4 -f swish -n 1:1:1:1 -x 4"]


# Models of tens of millions of weights take long; the others have all their layers.
LARGE = re.compile("-x (96|128)$")
CASES = [pytest.param(each, marks=[pytest.mark.once] if LARGE.search(each) else []) for each in [*OPTIONS, *OTHERS]]


def compute(path, images, pooled=False):
    """What OpenVINO gives for images."""
    return compile_network(read_network(path), images.shape[1], len(images), 1, pooled).compute(images)


def assert_same_logits(model, path, size):
    images = np.random.default_rng(size).uniform(0, 255, (2, size, size, model.input_shape[-1])).astype("float32")
    images[1] = np.sort(images[1], axis=0)
    found, features = compute(path, images)
    expected = np.asarray(model(images, training=False))
    assert features is None and found.dtype == np.float32
    assert np.ptp(expected) > 0.3  # or the tolerance would say nothing
    np.testing.assert_allclose(found, expected, rtol=0, atol=MOST)


@pytest.mark.parametrize("options", CASES)
def test_what_convnext_makes(options, tmp_path):
    model = convnext(script.Settings(**vars(script.options().parse_args([*options.split(), "-o", "a.keras"]))))
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if len(weight.shape) == 1:  # scales and shifts, which start as ones and zeros
            weight.assign(np.asarray(weight) + rng.normal(0, 0.2, weight.shape))
    save_model(model, tmp_path / "a.keras")
    for size in SIZES:
        assert_same_logits(model, tmp_path / "a.keras", size)


def test_all_golden_architectures_are_tested(shared):
    assert len(OPTIONS) == 10


@pytest.mark.parametrize("version", ["2.12", "2.12-hdf5", "2.13", "3.0", "3.15"])
def test_files_of_each_keras(version):
    path = FIXTURES / "keras" / f"reference-{version}.keras"
    model, network = load_model(path), read_network(path)
    for height in (96, 64, 130):
        images = smooth_images(height, height)
        found, _ = compile_network(network, height, 2, 1).compute(images)
        np.testing.assert_allclose(found, np.asarray(model(images, training=False)), rtol=0, atol=MOST)


def test_the_published_model_on_real_images(shared):
    path = shared / "models" / "ConvNeXt-distilled.keras"
    model, network = load_model(path), read_network(path)
    files = sorted(file for file in (shared / "images").glob("*/*") if file.is_file())
    images = np.stack([read_image(file, 96) for file in files])
    assert len(images) == 140
    found, features = compile_network(network, 96, 140, 2, pooled=True).compute(images)
    both = keras.Model(model.input, [model.output, model.get_layer(FEATURES).output])
    logits, expected = (np.asarray(part) for part in both(images, training=False))
    np.testing.assert_allclose(found, logits, rtol=0, atol=MOST)
    np.testing.assert_array_equal(found.argmax(axis=1), logits.argmax(axis=1))
    np.testing.assert_allclose(features, expected, rtol=0, atol=MOST)
    for size in SIZES:  # its RandomCrop resizes what isn't 96 pixels wide
        assert_same_logits(model, path, size)


@pytest.mark.parametrize(("height", "width"), [(8, 24), (24, 8), (12, 12), (30, 20)])
def test_a_crop_of_any_shape(height, width, tmp_path):
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, 2, "same", activation="relu")(keras.layers.RandomCrop(height, width)(inputs))
    outputs = keras.layers.Dense(3, name="output_dense")(keras.layers.GlobalAveragePooling2D()(x))
    save_model(keras.Model(inputs, outputs), tmp_path / "a.keras")
    model = load_model(tmp_path / "a.keras")  # whose RandomCrop is that of Keras 2.13
    for size in (20, 21, 64):
        images = smooth_images(size, size)
        expected = np.asarray(model(images, training=False))
        np.testing.assert_allclose(compute(tmp_path / "a.keras", images)[0], expected, rtol=1e-5, atol=MOST)


def test_threads_at_once_and_images_by_themselves(shared):
    network = read_network(shared / "models" / "ConvNeXt-distilled.keras")
    images = np.random.default_rng(1).uniform(0, 255, (24, 96, 96, 3)).astype("float32")
    batches = [np.roll(images, shift, axis=0) for shift in range(12)]
    ready = compile_network(network, 96, 24, 2, pooled=True).compute
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        found = list(pool.map(ready, batches))
    alone = compile_network(network, 96, 24, 1, pooled=True).compute(images)
    for shift, parts in enumerate(found):
        for part, expected in zip(parts, alone):
            np.testing.assert_array_equal(np.roll(part, -shift, axis=0), expected)


def write(path, *layers, inputs=None):
    inputs = keras.Input((16, 16, 3)) if inputs is None else inputs
    x = inputs
    for layer in layers:
        x = layer(x)
    save_model(keras.Model(inputs, x), path)
    return path


LAYERS = keras.layers


@pytest.mark.parametrize(
    ("layers", "named"),
    [
        ([LAYERS.Dropout(0.1, name="drop"), LAYERS.GlobalMaxPooling2D(name="most")], ["drop", "Dropout", "most"]),
        ([LAYERS.Conv2D(3, 1, activation="tanh", name="c"), LAYERS.GlobalAveragePooling2D()], ["'c'", "tanh"]),
        ([LAYERS.Conv2D(3, 1, groups=3, name="c"), LAYERS.GlobalAveragePooling2D()], ["'c'", "groups"]),
        ([LAYERS.DepthwiseConv2D(1, depth_multiplier=2, name="c"), LAYERS.GlobalAveragePooling2D()], ["multiplier"]),
        ([LAYERS.GlobalAveragePooling2D(), LAYERS.Dense(3, "softmax", name="d"), LAYERS.Dense(2)], ["'d'", "softmax"]),
    ],
)
def test_other_layers_are_named(layers, named, tmp_path):
    path = write(tmp_path / "a.keras", *layers)
    with pytest.raises(UnknownLayersError) as error:
        read_network(path)
    for word in (str(path), *named):
        assert word in str(error.value)


def test_a_constant_and_two_inputs_are_left_to_tensorflow(shared, tmp_path):
    with pytest.raises(UnknownLayersError):
        read_network(shared / "cases" / "models" / "operator-with-constant.keras")
    first, second = keras.Input((4,)), keras.Input((4,))
    save_model(keras.Model([first, second], LAYERS.Dense(2)(LAYERS.Add()([first, second]))), tmp_path / "two.keras")
    with pytest.raises(UnknownLayersError, match="several inputs"):
        read_network(tmp_path / "two.keras")


def test_features_of_a_model_without_their_layer(tmp_path):
    path = write(tmp_path / "a.keras", LAYERS.Conv2D(5, 4, 4), LAYERS.GlobalAveragePooling2D(), LAYERS.Dense(2))
    images, model = smooth_images(16, 16), load_model(path)
    expected = np.asarray(keras.Model(model.input, model.layers[-1].input)(images))
    np.testing.assert_allclose(compute(path, images, pooled=True)[1], expected, rtol=0, atol=MOST)
    path = write(tmp_path / "b.keras", LAYERS.Conv2D(5, 4, 4), LAYERS.GlobalAveragePooling2D())
    with pytest.raises(NoFeaturesError):
        compute(path, images, pooled=True)


def test_what_cannot_be_applied_is_said_in_one_sentence(tmp_path):
    path = write(tmp_path / "a.keras", LAYERS.Conv2D(5, 4, 4), inputs=keras.Input((None, None, 3)))
    with pytest.raises(UsageError, match=r"does not give one row of logits"):
        compute(path, smooth_images(16, 16))
    with pytest.raises(UsageError, match=r"^\S+a\.keras can't be applied to images of 2 x 2 pixels \(.*\)\.$"):
        compute(path, smooth_images(2, 2))


def test_a_rescaling_of_each_channel_is_left_to_tensorflow(tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling([0.1, 0.2, 0.3], offset=1.0, name="r")(inputs))
    save_model(keras.Model(inputs, keras.layers.Dense(2)(x)), tmp_path / "a.keras")
    with pytest.raises(UnknownLayersError, match=r"'r' \(Rescaling by a number for each channel\)"):
        read_network(tmp_path / "a.keras")


def edit(path, *changes):
    """Write a fixture whose description is changed: pairs of the keys of a value in it, and another value."""
    with zipfile.ZipFile(FIXTURES / "keras" / "reference-2.13.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    description = json.loads(members["config.json"])
    for (*keys, last), value in changes:
        place = description["config"]
        for key in keys:
            place = place[key]
        place[last] = value
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, json.dumps(description) if name == "config.json" else content)
    return path


@pytest.mark.parametrize(
    "change",
    [
        (("layers", 6, "inbound_nodes", 0, 0, 2), {}),
        (("layers", 6, "inbound_nodes", 0, 0, 2), 1),
        (("layers", 6, "inbound_nodes", 0, 0, 0), "nowhere"),
        (("layers", 0, "config", "batch_input_shape"), [None, {}, {}, 3]),
        (("layers", 3, "config", "strides"), "x"),
        (("layers", 3, "config", "filters"), 10**9),
        (("output_layers",), [["nowhere", 0, 0]]),
    ],
)
def test_a_description_that_no_keras_wrote_is_said_in_one_sentence(change, tmp_path):
    path = edit(tmp_path / "whole.keras")
    assert compute(path, smooth_images(32, 32))[0].shape == (2, 5)
    path = edit(tmp_path / "a.keras", change)
    with pytest.raises(UsageError, match=r"^\S+a\.keras [^\n]+\.$"):
        compute(path, smooth_images(32, 32))
