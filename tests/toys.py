"""Tiny records and models that a training learns from in seconds."""

import io

import numpy as np
from PIL import Image

from lib.data.record_format import make_record, scan

SIZE = 16


def picture(category, rng, size=SIZE):
    """A noisy picture whose colour and grain tell its category, of three."""
    pixels = rng.integers(0, 90, (size, size, 3)) + 60
    pixels[..., category % 3] += 50
    pixels[:: category + 2] += 20
    return pixels.astype("uint8")


def write_records(path, count, seed, categories=3, size=SIZE):
    """Write records of pictures, their categories in turn; returns the path as text."""
    rng = np.random.default_rng(seed)
    with open(path, "wb") as file:
        for number in range(count):
            jpeg = io.BytesIO()
            Image.fromarray(picture(number % categories, rng, size)).save(jpeg, "JPEG", quality=94)
            file.write(make_record(number % categories, jpeg.getvalue()))
    return str(path)


def jpeg(seed, size=(16, 12), mode="RGB"):
    """The bytes of a JPEG of noise, `size` being its width and height."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype("uint8")
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", quality=90)
    return file.getvalue()


def write_damaged_records(path, count=12, first=5):
    """Write records, from the first-th on unreadable since a bit of its length is flipped; returns the path as text."""
    write_records(path, count, 1)
    place = list(scan(str(path)))[first].offset - 12
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    return str(path)


def write_model(path, outputs=3, noise=0.0, bands=3):
    """Write a model of few layers, whose step is compiled in no time; returns the path as text.

    Args:
        path: where to.
        outputs: how many logits it gives.
        noise: the standard deviation of a noise in the middle of it.
        bands: how many channels its images have.
    """
    import keras

    from lib.models.keras_files import save_model

    def start(seed):
        return keras.initializers.GlorotUniform(seed=seed)

    penalty = keras.regularizers.L2(1e-4)
    inputs = keras.Input((None, None, bands), name="input")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="rescale")(inputs)
    x = keras.layers.Conv2D(
        8, 4, 4, use_bias=False, kernel_initializer=start(1), kernel_regularizer=penalty, name="stem"
    )(x)
    x = keras.layers.LayerNormalization(name="norm")(x)
    x = keras.layers.Conv2D(
        16, 1, activation="gelu", kernel_initializer=start(2), kernel_regularizer=penalty, name="expand"
    )(x)
    if noise:
        x = keras.layers.GaussianNoise(noise, name="noise")(x)
    x = keras.layers.GlobalAveragePooling2D(name="gap")(x)
    x = keras.layers.Dense(outputs, kernel_initializer=start(3), name="output_dense")(x)
    save_model(keras.Model(inputs, x), str(path))
    return str(path)


def write_layers(path, *layers):
    """Write a model of three categories with these layers before the pooling; returns the path as text."""
    import keras

    from lib.models.keras_files import save_model

    x = inputs = keras.Input((None, None, 3))
    for layer in (*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)):
        x = layer(x)
    model = keras.Model(inputs, x)
    model.image_size = SIZE
    save_model(model, str(path))
    return str(path)


def write_saved_model(path, answers, size=SIZE, outputs=("output",), batch=None):
    """Write a SavedModel as a teacher is; returns the path as text.

    Args:
        path: the directory to make.
        answers: from a float32 tensor `(batch, 3, size, size)`, 0-1, to logits; may use `tf.Variable`s that are its
            attributes' values.
        size: the side of its images.
        outputs: the names under which it gives those logits, the second one's doubled and so on.
        batch: how many images it takes at once; None for any number.
    """
    import tensorflow as tf

    module = tf.Module()
    module.held = getattr(answers, "held", [])

    @tf.function(input_signature=[tf.TensorSpec((batch, 3, size, size), tf.float32, name="input")])
    def serve(pixels):
        logits = answers(pixels)
        return {name: logits * (number + 1) for number, name in enumerate(outputs)}

    tf.saved_model.save(module, str(path), signatures={"serving_default": serve})
    return str(path)


def linear_teacher(variables=True, categories=3):
    """What `write_saved_model` takes: logits that tell the pictures' categories by their colours.

    Args:
        variables: whether its numbers are variables, else constants.
        categories: 3, or more, of which the others are never answered.
    """
    import tensorflow as tf

    kernel = np.zeros((3, categories), "float32")
    kernel[:, :3] = 60 * (np.eye(3) - 1 / 3)
    kernel[:, 3:] = -30
    kernel = tf.Variable(kernel) if variables else tf.constant(kernel)

    def answers(pixels):
        return tf.reduce_mean(pixels, axis=[2, 3]) @ kernel

    answers.held = [kernel] if variables else []
    return answers
