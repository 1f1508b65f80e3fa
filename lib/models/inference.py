"""Models compiled for inference: the same logits in less time.

On a CPU, what a ConvNeXt does beside convolutions is element-wise. Scales and shifts of a convolution's input are
folded into its weights: once, when the function is made, or in each call if the weights change, which costs little
beside a batch of images.
"""

import inspect
from typing import Any, NamedTuple, Optional

import keras
import numpy as np
import tensorflow as tf

from lib.models.keras_descriptions import FEATURES, NoFeaturesError
from lib.models.layers import LayerScale, RandomCrop
from lib.system.devices import applying

# The layers of a ConvNeXt. A model with any other is applied by Keras.
_KERAS = (
    *("InputLayer", "Rescaling", "Conv2D", "DepthwiseConv2D", "LayerNormalization", "MaxPooling2D", "GaussianNoise"),
    *("Add", "Multiply", "GlobalAveragePooling2D", "Dense"),
)
_FOLDABLE = {RandomCrop, LayerScale, *(getattr(keras.layers, name) for name in _KERAS)}

# Layers with weights that mix no channels.
_RESCALING = (keras.layers.BatchNormalization, keras.layers.LayerNormalization, keras.layers.Normalization, LayerScale)


class _Scaled(NamedTuple):
    """Stands for `tensor * scale + shift`."""

    tensor: Any
    scale: Optional[Any] = None
    shift: Optional[Any] = None


def compile_logits(model, shape, changing=False, named="the model"):
    """Compile a model for inference on batches of one shape.

    Args:
        model: a functional Keras model with one input and one output.
        shape: `(batch, height, width, bands)`.
        changing: whether the model's weights may change between calls; else they are folded once.
        named: its name in messages.

    Returns:
        A function from a float32 tensor of that shape, 0-255, to float32 logits `(batch, outputs)`; several threads may
        call it at once.

    Raises:
        UsageError: the model can't be applied to such images; the function raises it, too.
    """

    compute = _compile(model, shape, [model.output], tf.convert_to_tensor if changing else _array, named)
    return lambda pixels: compute(pixels)[0]


def applied(function, named, shape):
    """A function that applies a model, with errors as of `lib.system.devices.applying`."""
    return applying(named, shape)(function)


def try_out(model, named, shape, training=False):
    """Apply a model to a black and a white image, the extremes of its inputs.

    Args:
        model: a Keras model. In training, its moving averages change.
        named: its name in messages.
        shape: height, width and bands.
        training: whether it is applied as in training.

    Raises:
        UsageError: that fails.
    """
    pixels = np.stack([np.zeros(shape, "float32"), np.full(shape, 255, "float32")])
    # In a graph, since some operations check their inputs only there.
    apply = tf.function(lambda images: model(images, training=training), autograph=False)
    with applying(named, pixels.shape):
        apply(tf.constant(pixels))


def compile_features(model, shape, named="the model"):
    """Compile a model that gives the pooled features, too, from which its logits follow.

    They are the output of the layer `output_layerNormalization`; of a model without it, what the last layer that mixes
    them into logits is given.

    Args:
        model, shape, named: see `compile_logits`.

    Returns:
        A function from a float32 tensor of that shape, 0-255, to float32 logits `(batch, outputs)` and features
        `(batch, width)`; several threads may call it at once.

    Raises:
        NoFeaturesError: the model has none that are one vector per image.
        UsageError: see `compile_logits`.
    """
    features = _features(model)
    if features is None:
        raise NoFeaturesError

    return _compile(model, shape, [model.output, features], _array, named)


def _features(model):
    """The symbolic tensor of a model's features; None if it has none."""
    for layer in model.layers:
        if layer.name == FEATURES:
            return layer.output if len(layer.output.shape) == 2 else None
    tensor = model.output
    while True:  # from the output backwards, through layers that only rearrange, rescale or drop
        layer, node = tensor._keras_history[:2]  # Keras has no public way from a tensor to where it is from
        sources = tf.nest.flatten(layer._inbound_nodes[node].input_tensors)
        if len(sources) != 1:
            return None
        (tensor,) = sources
        if isinstance(layer, keras.Model):
            inner = _features(layer)
            return inner if inner is None else keras.Model(layer.input, inner, name=f"{layer.name}_features")(tensor)
        if isinstance(layer, keras.layers.Conv2D) and tuple(tensor.shape[1:3]) == (1, 1):
            return keras.layers.Flatten(name=f"{layer.name}_features")(tensor)  # a name that the model has not
        if layer.weights and not isinstance(layer, _RESCALING):
            return tensor if len(tensor.shape) == 2 else None


def _compile(model, shape, wanted, read, named):
    """A compiled function from pixels to float32 values of the `wanted` tensors; see `_apply_folded`."""

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)], autograph=False)
    def compute(pixels):
        return [tf.cast(tensor, "float32") for tensor in _apply_folded(model, pixels, wanted, read)]

    with applying(named, shape):
        compute.get_concrete_function()
    return applied(compute, named, shape)


