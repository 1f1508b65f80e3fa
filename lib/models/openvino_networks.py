"""Networks for OpenVINO, built from `.keras` files without Keras: on a CPU the same logits sooner than by TensorFlow.

The layers are those that `lib.models.convnext` makes and the published models have. Arithmetic is float32, also where
the processor has a shorter format. Inside, channels come before height and width, as OpenVINO has them.
"""

import queue
from typing import Any, NamedTuple, Optional, Tuple

import numpy as np

from lib.errors import UsageError
from lib.models import keras_archives
from lib.models.keras_descriptions import (
    FEATURES,
    NoFeaturesError,
    Reference,
    functional_config,
    is_of_keras,
    layer_name,
    read_calls,
    read_ends,
    references_in,
)
from lib.models.keras_endings import without_activation
from lib.storage.untrusted import RefusedError, one_line, refusing
from lib.system.devices import as_if_missing


class UnknownLayersError(UsageError):
    """A model has layers that can't be built here. The message names them."""


class Network(NamedTuple):
    """A model as its file has it.

    Attributes:
        path: the file.
        layers: layer's name -> class's name and settings.
        calls: of `read_calls`.
        ends: `Reference`s of the input and of the output.
        weights: layer's name -> float32 arrays, in Keras's order.
        input_shape: batch, height, width and bands; None where any number will do.
        image_size: see `keras_archives.Content`.
        output_activation: what the file's model ends in, which the network does without: `softmax`, `sigmoid` or None.
    """

    path: str
    layers: dict
    calls: list
    ends: Tuple[Reference, Reference]
    weights: dict
    input_shape: Tuple[Optional[int], ...]
    image_size: Optional[int]
    output_activation: Optional[str]


def read_network(path):
    """Read a `.keras` file that any Keras since 2.12 may have written.

    Returns:
        A `Network`.

    Raises:
        UnknownLayersError: it has other layers than a ConvNeXt of this pipeline.
        UsageError: no such file, not a Keras file, cut short, or with weights that are not finite.
    """
    with refusing(path, ".keras file"), keras_archives.open_archive(path) as content:
        description, activation = without_activation(content.description)
        config = functional_config(description)
        entries = {layer_name(entry): entry for entry in config["layers"]}
        unknown = [f"{name!r} ({reason})" for name, reason in _unknown_layers(entries)]
        if unknown:
            listed = ", ".join(unknown[:3]) + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else "")
            raise UnknownLayersError(f"{path} has layers that only TensorFlow computes: {listed}.")
        calls = read_calls(config, lambda described: described)
        for call in calls:
            if any(value is not None for value in _constants(call[2:])):
                raise UnknownLayersError(f"{path} has a layer that only TensorFlow computes: {call.layer!r}.")
        ends = [read_ends(config[end]) for end in ("input_layers", "output_layers")]
        if any(reference.tensor != 0 for reference in references_in([ends, *(call[2:] for call in calls)])):
            raise RefusedError("describes its model in a way that no Keras does (layers of several outputs)")
        if any(len(end) != 1 for end in ends):
            raise UnknownLayersError(f"{path} has several inputs or outputs, which only TensorFlow computes.")
        layers = {name: (entry["class_name"], entry["config"]) for name, entry in entries.items()}
        settings = layers[ends[0][0].layer][1]
        shape = tuple(settings.get("batch_shape") or settings["batch_input_shape"])
        if not all(side is None or (type(side) is int and side > 0) for side in shape):
            raise RefusedError(f"describes its model in a way that no Keras does (images of the shape {shape})")
        ends = ends[0][0], ends[1][0]
        weights = _read_weights(content)
        return Network(str(path), layers, calls, ends, weights, shape, content.image_size, activation)


def _unknown_layers(entries):
    """Yield the name of each layer that can't be built here, and what it is."""
    for name, entry in entries.items():
        kind, settings = entry["class_name"], entry["config"]
        if kind == "InputLayer":
            continue
        if kind not in _LAYERS or not (is_of_keras(entry) or kind == "LayerScale"):
            yield name, kind
            continue
        for key, values in _SETTINGS.items():
            value = _plain(settings.get(key))
            if value is not None and value not in values:
                yield name, f"{kind} with {key}={value}"
        if kind == "Rescaling" and not all(isinstance(settings[key], (int, float)) for key in ("scale", "offset")):
            yield name, f"{kind} by a number for each channel"


