"""The ConvNeXt of this pipeline (after arXiv:2201.03545), as functions over Keras's layers.

Every layer has a name of its own, stage `K` and block `J` in it, since weights are moved and layers frozen by name.
"""

import hashlib
import math

import keras

from lib.models.layers import LayerScale

PENALTY = 1e-4  # L2, on every convolution's kernel
EPSILON = 1e-5  # of the layer normalisations
NOISE = 0.1  # standard deviation
SQUEEZE_RATIO = 4
STEM = 4  # kernel and stride of the first convolution; images must be at least this large


def convnext(architecture):
    """Build a ConvNeXt with fresh weights, the same for the same seed, whatever was built before.

    Args:
        architecture: `lib.models.architecture.Architecture`.

    Returns:
        A functional Keras model: float32 `(batch, height, width, bands)`, 0-255, of any height and width from 4 on,
        to logits `(batch, categories)`.
    """
    inputs = keras.Input((None, None, architecture.bands), name="input")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="rescale")(inputs)
    options = {"strides": STEM, "padding": "valid"}
    x = _convolution(x, architecture.filters, STEM, "convNeXt0_downSample_conv2D", architecture, **options)
    x = _normalization(x, "convNeXt0_downSample_layerNormalization")
    for stage, blocks in enumerate(architecture.blocks):
        if stage:
            x = _excite(_down_sample(x, stage, architecture), stage, architecture)
        for number in range(blocks):
            before = sum(architecture.blocks[:stage]) + number
            noise = f"gaussian_noise_{before}" if before else "gaussian_noise"
            x = _block(x, f"convNeXt{stage}_block{number}", noise, architecture)
    x = keras.layers.GlobalAveragePooling2D(name="output_gap")(x)
    x = _normalization(x, "output_layerNormalization")
    if architecture.polish is not None:
        x = _dense(x, architecture.polish, "gap_resolve_dense", architecture, architecture.activation)
    logits = _dense(x, architecture.categories, "output_dense", architecture, bias=True)
    return keras.Model(inputs, logits, name="convNeXt")


def output_shapes(model, size):
    """The shapes of all layers' outputs for one image of `size` × `size`: layer's name -> shape without the batch."""
    if None not in model.input_shape[1:]:
        return {layer.name: tuple(layer.output.shape[1:]) for layer in model.layers}
    outputs = keras.Model(model.inputs, [layer.output for layer in model.layers])
    shapes = outputs.compute_output_shape((1, size, size, model.input_shape[-1]))
    return {layer.name: tuple(shape[1:]) for layer, shape in zip(model.layers, shapes)}


def multiply_adds(model, size):
    """The multiply-adds of each layer for one image of `size` × `size`.

    Convolutions and dense layers are counted, as is usual; element-wise operations are not.

    Returns:
        Layer's name -> count, 0 for those without a kernel.
    """
    shapes, costs = output_shapes(model, size), {}
    for layer in model.layers:
        # The shape is (height, width, in, out), (height, width, channels, 1) or (in, out).
        kernel = getattr(layer, "depthwise_kernel", getattr(layer, "kernel", None))
        costs[layer.name] = 0 if kernel is None else math.prod(shapes[layer.name][:-1]) * math.prod(kernel.shape)
    return costs