def _apply_folded(model, pixels, wanted, read):
    """Apply a model layer by layer, scales and shifts folded into the convolutions that follow.

    Args:
        model: the model.
        pixels: a tensor.
        wanted: which of the model's symbolic tensors to compute.
        read: from a weight to its values, as an array or a tensor.

    Returns:
        A tensor for each of them.
    """

    def by_keras():
        if len(wanted) == 1:
            return [model(pixels, training=False)]
        return keras.Model(model.input, wanted)(pixels, training=False)

    # Keras 3 has the operations of a model, such as slices, beside its layers.
    if not all(type(layer) in _FOLDABLE for layer in getattr(model, "operations", model.layers)):
        return by_keras()
    try:
        flow = [(layer, layer.input, layer.output) for layer in model.layers[1:]]
    except (AttributeError, ValueError):  # a layer that is called twice has no one input
        return by_keras()
    users = {}
    for layer, inputs, _ in flow:
        for tensor in tf.nest.flatten(inputs):
            users.setdefault(id(tensor), []).append(layer)
    values = {id(model.input): _Scaled(pixels)}
    for layer, inputs, output in flow:
        given = values[id(tf.nest.flatten(inputs)[0])]
        following = users.get(id(output), [])
        if type(layer) is keras.layers.Conv2D:
            values[id(output)] = _convolve(layer, given, following, read)
        elif _is_plain_normalization(layer):
            values[id(output)] = _normalize(layer, given.tensor, following, read)
        elif isinstance(layer, RandomCrop) and given.tensor.shape[1:3] == (layer.height, layer.width):
            values[id(output)] = given  # resizing to the same size changes nothing
        else:
            tensors = tf.nest.map_structure(lambda tensor: values[id(tensor)].tensor, inputs)
            options = {"training": False} if "training" in inspect.signature(layer.call).parameters else {}
            values[id(output)] = _Scaled(layer(tensors, **options))
    return [_resolved(values[id(tensor)]) for tensor in wanted]


def _resolved(value):
    tensor = value.tensor if value.scale is None else value.tensor * value.scale
    return tensor if value.shift is None else tensor + value.shift


def _is_plain_normalization(layer):
    """Whether a layer is a LayerNormalization over the channels, with scale and shift, in float32."""
    if type(layer) is not keras.layers.LayerNormalization or getattr(layer, "rms_scaling", False):
        return False
    channels = list(np.ravel(layer.axis)) in ([len(layer.input.shape) - 1], [-1])
    return channels and layer.scale and layer.center and layer.compute_dtype == "float32"


def _absorbs(following, shifted):
    """Whether the only layer that uses a tensor is a convolution into which a scale (and shift) can be folded."""
    if len(following) != 1 or type(following[0]) is not keras.layers.Conv2D:
        return False
    layer = following[0]
    # For a larger kernel the zeros around the image would have to be shifted, too.
    return layer.groups == 1 and layer.data_format == "channels_last" and not (shifted and layer.kernel_size != (1, 1))


def _normalize(layer, tensor, following, read):
    """Layer normalization, its scale and shift left to the next convolution if that absorbs them."""
    centred = tensor - tf.reduce_mean(tensor, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
    normal = centred * tf.math.rsqrt(variance + layer.epsilon)
    if _absorbs(following, shifted=True):
        return _Scaled(normal, read(layer.gamma), read(layer.beta))
    return _Scaled(normal * read(layer.gamma) + read(layer.beta))


def _convolve(layer, value, following, read):
    """A convolution with its input's scale and shift folded in, then its activation; the exact GELU in three steps.

    gelu(x) = x (1 + erf(x / sqrt 2)) / 2, and with z = x / sqrt 2 it is z (1 + erf z) / sqrt 2: this convolution's
    weights take the first root, those of the following one the second.
    """
    kernel = read(layer.kernel)
    bias = read(layer.bias) if layer.use_bias else None
    if value.shift is not None:
        shift = tf.reduce_sum(kernel * value.shift[:, None], axis=(0, 1, 2))
        bias = shift if bias is None else bias + shift
    if value.scale is not None:
        kernel = kernel * value.scale[:, None]
    root = np.float32(np.sqrt(0.5))
    gelu = layer.activation is keras.activations.gelu and _absorbs(following, shifted=False)
    if gelu:
        kernel, bias = kernel * root, None if bias is None else bias * root
    mixed = tf.nn.conv2d(value.tensor, kernel, layer.strides, layer.padding.upper(), dilations=layer.dilation_rate)
    if bias is not None:
        mixed = tf.nn.bias_add(mixed, bias)
    if gelu:
        return _Scaled(mixed * (1 + tf.math.erf(mixed)), np.full(kernel.shape[-1], root))
    return _Scaled(layer.activation(mixed))


def _array(weight):
    """A weight's values, also while a function is being traced."""
    with tf.init_scope():
        return np.array(weight.numpy())