def _plain(value):
    """A setting that may be described as an object, by its name: functions and dtypes."""
    config = value.get("config") if isinstance(value, dict) else value
    return config.get("name") if isinstance(config, dict) else config


def _constants(value):
    """All values in nested lists, tuples and dictionaries that are no `Reference`s."""
    if isinstance(value, Reference):
        return []
    if isinstance(value, dict):
        value = list(value.values())
    return [one for item in value for one in _constants(item)] if isinstance(value, (list, tuple)) else [value]


def _read_weights(content):
    weights, most = {}, keras_archives.most_numbers(content)
    for name, group in keras_archives.layer_groups(content).items():
        arrays = keras_archives.layer_arrays(group, content.named, most)
        most -= sum(array.size for array in arrays)
        if not all(np.isfinite(array).all() for array in arrays):
            raise RefusedError("has infinite or NaN weights")
        weights[name] = [array.astype("float32") for array in arrays]
    return weights


class Compiled(NamedTuple):
    """A network that is ready.

    Attributes:
        outputs: the number of logits.
        compute: a function from float32 pixels `(step, size, size, bands)`, 0-255, to float32 logits `(step, outputs)`
            and the features `(step, width)`, None if they are not wanted. Several threads may call it at once; more
            than there are streams wait.
    """

    outputs: int
    compute: Any


def compile_network(network, size, step, streams, pooled=False):
    """Compile a network for batches of square images.

    Args:
        network: a `Network`.
        size: height and width of the images in pixels.
        step: the number of images in a batch.
        streams: how many batches are computed at once, each on one core.
        pooled: whether the pooled features are wanted, see `lib.models.inference.compile_features`.

    Returns:
        A `Compiled`.

    Raises:
        NoFeaturesError: the model has none that are one vector per image.
        UsageError: the model can't be applied to such images, or its weights don't fit.
    """
    openvino = import_openvino()
    graph = build_graph(network, (step, size, size, network.input_shape[3]), pooled)
    options = {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams}
    # Unless told, OpenVINO computes in bfloat16 or float16 where the processor has them, and binds its threads to
    # cores, where those of another process may compute, too.
    options.update(INFERENCE_PRECISION_HINT="f32", ENABLE_CPU_PINNING=False)
    core = openvino.Core()
    _warm_up(openvino, core)
    try:
        compiled = core.compile_model(graph, "CPU", options)
    except RuntimeError as error:
        raise UsageError(_cant_be_applied(network, size, _reason(error))) from error
    free = queue.LifoQueue()
    for _ in range(streams):
        free.put(compiled.create_infer_request())

    def compute(pixels):
        request = free.get()
        try:
            found = _infer(request, pixels)
        finally:
            free.put(request)
        return found[0], found[1] if pooled else None

    return Compiled(compiled.output(0).shape[1], compute)


def _infer(request, pixels):
    """Copies of what a request's model gives for an array."""
    request.infer([pixels], share_inputs=True)
    return [tensor.data.copy() for tensor in request.output_tensors]


def _warm_up(openvino, core):
    """Compute with a tiny model, so that no thread is the first to call OpenVINO.

    Its bindings set up their tables of types at the first call. Two threads that call it at once for the first time can
    lock up: one waits for the tables with Python's lock, the other for the lock to go on with the tables.
    """
    op = _operations()
    numbers = op.parameter([1], np.float32)
    tiny = openvino.Model([op.relu(numbers)], [numbers], "tiny")
    _infer(core.compile_model(tiny, "CPU", {"INFERENCE_NUM_THREADS": 1}).create_infer_request(), np.ones(1, "float32"))


def import_openvino():
    """Import OpenVINO without its converter of models, which takes a quarter of the time and isn't used."""
    with as_if_missing(["openvino.tools.ovc"]):
        import openvino
    return openvino


def _operations():
    """OpenVINO's operations."""
    try:
        from openvino import opset11
    except ImportError:  # in 2024
        from openvino.runtime import opset11
    return opset11


