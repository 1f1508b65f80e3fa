"""The ConvNeXt of this pipeline (after arXiv:2201.03545), as functions over Keras's layers.

Every layer has a name of its own, stage `K` and block `J` in it, since weights are moved and layers frozen by name.
"""

import dataclasses
import hashlib
import math
from typing import Optional, Tuple

import keras

from lib.models.layers import LayerScale

PENALTY = 1e-4  # L2, on every convolution's kernel
EPSILON = 1e-5  # of the layer normalisations
NOISE = 0.1  # standard deviation
SQUEEZE_RATIO = 4
STEM = 4  # the side of the squares that the first layer makes one position of; smaller images have none


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a ConvNeXt is made of.

    Attributes:
        outputs: how many logits it gives.
        bands: channels of the images.
        filters: channels of the first stage; each further one has twice as many.
        blocks: how many blocks the four stages have.
        expansion: how many times wider a block is inside.
        activation: the name of an activation of Keras.
        depthwise: 5 × 5 convolutions of each channel by itself in the blocks; else ordinary ones.
        max_pool: max-pooling and a 1 × 1 convolution between the stages; else a 2 × 2 convolution.
        excite_channels: squeeze-and-excite of the channels after each of them (arXiv:1709.01507).
        excite_space: squeeze-and-excite of the places (arXiv:1803.02579); with both, each is added to its input.
        layer_scale: a factor for each channel at the end of each block's branch (arXiv:2103.17239).
        noise: Gaussian noise at the end of each block's branch, in training.
        polish: the width of a dense layer before the last; None for none.
        seed: what the first weights follow from.
    """

    outputs: int
    bands: int = 3
    filters: int = 96
    blocks: Tuple[int, int, int, int] = (3, 3, 9, 3)
    expansion: int = 4
    activation: str = "gelu"
    depthwise: bool = True
    max_pool: bool = False
    excite_channels: bool = False
    excite_space: bool = False
    layer_scale: bool = False
    noise: bool = False
    polish: Optional[int] = None
    seed: int = 123456789


def convnext(settings):
    """Build a ConvNeXt with fresh weights, the same for the same seed, whatever was built before.

    Returns:
        A functional Keras model: float32 `(batch, height, width, bands)`, 0-255, of any height and width from 4 on,
        to logits `(batch, outputs)`.
    """
    inputs = keras.Input((None, None, settings.bands), name="input")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="rescale")(inputs)
    x = _stem(x, settings)
    noises = 0
    for stage, blocks in enumerate(settings.blocks):
        if stage:
            x = _excite(_down_sample(x, stage, settings), stage, settings)
        for number in range(blocks):
            noise = None
            if settings.noise:
                noise = f"gaussian_noise_{noises}" if noises else "gaussian_noise"
                noises += 1
            x = _block(x, f"convNeXt{stage}_block{number}", noise, settings)
    x = keras.layers.GlobalAveragePooling2D(name="output_gap")(x)
    x = _normalization(x, "output_layerNormalization")
    if settings.polish is not None:
        x = _dense(x, settings.polish, "gap_resolve_dense", settings, settings.activation)
    logits = _dense(x, settings.outputs, "output_dense", settings, bias=True)
    return keras.Model(inputs, logits, name="convNeXt")


def output_shapes(model, size):
    """What each of a model's layers gives for one image of `size` × `size`: layer's name -> shape without the batch."""
    outputs = keras.Model(model.inputs, [layer.output for layer in model.layers])
    shapes = outputs.compute_output_shape((1, size, size, model.input_shape[-1]))
    return {layer.name: tuple(shape[1:]) for layer, shape in zip(model.layers, shapes)}


def multiply_adds(model, size):
    """How many multiplications followed by additions each layer's kernel takes for one image of `size` × `size`.

    Convolutions and dense layers are counted, as is usual; what is done once for each value is not.

    Returns:
        The layers' names -> their counts, 0 for those without a kernel.
    """
    shapes = output_shapes(model, size)
    return {
        layer.name: 0
        if _kernel(layer) is None
        else math.prod(shapes[layer.name][:-1]) * math.prod(_kernel(layer).shape)
        for layer in model.layers
    }


def summary(model, size):
    """A table of a model's layers as text, with what they give and cost for one image of `size` × `size`.

    Keras's own is cut off where it is not printed on a wide terminal, and knows no costs.
    """
    shapes, costs = output_shapes(model, size), multiply_adds(model, size)
    rows = [("layer", "class", "output", "parameters", "multiply-adds")]
    for layer in model.layers:
        sides = " x ".join(str(side) for side in shapes[layer.name])
        rows.append((layer.name, type(layer).__name__, sides, f"{layer.count_params():,}", f"{costs[layer.name]:,}"))
    rows.append(("total", "", "", f"{model.count_params():,}", f"{sum(costs.values()):,}"))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        left = [value.ljust(width) for value, width in zip(row[:3], widths)]
        right = [value.rjust(width) for value, width in zip(row[3:], widths[3:])]
        lines.append("  ".join(left + right))
    return "\n".join(lines)


def _kernel(layer):
    """A layer's kernel: `(height, width, in, out)`, `(height, width, channels, 1)` or `(in, out)`; None without."""
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return layer.depthwise_kernel if hasattr(layer, "depthwise_kernel") else layer.kernel
    return getattr(layer, "kernel", None)


