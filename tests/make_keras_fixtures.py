#!/usr/bin/env python3
"""Write the tiny .keras files of tests/fixtures/keras with each Keras that pip can install.

    python3.11 tests/make_keras_fixtures.py tests/fixtures/keras       all versions, in throw-away environments
    python tests/make_keras_fixtures.py --here DIRECTORY               only the Keras of this environment

Three models, with the same weights in every version:

* `reference` holds what the published pipeline's models hold: a random crop, additions and multiplications written
  as operators, a LayerScale that nobody registered, Gaussian noise, L2 penalties;
* `nested` holds what other people's Keras models hold: a model in a model, a Sequential, a layer used twice, batch
  normalisation, attention, layers with several inputs;
* `foreign` holds what no other Keras takes as it is: `preprocess_input` and other arithmetic with constants, slices,
  layers of `keras.applications` alone, names that the other major version refuses, an activation that it computes
  otherwise, an input by name, a softmax at the end.

Keras 2.13 also writes `expected.npz`: what the models give for `smooth_images(height, width)` at four sizes, and their
L2 penalty with every layer frozen. Whatever Keras wrote a file, and whatever Keras reads it, has to agree. Keras 3.15
writes `expected-foreign-3.npz`, since `hard_sigmoid` is another function there.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

import numpy as np

# (name of the fixture, what pip installs); 3.x runs on one TensorFlow, whose own Keras is replaced.
VERSIONS = [(version, [f"tensorflow-cpu=={version}.*"]) for version in ("2.12", "2.13", "2.14", "2.15")]
VERSIONS += [(f"3.{minor}", ["tensorflow-cpu==2.18.*", f"keras==3.{minor}.*", "dm-tree"]) for minor in range(16)]
SIZES = ((64, 64), (96, 96), (128, 96), (80, 120))
WIDTH = 4


def smooth_images(height, width):
    """Two images, float32 `(2, height, width, 3)`, 0-255, smooth enough that resizing keeps them."""
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    waves = [np.sin(2 * np.pi * (a * x + b * y)) for a, b in ((1, 0), (0, 2), (2, 1))]
    image = np.stack(waves, axis=-1) * 127.5 + 127.5
    return np.stack([image, 255 - image[::-1] ** 2 / 255]).astype("float32")


def layer_scale_class(keras):
    """The layer as the published pipeline has it: not registered, one vector of factors."""

    class LayerScale(keras.layers.Layer):
        def __init__(self, epsilon=1.0, **kwargs):
            super().__init__(**kwargs)
            self.epsilon = epsilon

        def build(self, input_shape):
            self.gamma = self.add_weight(
                name="gamma",
                shape=(input_shape[-1],),
                initializer=keras.initializers.Constant(self.epsilon),
                trainable=True,
            )
            self.built = True

        def call(self, inputs):
            return inputs * self.gamma

        def get_config(self):
            return dict(super().get_config(), epsilon=self.epsilon)

    return LayerScale


def reference_model(keras, multiply):
    layers = keras.layers
    layer_scale = layer_scale_class(keras)

    def convolution(filters, size, name, **options):
        return layers.Conv2D(
            filters, size, use_bias=False, kernel_regularizer=keras.regularizers.L2(1e-4), name=name, **options
        )

    def block(x, stage, final_add):
        name = f"convNeXt{stage}_block0_"
        width = x.shape[-1]
        y = layers.DepthwiseConv2D(
            5,
            padding="same",
            use_bias=False,
            depthwise_regularizer=keras.regularizers.L2(1e-4),
            name=name + "5x5_dconv2D",
        )(x)
        y = layers.LayerNormalization(epsilon=1e-5, name=name + "layerNormalization")(y)
        y = convolution(2 * width, 1, name + "expand_conv2D", activation="gelu")(y)
        y = convolution(width, 1, name + "smooth_conv2D")(y)
        y = layer_scale(epsilon=0.5, name=name + "layerScale")(y)
        y = layers.GaussianNoise(0.1, name="gaussian_noise" if stage == 0 else "gaussian_noise_1")(y)
        return final_add(x, y)

    inputs = keras.Input((None, None, 3), name="input")
    x = layers.RandomCrop(96, 96, name="random_crop")(inputs)
    x = layers.Rescaling(1 / 127.5, offset=-1, name="rescale")(x)
    x = convolution(WIDTH, 4, "convNeXt0_downSample_conv2D", strides=4)(x)
    x = layers.LayerNormalization(epsilon=1e-5, name="convNeXt0_downSample_layerNormalization")(x)
    x = block(x, 0, lambda a, b: a + b)
    x = layers.LayerNormalization(epsilon=1e-5, name="convNeXt1_downSample_layerNormalization")(x)
    x = convolution(2 * WIDTH, 2, "convNeXt1_downSample_conv2D", strides=2, padding="same")(x)
    gate = convolution(1, 1, "convNeXt1_fuse_conv2D", activation="sigmoid")(x)
    fused = multiply(x, gate) + x
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name="convNeXt1_squeezeExcite_gap")(fused)
    pooled = layers.Dense(2, activation="swish", use_bias=False, name="convNeXt1_squeeze_dense")(pooled)
    pooled = layers.Dense(2 * WIDTH, activation="sigmoid", use_bias=False, name="convNeXt1_excite_dense")(pooled)
    x = multiply(fused, pooled) + x
    x = block(x, 1, lambda a, b: layers.Add(name="convNeXt1_block0_add")([a, b]))
    x = layers.GlobalAveragePooling2D(name="output_gap")(x)
    x = layers.LayerNormalization(epsilon=1e-5, name="output_layerNormalization")(x)
    return keras.Model(inputs, layers.Dense(5, name="output_dense")(x), name="model")


def nested_model(keras):
    layers = keras.layers
    stem = keras.Sequential(
        [
            layers.Conv2D(WIDTH, 3, strides=4, padding="same", kernel_regularizer=keras.regularizers.L1L2(1e-4, 1e-3)),
            layers.BatchNormalization(),
            layers.Activation("relu"),
        ],
        name="stem",
    )
    part = keras.Input((None, None, WIDTH), name="part_input")
    y = layers.SeparableConv2D(WIDTH, 3, padding="same", name="separable")(part)
    branch = keras.Model(part, layers.PReLU(shared_axes=[1, 2], name="prelu")(y), name="branch")
    shared = layers.Conv2D(WIDTH, 1, activation=keras.activations.tanh, name="shared")

    inputs = keras.Input((None, None, 3), name="pixels")
    x = layers.Rescaling(1 / 255.0)(inputs)
    x = layers.RandomFlip("horizontal", seed=1)(x)
    x = stem(x)
    x = layers.Concatenate()([shared(branch(x)), shared(x)])
    x = layers.Resizing(4, 4)(x)
    tokens = layers.Reshape((16, 2 * WIDTH))(x)
    attended = layers.MultiHeadAttention(2, 3, name="attention")(tokens, tokens)
    x = layers.Average()([tokens, attended])
    x = layers.Dropout(0.5)(layers.GlobalMaxPooling1D()(x))
    return keras.Model(inputs, layers.Dense(5, name="logits")(x), name="nested")


def foreign_model(keras):
    import tensorflow as tf

    layers, version = keras.layers, tuple(map(int, keras.__version__.split(".")[:2]))
    keras_2 = version < (3,)
    applications = "keras.applications" if version == (2, 12) else "keras.src.applications"
    convnext, inception, utils = (
        importlib.import_module(f"{applications}.{name}")
        for name in ("convnext", "inception_resnet_v2", "imagenet_utils")
    )
    inputs = keras.Input((None, None, 3), name="image")
    if version < (3, 3):  # none of these can save the ellipsis in its own preprocess_input
        reversed_channels = inputs[:, :, :, ::-1] - np.array([103.939, 116.779, 123.68], "float32")
    else:
        reversed_channels = utils.preprocess_input(inputs, mode="caffe")
    seen = [utils.preprocess_input(inputs, mode="tf"), utils.preprocess_input(inputs, mode="torch")]
    seen += [reversed_channels * (1 / 58), (255.0 - inputs) / 255, -inputs[:, :, :, :1] / 127.5]
    x = layers.Concatenate()(seen)
    x = layers.Conv2D(WIDTH, 3, strides=4, activation="hard_sigmoid", name="block/a" if keras_2 else "block a")(x)
    y = convnext.LayerScale(0.5, WIDTH, name="scale")(x)
    y = convnext.StochasticDepth(0.3, name="depth")(y)
    x = inception.CustomScaleLayer(0.2, name="residual")([x + y, y])
    x = layers.BatchNormalization(name="block/b" if keras_2 else "größe")(x)
    x = (tf.nn.relu if keras_2 else keras.ops.relu)(x)
    x = layers.Dense(5, name="logits")(layers.GlobalAveragePooling2D(name="pool")(x))
    return keras.Model({"image": inputs}, keras.activations.softmax(x), name="foreign")


def set_weights(model):
    """Give every weight a value that depends on its place in the model alone."""
    rng = np.random.RandomState(7)

    def visit(layer):
        if getattr(layer, "layers", None):
            for inner in layer.layers:
                visit(inner)
        else:
            values = []
            for old in layer.get_weights():
                if old.dtype.kind != "f":
                    values.append(old)  # the state of a random layer
                else:
                    new = rng.normal(0, 0.5, old.shape)
                    values.append(np.abs(new) + 0.1 if old.ndim == 1 else new)
            layer.set_weights(values)

    visit(model)


def compress(path):
    """Deflate the members of a zip in place: Keras stores them as they are, four times as large."""
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)


def write_here(directory):
    """Write the models with this environment's Keras, and what is expected of them with Keras 2.13 and 3.15."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    import keras
    import tensorflow as tf

    version = ".".join(keras.__version__.split(".")[:2])
    multiply = tf.math.multiply if version.startswith("2.") else lambda a, b: a * b
    expected = {}
    models = {"reference": reference_model(keras, multiply), "nested": nested_model(keras)}
    for name, model in {**models, "foreign": foreign_model(keras)}.items():
        set_weights(model)
        path = directory / f"{name}-{version}.keras"
        if version == "2.12":  # which by itself writes HDF5 under the ending .keras
            model.save(str(directory / f"{name}-2.12-hdf5.keras"))
            model.save(str(path), save_format="keras_v3")
        else:
            model.save(str(path))
        compress(path)
        for height, width in SIZES:
            images = tf.constant(smooth_images(height, width))
            outputs = model({"image": images} if name == "foreign" else images, training=False)
            expected[f"{name}-{height}x{width}"] = np.asarray(outputs)
        model.trainable = False
        expected[name + "-penalty"] = np.float32(sum(np.asarray(loss) for loss in model.losses))
    if version == "2.13":
        np.savez(str(directory / "expected.npz"), **expected)
    if version == "3.15":
        foreign = {name: value for name, value in expected.items() if name.startswith("foreign")}
        np.savez(str(directory / "expected-foreign-3.npz"), **foreign)
    print("wrote Keras", keras.__version__)


def write_all(directory):
    for _, packages in VERSIONS:
        with tempfile.TemporaryDirectory() as environment:
            venv.create(environment, with_pip=True)
            python = os.path.join(environment, "bin", "python")
            for package in packages:
                subprocess.run([python, "-m", "pip", "install", "--quiet", package], check=True)
            subprocess.run([python, __file__, "--here", str(directory)], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--here", action="store_true", help="only with the Keras of this environment")
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    if arguments.here:
        write_here(arguments.directory)
    else:
        write_all(arguments.directory)


if __name__ == "__main__":
    sys.exit(main())