def summary(model, size):
    """A table of a model's layers as text, with output shapes and costs for one image of `size` × `size`.

    Keras's own is cut off unless the terminal is wide, and has no costs.
    """
    shapes, costs = output_shapes(model, size), multiply_adds(model, size)
    rows = [("layer", "class", "output", "parameters", "multiply-adds")]
    for layer in model.layers:
        sides = " x ".join(str(side) for side in shapes[layer.name])
        rows.append((layer.name, type(layer).__name__, sides, f"{layer.count_params():,}", f"{costs[layer.name]:,}"))
    rows.append(("total", "", "", f"{model.count_params():,}", f"{sum(costs.values()):,}"))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ("  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, "<<<>>", widths)) for row in rows)
    return "\n".join(lines)


def _down_sample(x, stage, architecture):
    """Halve height and width and double the channels."""
    prefix, filters = f"convNeXt{stage}", architecture.filters * 2**stage
    if architecture.max_pool:
        x = keras.layers.MaxPooling2D(2, padding="same", name=f"{prefix}_maxpool2D")(x)
        x = _normalization(x, f"{prefix}_downSample_layerNormalization")
        return _convolution(x, filters, 1, f"{prefix}_expandConvNeXt_conv2D", architecture)
    x = _normalization(x, f"{prefix}_downSample_layerNormalization")
    return _convolution(x, filters, 2, f"{prefix}_downSample_conv2D", architecture, strides=2)


def _excite(x, stage, architecture):
    """Spatial or channel excitation; with both, each is added to the input."""
    prefix, both = f"convNeXt{stage}", architecture.excite_channels and architecture.excite_space
    y = _excite_space(x, prefix, architecture) if architecture.excite_space else x
    if both:
        y = keras.layers.Add(name=f"{prefix}_fuse_add")([y, x])
    if architecture.excite_channels:
        y = _excite_channels(y, prefix, architecture)
    return keras.layers.Add(name=f"{prefix}_squeezeExcite_add")([y, x]) if both else y


def _excite_channels(x, prefix, architecture):
    width = x.shape[-1]
    y = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{prefix}_squeezeExcite_gap")(x)
    squeezed = max(1, width // SQUEEZE_RATIO)
    y = _dense(y, squeezed, f"{prefix}_squeeze_dense", architecture, architecture.activation)
    y = _dense(y, width, f"{prefix}_excite_dense", architecture, "sigmoid")
    return keras.layers.Multiply(name=f"{prefix}_squeezeExcite_multiply")([x, y])


def _excite_space(x, prefix, architecture):
    y = _convolution(x, 1, 1, f"{prefix}_fuse_conv2D", architecture, activation="sigmoid")
    return keras.layers.Multiply(name=f"{prefix}_fuse_multiply")([x, y])


def _block(x, prefix, noise, architecture):
    """A residual block; `noise` is the name of its noise layer."""
    width = x.shape[-1]
    if architecture.depthwise:
        name = f"{prefix}_5x5_dconv2D"
        options = {"depthwise_initializer": _initializer(name, architecture), "use_bias": False, "name": name}
        options["depthwise_regularizer"] = keras.regularizers.L2(PENALTY)
        y = keras.layers.DepthwiseConv2D(5, padding="same", **options)(x)
    else:
        y = _convolution(x, width, 5, f"{prefix}_5x5_conv2D", architecture)
    y = _normalization(y, f"{prefix}_layerNormalization")
    wide = width * architecture.expansion
    y = _convolution(y, wide, 1, f"{prefix}_expand_conv2D", architecture, activation=architecture.activation)
    y = _convolution(y, width, 1, f"{prefix}_smooth_conv2D", architecture)
    if architecture.layer_scale:
        y = LayerScale(name=f"{prefix}_layerScale")(y)
    if architecture.noise:
        y = keras.layers.GaussianNoise(NOISE, seed=_seed(noise, architecture), name=noise)(y)
    return keras.layers.Add(name=f"{prefix}_add")([y, x])


def _convolution(x, filters, side, name, architecture, **options):
    options = {"padding": "same", "kernel_initializer": _initializer(name, architecture), **options}
    options["kernel_regularizer"] = keras.regularizers.L2(PENALTY)
    return keras.layers.Conv2D(filters, side, use_bias=False, name=name, **options)(x)


def _dense(x, width, name, architecture, activation=None, bias=False):
    kernel = _initializer(name, architecture)
    return keras.layers.Dense(width, activation=activation, use_bias=bias, kernel_initializer=kernel, name=name)(x)


def _normalization(x, name):
    return keras.layers.LayerNormalization(epsilon=EPSILON, name=name)(x)


def _initializer(name, architecture):
    return keras.initializers.GlorotUniform(seed=_seed(name, architecture))


def _seed(name, architecture):
    """A seed for each layer, from the model's seed and the layer's name alone: 31 bits, which every Keras takes."""
    digest = hashlib.sha256(f"{architecture.seed} {name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