def _stem(x, settings):
    x = _convolution(x, settings.filters, STEM, "convNeXt0_downSample_conv2D", settings, strides=STEM, padding="valid")
    return _normalization(x, "convNeXt0_downSample_layerNormalization")


def _down_sample(x, stage, settings):
    """Halve height and width and double the channels."""
    prefix, filters = f"convNeXt{stage}", settings.filters * 2**stage
    if settings.max_pool:
        x = keras.layers.MaxPooling2D(2, padding="same", name=f"{prefix}_maxpool2D")(x)
        x = _normalization(x, f"{prefix}_downSample_layerNormalization")
        return _convolution(x, filters, 1, f"{prefix}_expandConvNeXt_conv2D", settings)
    x = _normalization(x, f"{prefix}_downSample_layerNormalization")
    return _convolution(x, filters, 2, f"{prefix}_downSample_conv2D", settings, strides=2)


def _excite(x, stage, settings):
    """Weigh places, channels or, each added to what comes in, both."""
    prefix = f"convNeXt{stage}"
    if settings.excite_channels and settings.excite_space:
        y = keras.layers.Add(name=f"{prefix}_fuse_add")([_excite_space(x, prefix, settings), x])
        return keras.layers.Add(name=f"{prefix}_squeezeExcite_add")([_excite_channels(y, prefix, settings), x])
    if settings.excite_space:
        return _excite_space(x, prefix, settings)
    if settings.excite_channels:
        return _excite_channels(x, prefix, settings)
    return x


def _excite_channels(x, prefix, settings):
    width = x.shape[-1]
    y = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{prefix}_squeezeExcite_gap")(x)
    squeezed = max(1, width // SQUEEZE_RATIO)
    y = _dense(y, squeezed, f"{prefix}_squeeze_dense", settings, settings.activation)
    y = _dense(y, width, f"{prefix}_excite_dense", settings, "sigmoid")
    return keras.layers.Multiply(name=f"{prefix}_squeezeExcite_multiply")([x, y])


def _excite_space(x, prefix, settings):
    y = _convolution(x, 1, 1, f"{prefix}_fuse_conv2D", settings, activation="sigmoid")
    return keras.layers.Multiply(name=f"{prefix}_fuse_multiply")([x, y])


def _block(x, prefix, noise, settings):
    """A residual block; `noise` is the name of its noise layer, None for none."""
    width = x.shape[-1]
    if settings.depthwise:
        name = f"{prefix}_5x5_dconv2D"
        y = keras.layers.DepthwiseConv2D(
            5,
            padding="same",
            use_bias=False,
            depthwise_initializer=_initializer(name, settings),
            depthwise_regularizer=keras.regularizers.L2(PENALTY),
            name=name,
        )(x)
    else:
        y = _convolution(x, width, 5, f"{prefix}_5x5_conv2D", settings)
    y = _normalization(y, f"{prefix}_layerNormalization")
    wide = width * settings.expansion
    y = _convolution(y, wide, 1, f"{prefix}_expand_conv2D", settings, activation=settings.activation)
    y = _convolution(y, width, 1, f"{prefix}_smooth_conv2D", settings)
    if settings.layer_scale:
        y = LayerScale(name=f"{prefix}_layerScale")(y)
    if noise:
        y = keras.layers.GaussianNoise(NOISE, seed=_seed(noise, settings), name=noise)(y)
    return keras.layers.Add(name=f"{prefix}_add")([y, x])


def _convolution(x, filters, side, name, settings, strides=1, padding="same", activation=None):
    return keras.layers.Conv2D(
        filters,
        side,
        strides=strides,
        padding=padding,
        activation=activation,
        use_bias=False,
        kernel_initializer=_initializer(name, settings),
        kernel_regularizer=keras.regularizers.L2(PENALTY),
        name=name,
    )(x)


def _dense(x, width, name, settings, activation=None, bias=False):
    kernel = _initializer(name, settings)
    return keras.layers.Dense(width, activation=activation, use_bias=bias, kernel_initializer=kernel, name=name)(x)


def _normalization(x, name):
    return keras.layers.LayerNormalization(epsilon=EPSILON, name=name)(x)


def _initializer(name, settings):
    return keras.initializers.GlorotUniform(seed=_seed(name, settings))


def _seed(name, settings):
    """A seed for each layer, from the model's seed and the layer's name alone: 31 bits, which every Keras takes."""
    digest = hashlib.sha256(f"{settings.seed} {name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
