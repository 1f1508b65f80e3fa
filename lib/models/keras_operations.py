"""What files hold beside layers, done by Keras's plain layers: operations between tensors, and layers of
`keras.applications` alone.

Slices and stacks, for which Keras has no layer, stay operations of the running Keras.
"""

import inspect

import keras
import numpy as np

from lib.models.keras_descriptions import operation_of
from lib.storage.untrusted import RefusedError

KERAS_2 = keras.__version__.startswith("2.")


def build_operation(entry, name):
    """A function of tensors and settings that does what an operation in a file does.

    Args:
        entry: an entry of a file's layers.
        name: of the layer that stands for it.

    Raises:
        RefusedError: no plain layer stands for it; so does the function, for settings or constants.
    """
    kind, config = operation_of(entry), entry["config"]
    written = config.get("function", entry["class_name"])
    if kind not in _OPERATIONS:
        raise RefusedError(f"holds the operation {name!r} ({written}), which no plain layer stands for")
    # Keras 2 has the settings of an operation in each call, Keras 3 some of them here.
    held = {} if "function" in config else {key: config[key] for key in config if key != "dtype" or kind == "cast"}

    def apply(*arguments, **options):
        given = {key: value for key, value in {**held, **options}.items() if value is not None and key != "name"}
        try:
            inspect.signature(_OPERATIONS[kind]).bind(name, *arguments, **given)
        except TypeError as error:
            raise RefusedError(f"holds the operation {name!r} ({written}) with settings that are not known") from error
        return _OPERATIONS[kind](name, *arguments, **given)

    return apply


def build_application_layer(entry, name):
    """The same for a layer that only models of `keras.applications` have; None for other layers."""
    kind, config = entry["class_name"].split(">")[-1], entry["config"]  # Keras 2.12: `Custom>CustomScaleLayer`
    if kind == "CustomScaleLayer" and "scale" in config:
        scaled = keras.layers.Rescaling(config["scale"], name=f"{name}_scaled")
        return lambda tensors: keras.layers.Add(name=name)([tensors[0], scaled(tensors[1])])
    if kind == "StochasticDepth" and "drop_path_rate" in config:

        def drop(tensor):  # for each image all or nothing
            shape = (None,) + (1,) * (len(tensor.shape) - 1)
            return keras.layers.Dropout(config["drop_path_rate"], noise_shape=shape, name=name)(tensor)

        return drop
    return None


def replaced_activation(activation, written_by, name):
    """A function that does to a tensor what the activation of a file does that the running Keras lacks.

    Args:
        activation: its name.
        written_by: the version of the Keras that wrote the file.
        name: of the layer that has it.

    Returns:
        The function; None where the running Keras's activation of that name is the same.
    """
    same = written_by.startswith("2.") == KERAS_2
    if activation == "hard_sigmoid" and not same:  # whose slope is 0.2 in Keras 2, and 1/6 in Keras 3
        return lambda tensor: _hard_sigmoid(tensor, 0.2 if written_by.startswith("2.") else 1 / 6, name)
    if activation in ("hard_silu", "hard_swish") and KERAS_2:
        return lambda tensor: keras.layers.Multiply(name=f"{name}_gated")([tensor, _hard_sigmoid(tensor, 1 / 6, name)])
    return None


def _hard_sigmoid(tensor, slope, name):
    scaled = keras.layers.Rescaling(slope, offset=0.5, name=f"{name}_scaled")(tensor)
    return keras.layers.ReLU(max_value=1.0, name=f"{name}_clipped")(scaled)


def _is_tensor(value):
    return type(value).__name__ == "KerasTensor"


