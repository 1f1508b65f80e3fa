"""A model compiled for answering: the same logits as the model's, in less time.

What a ConvNeXt spends on a CPU beside its convolutions goes into element-wise steps. Those that only scale or shift
what a convolution then mixes linearly are put into that convolution's weights: once, when the function is made, or in
each call if the weights change, which is still little beside a batch of images.
"""

import inspect
from typing import Any, NamedTuple, Optional

import keras
import numpy as np
import tensorflow as tf

from lib.models.layers import LayerScale, RandomCrop
from lib.system.devices import applying

# The layers of a ConvNeXt. A model that holds any other is applied as Keras does it.
_FOLLOWED = frozenset(
    [
        keras.layers.InputLayer,
        RandomCrop,
        keras.layers.Rescaling,
        keras.layers.Conv2D,
        keras.layers.DepthwiseConv2D,
        keras.layers.LayerNormalization,
        keras.layers.MaxPooling2D,
        LayerScale,
        keras.layers.GaussianNoise,
        keras.layers.Add,
        keras.layers.Multiply,
        keras.layers.GlobalAveragePooling2D,
        keras.layers.Dense,
    ]
)

FEATURES = "output_layerNormalization"  # the layer after the pooling


class _Value(NamedTuple):
    """A tensor in the making: what it stands for is `tensor * scale + shift`."""

    tensor: Any
    scale: Optional[Any] = None
    shift: Optional[Any] = None


class NoFeaturesError(ValueError):
    """A model has no features; the message is a clause about it."""


def compile_logits(model, shape, changing=False, named="the model"):
    """Compile a model for inference on batches of one shape.

    Args:
        model: a functional Keras model with one input and one output.
        shape: `(batch, height, width, bands)`.
        changing: whether the model's weights may change between one call and the next; if not, those that it has now
            are put together once rather than in each call.
        named: what to call it.

    Returns:
        A function from a float32 tensor of that shape, 0-255, to float32 logits `(batch, outputs)`; several threads may
        call it at once.

    Raises:
        UsageError: the model can't be applied to such images; so does the function.
    """

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)], autograph=False)
    def logits(pixels):
        return _folded(model, pixels, [model.output], tf.convert_to_tensor if changing else _array)[0]

    with applying(named, shape):
        logits.get_concrete_function()
    return applied(logits, named, shape)


def applied(function, named, shape):
    """A function that applies a model, which raises UsageError where that fails: see `lib.system.devices.applying`."""

    def apply(pixels):
        with applying(named, shape):
            return function(pixels)

    return apply


def try_out(model, named, shape, training=False):
    """Apply a model to a black and a white image, the extremes of what it will be given.

    Args:
        model: a Keras model. What it learns while it is trained, such as the moving means of a normalization, changes.
        named: what to call it.
        shape: height, width and bands.
        training: whether it is applied as in training.

    Raises:
        UsageError: that fails.
    """
    pixels = np.stack([np.zeros(shape, "float32"), np.full(shape, 255, "float32")])
    # In a graph: some operations that are called directly take what they can't work on.
    apply = tf.function(lambda images: model(images, training=training), autograph=False)
    with applying(named, pixels.shape):
        apply(tf.constant(pixels))


def compile_features(model, shape, named="the model"):
    """Compile a model that gives the pooled features, too, which its logits are made of.

    They are the output of the layer `output_layerNormalization`; of a model without it, what its last layer is given.

    Args:
        model, shape, named: see `compile_logits`.

    Returns:
        A function from a float32 tensor of that shape, 0-255, to float32 logits `(batch, outputs)` and features
        `(batch, width)`; several threads may call it at once.

    Raises:
        NoFeaturesError: the model has none that are one vector for each image.
        UsageError: see `compile_logits`.
    """
    of_features = [layer for layer in model.layers if layer.name == FEATURES]
    try:
        features = of_features[0].output if of_features else model.layers[-1].input
    except (AttributeError, ValueError):
        features = None
    if len(getattr(features, "shape", ())) != 2:
        raise NoFeaturesError(f"has no layer {FEATURES}, and the input of its last layer is not one vector per image")

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)], autograph=False)
    def answers(pixels):
        logits, vectors = _folded(model, pixels, [model.output, features], _array)
        return logits, tf.cast(vectors, "float32")

    with applying(named, shape):
        answers.get_concrete_function()
    return applied(answers, named, shape)


