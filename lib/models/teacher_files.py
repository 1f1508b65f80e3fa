"""Teachers: models that another one learns to answer like."""

import os
import re

import tensorflow as tf

from lib.errors import UsageError
from lib.models.inference import try_out
from lib.models.keras_files import load_model


def open_teacher(path, outputs, size, bands=3, output=None):
    """Open a teacher.

    A SavedModel is a program: TensorFlow does what it says. A `.keras` file holds plain layers only.

    Args:
        path: a directory with a SavedModel, whose `serving_default` takes one float32 tensor
            `(batch, bands, size, size)`, 0-1, and returns a dictionary with logits `(batch, outputs)`; or a `.keras`
            file, from `(batch, size, size, bands)`, 0-255, to logits. Variables become those of the strategy in
            whose scope this is called.
        outputs: how many logits it has to give.
        size: the height and width of the images, in pixels.
        bands: their channels.
        output: which of the SavedModel's outputs to take; None for the one that is called `output`, or the only one.

    Returns:
        A compiled function from float32 `(batch, size, size, bands)`, 0-255, to float32 logits `(batch, outputs)`. No
        gradient goes through it.

    Raises:
        UsageError: the path holds no teacher, or one for other images or with other outputs.
    """
    if os.path.isdir(path):
        answer = _saved_model(path, outputs, size, bands, output)
    else:
        if output is not None:
            raise UsageError(f"--teacher-output: {path} has one output without a name; only a SavedModel has several.")
        answer = _keras_file(path, outputs, size, bands)

    @tf.function(input_signature=[tf.TensorSpec((None, size, size, bands), tf.float32)])
    def teacher(pixels):
        return tf.stop_gradient(tf.cast(answer(pixels), "float32"))

    return teacher


def _keras_file(path, outputs, size, bands):
    model = load_model(path, outputs)
    model.trainable = False
    _check_input(path, tuple(model.input_shape[1:]), (size, size, bands), "height, width and bands")
    try_out(model, path, (size, size, bands))
    return lambda pixels: model(pixels, training=False)


def _saved_model(path, outputs, size, bands, output):
    try:
        loaded = tf.saved_model.load(path)
    except Exception as error:  # whatever a damaged or foreign file makes TensorFlow raise
        raise UsageError(f"{path} can't be opened as a SavedModel ({_first_line(error)}).") from error
    if "serving_default" not in loaded.signatures:
        raise UsageError(f"{path} is a SavedModel without the signature serving_default.")
    function = loaded.signatures["serving_default"]
    inputs = function.structured_input_signature[1]
    if len(inputs) != 1:
        raise UsageError(f"{path} takes {len(inputs)} inputs ({', '.join(inputs)}), but a teacher takes one.")
    ((name, spec),) = inputs.items()
    if spec.dtype != tf.float32:
        raise UsageError(f"{path} takes {spec.dtype.name}, but a teacher takes float32.")
    if spec.shape.rank is not None:
        shape = spec.shape.as_list()
        _check_input(path, tuple(shape[1:]), (bands, size, size), "bands, height and width")
        if shape[0] is not None:
            raise UsageError(f"{path} takes {shape[0]} images at once; export it for batches of any size.")
    chosen = _choose_output(path, function.structured_outputs, output)

    def answer(pixels):
        # By the object and not by its function alone: its variables last as long as it does.
        scaled = tf.transpose(pixels, [0, 3, 1, 2]) / 255
        return loaded.signatures["serving_default"](**{name: scaled})[chosen]

    shape = function.structured_outputs[chosen].shape
    if shape.rank is None or shape[-1] is None:
        shape = answer(tf.zeros((1, size, size, bands))).shape
    if shape.rank != 2 or shape[-1] != outputs:
        raise UsageError(
            f"{path} gives {_words(shape[1:])} as {chosen!r}, but -a/--array asks for {outputs} logits per image."
        )
    return answer


def _choose_output(path, outputs, wanted):
    names = sorted(outputs)  # else in another order each time
    if wanted is not None:
        if wanted not in outputs:
            raise UsageError(f"--teacher-output: {path} has no output {wanted!r}, only {', '.join(names)}.")
        return wanted
    if "output" in outputs:
        return "output"
    if len(names) > 1:
        raise UsageError(f"{path} has the outputs {', '.join(names)}; choose one with --teacher-output.")
    return names[0]


def _check_input(path, shape, expected, words):
    if len(shape) != len(expected) or any(side not in (None, right) for side, right in zip(shape, expected)):
        raise UsageError(
            f"{path} takes images of {_words(shape)} ({words}), not {_words(expected)}; --image sets the size, "
            "the student the bands."
        )


def _words(shape):
    return " x ".join("any" if side is None else str(side) for side in shape) or "one number"


def _first_line(error):
    lines = [line.strip() for line in re.split(r"[\r\n]+", str(error)) if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