def _arithmetic(kind):
    """A function that adds, subtracts, multiplies or divides two tensors, or a tensor and a constant."""

    def apply(name, x, y):
        if _is_tensor(x) and _is_tensor(y):
            if kind == "divide":
                raise RefusedError(f"holds the operation {name!r} between two tensors, which no plain layer stands for")
            layer = {"add": keras.layers.Add, "multiply": keras.layers.Multiply, "subtract": keras.layers.Subtract}
            return layer[kind](name=name)([x, y])
        tensor, number = (x, _constant(x, y, name)) if _is_tensor(x) else (y, _constant(y, x, name))
        if kind == "divide" and tensor is y:
            raise RefusedError(f"holds the operation {name!r}, a division by a tensor, which no plain layer stands for")
        none = np.zeros_like(number)
        scale, offset = {
            "add": (none + 1, number),
            "subtract": (none + 1, -number) if tensor is x else (none - 1, number),
            "multiply": (number, none),
            "divide": (1 / number if number.all() else number * np.inf, none),
        }[kind]
        if not (np.isfinite(scale).all() and np.isfinite(offset).all()):
            raise RefusedError(f"holds the operation {name!r} with a constant that gives no finite numbers")
        return keras.layers.Rescaling(scale.tolist(), offset=offset.tolist(), name=name)(tensor)

    return apply


def _constant(tensor, value, name):
    """A number, or one for each channel of a tensor, as a float64 array `()` or `(channels,)`."""
    value = np.asarray(value, "float64")
    channels = tensor.shape[-1]
    if value.size == 1 and value.ndim <= len(tensor.shape):
        return value.reshape(())
    if value.ndim > len(tensor.shape) or value.size != value.shape[-1] or value.size != channels:
        shape = "x".join(map(str, value.shape))
        raise RefusedError(f"holds the operation {name!r} with a constant of {shape}, not one number for each channel")
    return value.reshape(-1)


def _negative(name, x):
    return _arithmetic("multiply")(name, x, -1.0)


def _bias_add(name, value, bias, data_format="NHWC"):
    if data_format not in ("NHWC", "N...C"):
        raise RefusedError(f"holds the operation {name!r} for channels that come first")
    return _arithmetic("add")(name, value, bias)


def _get_item(name, tensor, slice_spec):
    """A slice, `tensor[slice_spec]`."""
    given = slice_spec if isinstance(slice_spec, (list, tuple)) else [slice_spec]
    given = [slice(*map(each.get, ("start", "stop", "step"))) if isinstance(each, dict) else each for each in given]
    if not all(each is Ellipsis or isinstance(each, (int, slice)) for each in given):
        raise RefusedError(f"holds the operation {name!r} with a slice that is not made of numbers")
    for each in given:
        if isinstance(each, slice) and any(type(end) not in (int, type(None)) for end in (each.start, each.stop)):
            raise RefusedError(f"holds the operation {name!r} with a slice that is not made of numbers")
    # Written out, since Keras 2.13 can't save an ellipsis.
    places = [place for place, each in enumerate(given) if each is Ellipsis] or [len(given)]
    before, after = given[: places[0]], given[places[0] + 1 :]
    return tensor[(*before, *[slice(None)] * (len(tensor.shape) - len(before) - len(after)), *after)]


def _channels(tensor, start, stop):
    return _get_item("", tensor, [Ellipsis, slice(start, stop)])


def _is_last(axis, tensor):
    axes = list(axis) if isinstance(axis, (list, tuple)) else [axis]
    return axes in ([-1], [len(tensor.shape) - 1])


def _need_last(axis, tensor, name):
    if not _is_last(axis, tensor) or not tensor.shape[-1]:
        raise RefusedError(f"holds the operation {name!r} along another axis than the channels'")


def _reverse(name, tensor, axis):
    _need_last(axis, tensor, name)
    return _get_item(name, tensor, [Ellipsis, slice(None, None, -1)])


def _take(name, tensor, indices, axis=None, batch_dims=0):
    _need_last(axis, tensor, name)
    if batch_dims or not isinstance(indices, (list, tuple, np.ndarray)) or np.ndim(indices) != 1:
        raise RefusedError(f"holds the operation {name!r} with indices that are not a list of channels")
    places = [int(index) % tensor.shape[-1] for index in indices]
    return _concatenate(name, [_channels(tensor, place, place + 1) for place in places])


