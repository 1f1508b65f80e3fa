"""The vision transformer (arXiv:2010.11929) in Keras, with the weights that timm and DeiT (arXiv:2012.12877) train."""

import dataclasses
import itertools
import math

import keras
import numpy as np

from lib.errors import UsageError, WorkError
from lib.models.layers import LayerScale

EPSILON = 1e-6  # of the layer normalisations
HEAD_WIDTH = 64  # of an attention's head, by default


@dataclasses.dataclass(frozen=True)
class Design:
    """The structure of a vision transformer.

    Attributes:
        size: height and width of its images, in pixels.
        patch: the side of a patch, in pixels.
        bands: channels of the images.
        width: the width of a token.
        depth: number of blocks.
        heads: number of attention heads in each block.
        hidden: width inside a block's MLP.
        categories: number of logits.
        class_token: whether there is a class token before those of the patches.
        token_position: whether the class token has a position embedding, too.
        mean: whether the logits follow from the mean over the patches; else from the class token.
        last: the last layer normalisation, `norm` before pooling or `fc_norm` after it.
        query_bias: whether queries, keys and values have a bias.
        layer_scale: whether a block's branches end in LayerScale (arXiv:2103.17239).
    """

    size: int
    patch: int
    bands: int
    width: int
    depth: int
    heads: int
    hidden: int
    categories: int
    class_token: bool = True
    token_position: bool = True
    mean: bool = False
    last: str = "norm"
    query_bias: bool = True
    layer_scale: bool = False


# The arrays that sizes are read from, and their numbers of dimensions.
_DESCRIBING = {"patch_embed.proj.weight": 4, "pos_embed": 3, "head.weight": 2, "blocks.0.mlp.fc1.weight": 2}


def design_of(shapes, heads=None):
    """The `Design` of a checkpoint's arrays.

    Args:
        shapes: a dictionary, name in timm's naming -> shape.
        heads: number of attention heads, which no shape shows; None for one per 64 of the width.

    Raises:
        WorkError: necessary arrays are missing or have impossible shapes; the message names them.
        UsageError: the width can't be divided among the heads, or is no multiple of 64.
    """
    for name, rank in _DESCRIBING.items():
        if name not in shapes:
            raise WorkError(f"{name} is missing: it holds no vision transformer classifier with timm's names.")
        if len(shapes[name]) != rank or 0 in shapes[name]:
            raise WorkError(f"{name} has the shape {tuple(shapes[name])}, but needs {rank} dimensions, none of them 0.")
    width, bands, patch, _ = shapes["patch_embed.proj.weight"]
    depth = len({name.split(".")[1] for name in shapes if name.startswith("blocks.")})
    if heads is None and width % HEAD_WIDTH:
        raise UsageError(f"the number of attention heads can't be inferred from a width of {width}; give it.", "heads")
    heads = heads or width // HEAD_WIDTH
    if width % heads:
        raise UsageError(f"a width of {width} can't be divided evenly among {heads} heads.", "heads")
    positions, class_token = shapes["pos_embed"][1], "cls_token" in shapes
    token_position = class_token and math.isqrt(positions) ** 2 != positions
    side = math.isqrt(positions - token_position)
    if side * side != positions - token_position:
        raise WorkError(f"pos_embed has {positions} positions, which don't form a square of patches.")
    hidden, categories = shapes["blocks.0.mlp.fc1.weight"][0], shapes["head.weight"][0]
    last = "fc_norm" if "fc_norm.weight" in shapes else "norm"
    parts = {"query_bias": "blocks.0.attn.qkv.bias" in shapes, "layer_scale": "blocks.0.ls1.gamma" in shapes}
    parts.update(class_token=class_token, token_position=token_position, last=last)
    parts.update(mean=last == "fc_norm" or not class_token)
    return Design(side * patch, patch, bands, width, depth, heads, hidden, categories, **parts)


def array_shapes(design):
    """The arrays of a checkpoint of a design: name in timm's naming -> shape."""
    return {name: shape for name, (_, shape) in _arrays(design).items()}


