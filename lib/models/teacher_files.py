"""Teachers, models whose logits a student learns: opened from SavedModels and `.keras` files, and written."""

import os
import tempfile

from lib.errors import UsageError, WorkError, option
from lib.storage.untrusted import one_line

_MADE_HERE = "herbariograph-teacher.txt"  # in `assets.extra`, where TensorFlow leaves files alone


def open_teacher(path, categories, size, bands=3, output=None):
    """Open a teacher.

    A SavedModel is a program, which TensorFlow runs. A `.keras` file holds plain layers only.

    Args:
        path: a directory with a SavedModel, whose `serving_default` takes one float32 tensor
            `(batch, bands, size, size)`, 0-1, and returns a dictionary with logits `(batch, categories)`; or a `.keras`
            file, from `(batch, size, size, bands)`, 0-255, to logits. Its variables are made in the current
            distribution strategy's scope.
        categories: the number of its logits.
        size: the height and width of the images, in pixels.
        bands: their channels.
        output: the name of the SavedModel's output; None for the one called `output`, or the only one.

    Returns:
        A compiled function from float32 `(batch, size, size, bands)`, 0-255, to float32 logits `(batch, categories)`.
        No gradient goes through it.

    Raises:
        UsageError: the path holds no teacher, or one for other images or categories.
    """
    import tensorflow as tf

    if os.path.isdir(path):
        answer = _saved_model(path, categories, size, bands, output)
    else:
        if output is not None:
            raise UsageError(f"{path} has one output; only a SavedModel has several, with names.", "teacher_output")
        answer = _keras_file(path, categories, size, bands)

    @tf.function(input_signature=[tf.TensorSpec((None, size, size, bands), tf.float32)])
    def teacher(pixels):
        return tf.stop_gradient(tf.cast(answer(pixels), "float32"))

    return teacher


def _keras_file(path, categories, size, bands):
    from lib.models.inference import try_out
    from lib.models.keras_files import load_model

    model = load_model(path, categories)
    model.trainable = False
    _check_input(path, tuple(model.input_shape[1:]), (size, size, bands), "height, width and bands")
    try_out(model, path, (size, size, bands))
    return lambda pixels: model(pixels, training=False)


def _saved_model(path, categories, size, bands, output):
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(path)
    except Exception as error:  # a damaged or foreign file makes TensorFlow raise anything
        raise UsageError(f"{path} can't be opened as a SavedModel ({one_line(error)[:200]}).") from error
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
        batch, *shape = spec.shape.as_list()
        _check_input(path, shape, (bands, size, size), "bands, height and width")
        if batch is not None:
            raise UsageError(f"{path} takes {batch} images at once; export it for batches of any size.")
    chosen = _choose_output(path, function.structured_outputs, output)

    def answer(pixels):
        # By the object and not by its function alone: its variables last as long as it does.
        scaled = tf.transpose(pixels, [0, 3, 1, 2]) / 255
        return loaded.signatures["serving_default"](**{name: scaled})[chosen]

    shape = function.structured_outputs[chosen].shape
    if shape.rank is None or shape[-1] is None:
        shape = answer(tf.zeros((1, size, size, bands))).shape
    if shape.rank != 2 or shape[-1] != categories:
        wanted = f"{option('categories')} asks for {categories} logits"
        raise UsageError(f"{path} gives {_words(shape[1:])} as {chosen!r}, but {wanted}.")
    return answer


def _choose_output(path, outputs, wanted):
    names = sorted(outputs)  # else in another order each time
    if wanted is not None and wanted not in outputs:
        raise UsageError(f"{path} has no output {wanted!r}, only {', '.join(names)}.", "teacher_output")
    if wanted is None and "output" not in outputs and len(names) > 1:
        raise UsageError(f"{path} has the outputs {', '.join(names)}; choose one with {option('teacher_output')}.")
    return wanted or ("output" if "output" in outputs else names[0])


def _check_input(path, shape, expected, words):
    if len(shape) != len(expected) or any(side not in (None, right) for side, right in zip(shape, expected)):
        cure = f"{option('teacher_size')} sets the size, the student the bands"
        raise UsageError(f"{path} takes images of {_words(shape)} ({words}), not {_words(expected)}; {cure}.")


def _words(shape):
    return " x ".join("any" if side is None else str(side) for side in shape) or "one number"


def is_made_here(path):
    """Whether a directory is a teacher that `write_teacher` made."""
    return os.path.isfile(os.path.join(path, "assets.extra", _MADE_HERE))


def write_teacher(model, normalization, output, overwrite=False):
    """Write a Keras model as a teacher's SavedModel, which appears whole or not at all.

    Args:
        model: from float32 `(batch, size, size, bands)`, normalised, to logits.
        normalization: mean and standard deviation of each band, of pixels from 0 to 1.
        output: the directory to make.
        overwrite: whether to replace a former one.

    Raises:
        WorkError: it can't be written.
    """
    import tensorflow as tf

    mean, deviation = (tf.constant(values, "float32") for values in normalization)
    size, _, bands = model.input_shape[1:]

    @tf.function(input_signature=[tf.TensorSpec((None, bands, size, size), tf.float32, name="input")])
    def serve(pixels):
        normal = (tf.transpose(pixels, [0, 2, 3, 1]) - mean) / deviation
        return {"output": tf.cast(model(normal, training=False), "float32")}

    # Of the Keras model only the variables are saved: so any TensorFlow opens the result, without Keras.
    module = tf.Module()
    module.weights = [weight if isinstance(weight, tf.Variable) else weight.value for weight in model.weights]
    folder, name = os.path.split(os.path.abspath(output))
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder) as draft:
        made, former = os.path.join(draft, name), os.path.join(draft, "former")
        try:
            tf.saved_model.save(module, made, signatures={"serving_default": serve})
        except tf.errors.OpError as error:  # such as that of a full disk
            raise WorkError(f"{output} can't be written ({one_line(error)}).", "output") from error
        os.makedirs(os.path.join(made, "assets.extra"), exist_ok=True)
        with open(os.path.join(made, "assets.extra", _MADE_HERE), "w", encoding="utf-8") as file:
            file.write("A teacher for distilling, made by vitTeacher.py.\n")
        if overwrite and os.path.isdir(output):
            os.rename(output, former)
        try:
            os.rename(made, output)
        except BaseException:
            if os.path.isdir(former):
                os.rename(former, output)
            raise