def _split(name, tensor, num_or_size_splits=None, indices_or_sections=None, axis=0):
    _need_last(axis, tensor, name)
    parts = indices_or_sections if num_or_size_splits is None else num_or_size_splits
    if not isinstance(parts, int) or parts < 1 or tensor.shape[-1] % parts:
        raise RefusedError(f"holds the operation {name!r} into parts of different sizes")
    width = tensor.shape[-1] // parts
    return [_channels(tensor, start, start + width) for start in range(0, tensor.shape[-1], width)]


def _unstack(name, tensor, num=None, axis=0):
    _need_last(axis, tensor, name)
    return [_get_item(name, tensor, [Ellipsis, place]) for place in range(tensor.shape[-1])]


def _stack(name, tensors, axis=0):
    if KERAS_2:
        import tensorflow as tf

        return tf.stack(list(tensors), axis=axis)
    return keras.ops.stack(list(tensors), axis=axis)


def _concatenate(name, tensors, axis=-1):
    if len(tensors) == 1:
        return tensors[0]
    return keras.layers.Concatenate(axis=axis, name=name)(list(tensors))


def _cast(name, tensor, dtype):
    if dtype != (tensor.dtype.name if KERAS_2 else tensor.dtype):
        raise RefusedError(f"holds the operation {name!r} to numbers of the type {dtype}")
    return tensor


def _activate(activation):
    neutral = {"axis": -1, "approximate": False, "negative_slope": 0.0, "threshold": 0.0, "beta": 1.0, "alpha": 1.0}

    def apply(name, tensor, **options):
        if any(key not in neutral or value != neutral[key] for key, value in options.items()):
            raise RefusedError(f"holds the operation {name!r} with settings that no plain layer has")
        # By the definition of the file's Keras: `hard_sigmoid` is one of Keras 3 alone.
        replaced = replaced_activation(activation, "3.", name)
        return keras.layers.Activation(activation, name=name)(tensor) if replaced is None else replaced(tensor)

    return apply


def _resize(name, tensor, size, method="bilinear", interpolation=None, **options):
    neutral = {"antialias": False, "crop_to_aspect_ratio": False, "pad_to_aspect_ratio": False}
    neutral.update(fill_mode="constant", fill_value=0.0, data_format="channels_last", preserve_aspect_ratio=False)
    if any(neutral.get(key, value) != value or key not in neutral for key, value in options.items()):
        raise RefusedError(f"holds the operation {name!r} with settings that no plain layer has")
    return keras.layers.Resizing(*size, interpolation=interpolation or method, name=name)(tensor)


def _mean(name, tensor, axis=None, keepdims=False):
    axes = sorted(each % len(tensor.shape) for each in axis) if isinstance(axis, (list, tuple)) else None
    if axes != [1, 2] or len(tensor.shape) != 4:
        raise RefusedError(f"holds the operation {name!r} over other axes than height and width")
    return keras.layers.GlobalAveragePooling2D(keepdims=keepdims, name=name)(tensor)


_OPERATIONS = {
    **dict.fromkeys(("add", "addv2"), _arithmetic("add")),
    **dict.fromkeys(("subtract", "sub"), _arithmetic("subtract")),
    **dict.fromkeys(("multiply", "mul"), _arithmetic("multiply")),
    **dict.fromkeys(("divide", "truediv", "truedivide", "realdiv", "div"), _arithmetic("divide")),
    **dict.fromkeys(("negative", "neg"), _negative),
    **dict.fromkeys(("reverse", "reversev2", "flip"), _reverse),
    **dict.fromkeys(("gather", "gatherv2", "take"), _take),
    **dict.fromkeys(("concat", "concatenate"), _concatenate),
    **dict.fromkeys(("mean", "reducemean"), _mean),
    "biasadd": _bias_add,
    "getitem": _get_item,
    "split": _split,
    "unstack": _unstack,
    "stack": _stack,
    "cast": _cast,
    "resize": _resize,
    **{kind: _activate(kind) for kind in ("relu", "relu6", "sigmoid", "softmax", "tanh", "gelu", "elu", "selu")},
    **dict.fromkeys(("silu", "swish"), _activate("swish")),
    **{kind.replace("_", ""): _activate(kind) for kind in ("hard_sigmoid", "hard_silu")},
    "softplus": _activate("softplus"),
}