def build_graph(network, shape, pooled):
    """The OpenVINO model of a network.

    Args:
        network: a `Network`.
        shape: of its input: float32 pixels `(images, height, width, bands)`, 0-255.
        pooled: whether it gives the pooled features after the logits.

    Raises:
        NoFeaturesError, UsageError: see `compile_network`.
    """
    op = _operations()
    pixels = op.parameter(list(shape), np.float32)
    values = {network.ends[0]: op.transpose(pixels, [0, 3, 1, 2]).output(0)}
    for call in network.calls:
        kind, settings = network.layers[call.layer]
        tensors = [values[reference] for reference in references_in(call[2:])]
        try:
            result = _LAYERS[kind](op, settings, network.weights.get(call.layer, []), *tensors)
        except Exception as error:  # a description that no Keras wrote makes Python and OpenVINO raise anything
            raise UsageError(_cant_be_applied(network, shape[1], f"{call.layer}: {_reason(error)}")) from error
        values[Reference(call.layer, call.node, 0)] = result.output(0) if hasattr(result, "output") else result
    logits = values.get(network.ends[1])
    if logits is None or len(logits.get_shape()) != 2:
        raise UsageError(f"{network.path} does not give one row of logits for an image.")
    return import_openvino().Model([logits, *([_features(network, values)] if pooled else [])], [pixels], "network")


def _features(network, values):
    """The output with the pooled features, see `lib.models.inference.compile_features`."""
    reference = Reference(FEATURES, 0, 0)
    if reference not in values:
        last = next(call for call in network.calls if call[:2] == network.ends[1][:2])
        reference = references_in(last[2:])[0]
    found = values[reference]
    if len(found.get_shape()) != 2:
        raise NoFeaturesError
    return found


def _cant_be_applied(network, size, reason):
    return f"{network.path} can't be applied to images of {size} x {size} pixels ({reason})."


def _reason(error):
    """What an error says, without OpenVINO's places in its source."""
    lines = [line for line in str(error).splitlines() if line and not line.startswith(("Exception from", "Check '"))]
    return one_line(ValueError(lines[-1] if lines else error))[:200].rstrip(".")


# One function a layer: from the operations, its settings, its weights and its inputs to its result.


def _rescale(op, settings, weights, x):
    return op.add(op.multiply(x, _array(op, settings["scale"])), _array(op, settings["offset"]))