def _arrays(design):
    """The arrays of a checkpoint of a design: name in timm's naming -> the Keras layer that takes it, shape."""
    width, hidden, found = design.width, design.hidden, {}

    def add(layer, name, shape, bias=True):
        found[f"{name}.weight"] = layer, shape
        if bias:
            found[f"{name}.bias"] = layer, shape[:1]

    add("patch_embed", "patch_embed.proj", (width, design.bands, design.patch, design.patch))
    found["pos_embed"] = "tokens", (1, (design.size // design.patch) ** 2 + design.token_position, width)
    if design.class_token:
        found["cls_token"] = "tokens", (1, 1, width)
    for number in range(design.depth):
        name, layer = f"blocks.{number}", f"block{number}"
        for place, shape in ((1, (hidden, width)), (2, (width, hidden))):
            add(f"{layer}_norm{place}", f"{name}.norm{place}", (width,))
            add(f"{layer}_dense{place}", f"{name}.mlp.fc{place}", shape)
            if design.layer_scale:
                found[f"{name}.ls{place}.gamma"] = f"{layer}_scale{place}", (width,)
        add(f"{layer}_attention", f"{name}.attn.qkv", (3 * width, width), design.query_bias)
        add(f"{layer}_attention", f"{name}.attn.proj", (width, width))
    add(design.last, design.last, (width,))
    add("head", "head", (design.categories, width))
    return found


def check_arrays(shapes, design):
    """Raise WorkError unless a checkpoint's arrays (see `design_of`) are exactly those of a `Design`."""
    expected = array_shapes(design)
    surplus = "left over: this is another kind of vision transformer"
    for problem, names in (("missing", set(expected) - set(shapes)), (surplus, set(shapes) - set(expected))):
        if names:
            raise WorkError(f"{_names(sorted(names))} {problem}.")
    for name, shape in expected.items():
        if tuple(shapes[name]) != shape:
            raise WorkError(f"{name} has the shape {tuple(shapes[name])}, but needs {shape}.")


def _names(names):
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return f"{shown} {'is' if len(names) == 1 else 'are'}"


class Tokens(keras.layers.Layer):
    """Prepends a class token, if there is one, and adds the position embeddings.

    In: float `(batch, patches, width)`; out: the same, with one more token if there is a class token. Weights:
    `positions`, `(tokens, width)`, and `class_token`, `(1, width)`.
    """

    def __init__(self, class_token=True, **options):
        super().__init__(**options)
        self.has_class_token = class_token

    def build(self, input_shape):
        patches, width = input_shape[-2:]
        self.positions = self.add_weight(name="positions", shape=(patches + self.has_class_token, width))
        if self.has_class_token:
            self.class_token = self.add_weight(name="class_token", shape=(1, width))
        super().build(input_shape)

    def call(self, inputs):
        if self.has_class_token:
            # The token for each image, whose number only the inputs have.
            inputs = keras.layers.concatenate([inputs[:, :1] * 0 + self.class_token, inputs], axis=1)
        return inputs + self.positions


def build_vit(design):
    """Build a vision transformer with fresh weights.

    Returns:
        A functional Keras model: float32 `(batch, size, size, bands)`, normalised as its training's images were, to
        float32 logits `(batch, outputs)`.
    """
    patches = (design.size // design.patch) ** 2
    inputs = keras.Input((design.size, design.size, design.bands), name="input")
    x = keras.layers.Conv2D(design.width, design.patch, design.patch, name="patch_embed")(inputs)
    x = keras.layers.Reshape((patches, design.width), name="squares")(x)
    x = Tokens(design.class_token, name="tokens")(x)
    for number in range(design.depth):
        x = _block(x, f"block{number}", design)
    if design.last == "norm":
        x = _normalization(x, "norm")
    if design.class_token:
        x = keras.layers.Cropping1D((1, 0) if design.mean else (0, patches), name="pooled_tokens")(x)
    x = keras.layers.GlobalAveragePooling1D(name="pool")(x)
    if design.last == "fc_norm":
        x = _normalization(x, "fc_norm")
    logits = keras.layers.Dense(design.categories, name="head")(x)
    return keras.Model(inputs, logits, name="vit")


def _block(x, prefix, design):
    y = _normalization(x, f"{prefix}_norm1")
    y = keras.layers.MultiHeadAttention(design.heads, design.width // design.heads, name=f"{prefix}_attention")(y, y)
    if design.layer_scale:
        y = LayerScale(name=f"{prefix}_scale1")(y)
    x = keras.layers.Add(name=f"{prefix}_add1")([x, y])
    y = _normalization(x, f"{prefix}_norm2")
    y = keras.layers.Dense(design.hidden, activation="gelu", name=f"{prefix}_dense1")(y)
    y = keras.layers.Dense(design.width, name=f"{prefix}_dense2")(y)
    if design.layer_scale:
        y = LayerScale(name=f"{prefix}_scale2")(y)
    return keras.layers.Add(name=f"{prefix}_add2")([x, y])


def _normalization(x, name):
    return keras.layers.LayerNormalization(epsilon=EPSILON, name=name)(x)


def put_arrays(model, design, read):
    """Give a model of `build_vit` the arrays of a checkpoint.

    Args:
        model: the model, changed in place.
        design: its `Design`.
        read: called with a name of `array_shapes`; returns that array.

    Raises:
        WorkError: an array has infinite or NaN values.
    """
    for layer, rows in itertools.groupby(_arrays(design).items(), key=lambda row: row[1][0]):
        values = []
        for name, _ in rows:
            values.append(read(name))
            if not np.isfinite(values[-1]).all():
                raise WorkError(f"{name} holds infinite or NaN values: its training went wrong.")
        if layer == "tokens":
            values = _tokens(design, *values)
        elif layer.endswith("_attention"):
            values = _attention(design, *values)
        else:
            values = [array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T for array in values]
        model.get_layer(layer).set_weights([np.asarray(array, "float32") for array in values])


def _tokens(design, positions, *token):
    if design.class_token and not design.token_position:
        positions = np.concatenate([np.zeros((1, 1, design.width), "float32"), positions], axis=1)
    return [positions[0], *(values[0] for values in token)]


def _attention(design, kernel, *others):
    """A `MultiHeadAttention`'s weights: kernels and biases of queries, keys, values and the projection."""
    *bias, projection, projection_bias = others
    each, weights = design.width // design.heads, []
    biases = np.split(bias[0] if bias else np.zeros(3 * design.width), 3)
    for part, part_bias in zip(np.split(kernel.T, 3, axis=1), biases):
        weights += [part.reshape(design.width, design.heads, each), part_bias.reshape(design.heads, each)]
    return [*weights, projection.T.reshape(design.heads, each, design.width), projection_bias]
