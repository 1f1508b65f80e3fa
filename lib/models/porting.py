"""Making a teacher of a PyTorch checkpoint: a vision transformer as a SavedModel."""

import os
import tempfile
from typing import NamedTuple, Tuple

import numpy as np

from lib.errors import UsageError, WorkError
from lib.models.torch_files import read_arrays
from lib.system.devices import bind_devices

# What a training's images were normalised by: mean and standard deviation of each band, of pixels from 0 to 1.
NORMALIZATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
_MADE_HERE = "herbariograph-teacher.txt"  # in `assets.extra`, where TensorFlow leaves files alone


class Ported(NamedTuple):
    """What was made.

    Attributes:
        size: height and width of the images, in pixels.
        outputs: how many logits there are.
        parameters: how many numbers the model has.
    """

    size: int
    outputs: int
    parameters: int


def port(checkpoint, output, heads=None, key=None, normalization="imagenet", overwrite=False, report=print):
    """Make a SavedModel of a checkpoint: `serving_default` from float32 `(batch, bands, size, size)`, 0-1, as `input`,
    to float32 logits `(batch, outputs)` as `output`.

    Args:
        checkpoint: the path of a `.safetensors` file or of what `torch.save` wrote, in timm's naming.
        output: the directory to make.
        heads: see `lib.models.vit.design_of`.
        key: see `lib.models.torch_files.read_arrays`.
        normalization: one of `NORMALIZATIONS`, which becomes part of the model.
        overwrite: whether to replace a teacher that was made here before.
        report: called with each message for the user.

    Returns:
        `Ported`.

    Raises:
        UsageError: the checkpoint can't be used, or there is something in the output's place.
        WorkError: arrays are missing, left over or no numbers; there is no room.
    """
    if os.path.lexists(output) and not (overwrite and is_made_here(output)):
        cure = "--overwrite replaces it" if is_made_here(output) else "choose another one"
        raise UsageError(f"-o/--output: {output} already exists; {cure}.")
    tensors = read_arrays(checkpoint, key)
    bind_devices(cpu=True)

    from lib.models.vit import build_vit, check_arrays, design_of, put_arrays

    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    try:
        design = design_of(shapes, heads)
        check_arrays(shapes, design)
    except WorkError as error:
        raise WorkError(f"{checkpoint}: {error}") from error
    bands = len(NORMALIZATIONS[normalization][0])
    if design.bands != bands:
        raise UsageError(f"{checkpoint} is for images of {design.bands} bands; teachers have {bands}.")
    report(
        f"A vision transformer for {design.size} x {design.size} pixels: patches of {design.patch}, width "
        f"{design.width}, {design.depth} blocks, {design.heads} heads, {design.outputs:,} outputs from the "
        f"{'mean of all tokens' if design.mean else 'class token'}."
    )
    model = build_vit(design)

    def read(name):
        values = tensors[name].read()
        if not np.isfinite(values).all():
            raise WorkError(f"{checkpoint}: {name} holds infinite or NaN values: its training went wrong.")
        return values

    put_arrays(model, design, read)
    write_teacher(model, NORMALIZATIONS[normalization], output, overwrite)
    return Ported(design.size, design.outputs, model.count_params())


def is_made_here(path):
    """Whether a directory is a teacher that `write_teacher` made."""
    return os.path.isfile(os.path.join(path, "assets.extra", _MADE_HERE))


def write_teacher(model, normalization: Tuple, output, overwrite=False):
    """Write a Keras model as a teacher's SavedModel, which appears whole or not at all.

    Args:
        model: from float32 `(batch, size, size, bands)`, normalised, to logits.
        normalization: mean and standard deviation of each band, of pixels from 0 to 1.
        output: the directory to make.
        overwrite: whether to replace one that is there.

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

    # Its numbers and what is done with them, not the Keras model: so that any TensorFlow opens it, without Keras.
    module = tf.Module()
    module.numbers = [weight if isinstance(weight, tf.Variable) else weight.value for weight in model.weights]
    folder, name = os.path.split(os.path.abspath(output))
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder) as draft:
        made, former = os.path.join(draft, name), os.path.join(draft, "former")
        try:
            tf.saved_model.save(module, made, signatures={"serving_default": serve})
        except tf.errors.OpError as error:  # such as that of a full disk
            reason = str(error).splitlines()[0]
            raise WorkError(f"-o/--output: {output} can't be written ({reason}).") from error
        os.makedirs(os.path.join(made, "assets.extra"), exist_ok=True)
        with open(os.path.join(made, "assets.extra", _MADE_HERE), "w", encoding="utf-8") as file:
            file.write("A teacher for distilling, made by vitTeacher.py.\n")
        if not (overwrite and os.path.isdir(output)):
            os.rename(made, output)
            return
        os.rename(output, former)
        try:
            os.rename(made, output)
        except BaseException:
            os.rename(former, output)
            raise