def _crop(op, settings, weights, x):
    """A RandomCrop's inference: the largest window in the middle with the target's aspect, resized."""
    height, width = x.get_shape()[2:]
    target = settings["height"], settings["width"]
    window = (
        min(height, int(np.float32(width * target[0]) / np.float32(target[1]))),
        min(width, int(np.float32(height * target[1]) / np.float32(target[0]))),
    )
    start = [(height - window[0]) // 2, (width - window[1]) // 2]
    if window != (height, width):
        stop = [start[0] + window[0], start[1] + window[1]]
        x = op.slice(x, _whole(op, start), _whole(op, stop), _whole(op, [1, 1]), _whole(op, [2, 3]))
    if window == target:
        return x
    return op.interpolate(x, _whole(op, target), "linear_onnx", "sizes", axes=_whole(op, [2, 3]))


def _convolve(op, settings, weights, x):
    kernel = (*settings["kernel_size"], x.get_shape()[1], settings["filters"])
    kernel, bias = _fitting(weights, settings, kernel, (settings["filters"],))
    return _convolution(op.convolution, settings, op, x, kernel.transpose(3, 2, 0, 1), bias)


def _convolve_depthwise(op, settings, weights, x):
    channels = x.get_shape()[1]
    kernel, bias = _fitting(weights, settings, (*settings["kernel_size"], channels, 1), (channels,))
    return _convolution(op.group_convolution, settings, op, x, kernel.transpose(2, 3, 0, 1)[:, None], bias)


def _convolution(function, settings, op, x, kernel, bias):
    padding = {"same": "same_upper", "valid": "valid"}[settings["padding"]]
    options = {"pads_begin": [0, 0], "pads_end": [0, 0], "auto_pad": padding}
    dilations = list(settings.get("dilation_rate") or (1, 1))
    y = function(x, _array(op, kernel), list(settings["strides"]), dilations=dilations, **options)
    return _activate(op, settings, y if bias is None else op.add(y, _array(op, bias[:, None, None])))


def _dense(op, settings, weights, x):
    kernel, bias = _fitting(weights, settings, (x.get_shape()[1], settings["units"]), (settings["units"],))
    if len(x.get_shape()) == 4:
        plain = {"padding": "valid", "strides": (1, 1), "activation": settings["activation"]}
        return _convolution(op.convolution, plain, op, x, kernel.T[:, :, None, None], bias)
    y = op.matmul(x, _array(op, kernel), False, False)
    return _activate(op, settings, y if bias is None else op.add(y, _array(op, bias)))


def _normalize(op, settings, weights, x):
    rank, axis = len(x.get_shape()), settings["axis"]
    if (axis if isinstance(axis, int) else list(axis)) not in (-1, rank - 1, [-1], [rank - 1]):
        raise ValueError("it does not normalize over the channels alone")
    wanted = [part for part in ("scale", "center") if settings[part]]
    _check_shapes(weights, [(x.get_shape()[1],)] * len(wanted))
    y = op.mvn(x, _whole(op, [1]), True, settings["epsilon"], "inside_sqrt")
    for part, weight in zip(wanted, weights):
        combine = op.multiply if part == "scale" else op.add
        y = combine(y, _of_channels(op, weight, rank))
    return y


def _scale(op, settings, weights, x):
    _check_shapes(weights, [(x.get_shape()[1],)])
    return op.multiply(x, _of_channels(op, weights[0], len(x.get_shape())))


def _pool(op, settings, weights, x):
    size, strides = list(settings["pool_size"]), list(settings["strides"] or settings["pool_size"])
    padding = {"same": "same_upper", "valid": "valid"}[settings["padding"]]
    return op.max_pool(x, strides, [1, 1], [0, 0], [0, 0], size, auto_pad=padding).output(0)


def _average(op, settings, weights, x):
    return op.reduce_mean(x, _whole(op, [2, 3]), bool(settings.get("keepdims")))


def _leave(op, settings, weights, x):
    return x


def _add(op, settings, weights, *tensors):
    return _combine(op.add, tensors)


def _multiply(op, settings, weights, *tensors):
    return _combine(op.multiply, tensors)


def _operate(op, settings, weights, *tensors):
    return _combine(op.add if settings["function"].endswith("add") else op.multiply, tensors)


def _combine(function, tensors):
    if len({len(tensor.get_shape()) for tensor in tensors}) != 1 or len(tensors) < 2:
        raise ValueError("its inputs have different numbers of axes")
    result = tensors[0]
    for tensor in tensors[1:]:
        result = function(result, tensor)
    return result


_LAYERS = {
    "Add": _add,
    "Conv2D": _convolve,
    "Dense": _dense,
    "DepthwiseConv2D": _convolve_depthwise,
    "GaussianNoise": _leave,
    "GlobalAveragePooling2D": _average,
    "LayerNormalization": _normalize,
    "LayerScale": _scale,
    "MaxPooling2D": _pool,
    "Multiply": _multiply,
    "RandomCrop": _crop,
    "Rescaling": _rescale,
    "TFOpLambda": _operate,
}

_SELU = 1.6732632423543772, 1.0507009873554805

_ACTIVATIONS = {
    "elu": lambda op, x: op.elu(x, 1.0),
    "gelu": lambda op, x: op.gelu(x, "erf"),
    "linear": lambda op, x: x,
    "relu": lambda op, x: op.relu(x),
    "selu": lambda op, x: op.selu(x, *(_array(op, value) for value in _SELU)),
    "sigmoid": lambda op, x: op.sigmoid(x),
    "silu": lambda op, x: op.swish(x),
    "swish": lambda op, x: op.swish(x),
}

# The values of settings that can be built here, for all layers that have them.
_SETTINGS = {
    "activation": tuple(_ACTIVATIONS),
    "data_format": ("channels_last",),
    "depth_multiplier": (1,),
    "dtype": ("float32",),
    "function": ("__operators__.add", "math.add", "math.multiply"),
    "groups": (1,),
    "rms_scaling": (False,),
}


def _activate(op, settings, x):
    return _ACTIVATIONS[_plain(settings.get("activation")) or "linear"](op, x)


def _fitting(weights, settings, kernel, bias):
    """The kernel and the bias, None if the layer has none; ValueError unless they have these shapes."""
    _check_shapes(weights, [kernel, bias] if settings["use_bias"] else [kernel])
    return (*weights, None)[:2]


def _check_shapes(weights, shapes):
    found = [array.shape for array in weights]
    if found != shapes:
        raise ValueError(f"its weights have the shapes {found} and not {shapes}")


def _array(op, values):
    return op.constant(np.ascontiguousarray(values, "float32"))


def _whole(op, values):
    return op.constant(np.array(values, "int64"))


def _of_channels(op, vector, rank):
    """A number for each channel, for tensors of so many axes."""
    return _array(op, vector.reshape(-1, *[1] * (rank - 2)))