def _folded(model, pixels, wanted, value_of):
    """Apply a model layer by layer, scales and shifts folded into the convolutions that follow.

    Args:
        model: the model.
        pixels: a tensor.
        wanted: which of the model's symbolic tensors to compute.
        value_of: gives a weight's values, as an array or as a tensor.

    Returns:
        A tensor for each of them.
    """

    def plainly():
        if len(wanted) == 1:
            return [model(pixels, training=False)]
        return keras.Model(model.input, wanted)(pixels, training=False)

    if not all(type(layer) in _FOLLOWED for layer in model.layers):
        return plainly()
    try:
        flow = [(layer, layer.input, layer.output) for layer in model.layers[1:]]
    except (AttributeError, ValueError):  # a layer that is called twice has no one input
        return plainly()
    users = {}
    for layer, inputs, _ in flow:
        for tensor in inputs if isinstance(inputs, (list, tuple)) else [inputs]:
            users.setdefault(id(tensor), []).append(layer)
    values = {id(model.input): _Value(pixels)}
    for layer, inputs, output in flow:
        several = isinstance(inputs, (list, tuple))
        given = [values[id(tensor)] for tensor in (inputs if several else [inputs])]
        following = users.get(id(output), [])
        if type(layer) is keras.layers.Conv2D:
            values[id(output)] = _convolve(layer, given[0], following, value_of)
        elif _is_plain_normalization(layer):
            values[id(output)] = _normalize(layer, given[0].tensor, following, value_of)
        elif isinstance(layer, RandomCrop) and given[0].tensor.shape[1:3] == (layer.height, layer.width):
            values[id(output)] = given[0]  # resizing to the same size changes nothing
        else:
            tensors = [value.tensor for value in given]
            options = {"training": False} if "training" in inspect.signature(layer.call).parameters else {}
            values[id(output)] = _Value(layer(tensors if several else tensors[0], **options))
    return [_plain(values[id(tensor)]) for tensor in wanted]


def _plain(value):
    """What a `_Value` stands for, as one tensor."""
    tensor = value.tensor if value.scale is None else value.tensor * value.scale
    return tensor if value.shift is None else tensor + value.shift


def _is_plain_normalization(layer):
    """Whether a layer is a LayerNormalization over the channels, with scale and shift, in float32."""
    return (
        isinstance(layer, keras.layers.LayerNormalization)
        and layer.scale
        and layer.center
        and list(np.ravel(layer.axis)) in ([len(layer.input.shape) - 1], [-1])
        and layer.compute_dtype == "float32"
        and not getattr(layer, "rms_scaling", False)
    )


def _takes_over(following, shifted):
    """Whether the one layer that uses a tensor is a convolution into whose weights a scale (and shift) can go."""
    if len(following) != 1 or type(following[0]) is not keras.layers.Conv2D:
        return False
    layer = following[0]
    # Of a larger kernel the zeros around the picture would have to be shifted, too.
    return layer.groups == 1 and layer.data_format == "channels_last" and not (shifted and layer.kernel_size != (1, 1))


def _normalize(layer, tensor, following, value_of):
    """Layer normalization; its scale and shift are left to a convolution that can take them over."""
    centred = tensor - tf.reduce_mean(tensor, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
    normal = centred * tf.math.rsqrt(variance + layer.epsilon)
    gamma, beta = value_of(layer.gamma), value_of(layer.beta)
    if _takes_over(following, shifted=True):
        return _Value(normal, gamma, beta)
    return _Value(normal * gamma + beta)


def _convolve(layer, value, following, value_of):
    """A convolution with what was left to it; after it the exact GELU, if that is its activation, in three steps.

    gelu(x) = x (1 + erf(x / sqrt 2)) / 2, and with z = x / sqrt 2 it is z (1 + erf z) / sqrt 2: this convolution's
    weights take the first root, those of the following one the second.
    """
    kernel = value_of(layer.kernel)
    bias = value_of(layer.bias) if layer.use_bias else None
    if value.shift is not None:
        shift = tf.reduce_sum(kernel * value.shift[:, None], axis=(0, 1, 2))
        bias = shift if bias is None else bias + shift
    if value.scale is not None:
        kernel = kernel * value.scale[:, None]
    root = np.float32(np.sqrt(0.5))
    gelu = layer.activation is keras.activations.gelu and _takes_over(following, shifted=False)
    if gelu:
        kernel, bias = kernel * root, None if bias is None else bias * root
    mixed = tf.nn.conv2d(value.tensor, kernel, layer.strides, layer.padding.upper(), dilations=layer.dilation_rate)
    if bias is not None:
        mixed = tf.nn.bias_add(mixed, bias)
    if gelu:
        return _Value(mixed * (1 + tf.math.erf(mixed)), np.full(kernel.shape[-1], root))
    return _Value(layer.activation(mixed))


def _array(weight):
    """A weight's values, also while a function is being traced."""
    with tf.init_scope():
        return np.array(weight.numpy())
