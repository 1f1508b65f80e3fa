"""Models built by the running Keras from the descriptions in `.keras` files by any Keras since 2.12.

Only plain layers are built: those of Keras that hold no code and read no files, and this project's own. The graph is
rebuilt here, layer by layer, rather than by Keras, whose versions refuse each other's descriptions and which would
look up any class that a file names.
"""

import contextvars
import functools
import inspect
import itertools
import math
import re
from typing import Any, Callable, List, NamedTuple, Optional

import keras
import numpy as np

from lib.models.keras_descriptions import (
    MODELS,
    Reference,
    functional_config,
    is_of_keras,
    layer_name,
    operation_of,
    read_calls,
    read_ends,
    replace_references,
)
from lib.models.keras_operations import KERAS_2, build_application_layer, build_operation, replaced_activation
from lib.models.layers import LayerScale, RandomCrop
from lib.storage.untrusted import RefusedError, one_line

# Layers of Keras that run code from the file or read other files.
REFUSED = (
    *("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"),
    *("StringLookup", "IntegerLookup", "TextVectorization"),
)

# Settings that some versions write and others don't know, with the value that has no effect. None and False have none
# for any setting.
NEUTRAL = (
    *(("autocast", True), ("data_format", "channels_last"), ("fill_mode", "constant"), ("fill_value", 0.0)),
    *(("groups", 1), ("implementation", 2)),
)

# Settings that repeat what the graph says, or have no effect on results.
REDUNDANT = ("batch_input_shape", "build_input_shape", "dynamic", "key_shape", "query_shape", "value_shape")

# The same setting under the name that Keras 3 gave it.
RENAMED = {("LeakyReLU", "alpha"): "negative_slope", ("LeakyReLU", "negative_slope"): "alpha"}

# The dtypes of arrays in a description.
NUMBERS = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")

# Activations that Keras 2.13 takes, though it does not have them under `keras.activations`, or that are replaced there.
FUNCTIONS = ("silu", "relu6", "leaky_relu", "log_softmax", "hard_silu", "hard_swish")


class Part(NamedTuple):
    """A layer of a rebuilt model.

    Attributes:
        class_name, name: its class and name in the file.
        layer: the live layer, which may have another name; None for an operation, which has no weights.
        parts: those of a model in a model, else None.
        apply: called with what the layer is called with in the file's graph.
    """

    class_name: str
    name: str
    layer: Any
    parts: Optional[List["Part"]]
    apply: Callable


if KERAS_2:
    PlainModel = keras.Model
else:

    class PlainModel(keras.Model):
        """A functional model whose loss has the penalties of frozen weights, too, as it has on Keras 2."""

        @property
        def losses(self):
            frozen = [weight.regularizer(weight) for weight in self.non_trainable_weights if weight.regularizer]
            return super().losses + frozen


# How many more numbers the weights of the model being built may have.
_budget = contextvars.ContextVar("budget", default=math.inf)

# The version of the Keras that wrote the model being built.
_written_by = contextvars.ContextVar("written_by", default=keras.__version__)

_TOO_MANY = "describes far more weights than it holds"


def _spend(count):
    _budget.set(_budget.get() - count)
    if _budget.get() < 0:
        raise RefusedError(_TOO_MANY)


@keras.saving.register_keras_serializable("herbariograph")
class FromFile(keras.initializers.Initializer):
    """Zeros until the weights are read from a file, in place of the initializer that the file describes.

    Args:
        described: the description of that initializer, which is written when the model is saved.
    """

    def __init__(self, described=None):
        self.described = described

    def __call__(self, shape, dtype=None, **options):
        _spend(math.prod(shape))
        return keras.initializers.Zeros()(shape, dtype, **options)

    def get_config(self):
        return {"described": self.described}


def build_model(description, most, written_by=keras.__version__):
    """Build the model that a file describes, its weights still zeros.

    Args:
        description: the content of `config.json` (or of an HDF5 file's `model_config`), parsed.
        most: the number of numbers that its weights may have: a few bytes can describe a model that no memory holds.
        written_by: the version of the Keras that wrote it: a few names mean something else in each.

    Returns:
        A functional Keras model and the list of its `Part`s in the file's order.

    Raises:
        RefusedError: it holds something other than plain layers, or settings unknown to the running Keras.
    """
    former, _ = _budget.set(most), _written_by.set(written_by)
    try:
        return _build(description, PlainModel)
    except Exception as error:  # a description that no Keras wrote makes the running one raise anything
        if _budget.get() < 0:  # Keras 2 rewords errors within some layers
            raise RefusedError(_TOO_MANY) from error
        if isinstance(error, (RefusedError, MemoryError)):
            raise
        reason = f"without {error}" if isinstance(error, KeyError) else one_line(error)
        raise RefusedError(f"describes its model in a way that no Keras does ({reason})") from error
    finally:
        _budget.reset(former)


def plain_description(description):
    """A description by the running Keras with this project's stand-ins replaced by what Keras knows without it."""
    if isinstance(description, (list, tuple)):
        return [plain_description(item) for item in description]
    if not isinstance(description, dict):
        return description
    if description.get("class_name") == FromFile.__name__:
        return description["config"]["described"]
    plain = {key: plain_description(value) for key, value in description.items() if key != "compile_config"}
    if plain.get("class_name") == RandomCrop.__name__:
        plain.update(module="keras.layers", registered_name=None)
    elif plain.get("class_name") == LayerScale.__name__:
        plain.update(module=None, registered_name="LayerScale")
    elif plain.get("class_name") == "PlainModel":
        plain.update(module="keras.src.models.functional", class_name="Functional", registered_name="Functional")
    return plain


def outline(description):
    """The parts of a description that determine what the model computes, equal for every Keras, for comparisons."""
    found = []
    for entry in description["config"]["layers"]:
        kind, settings = entry["class_name"], entry["config"]
        if kind in MODELS:
            found.append((kind, outline(entry)))
        elif kind != "InputLayer":
            values = [(key, _as_text(settings[key])) for key in _FUNCTIONAL_SETTINGS if key in settings]
            found.append((kind, settings.get("name", entry.get("name")), values))
    return found


# The settings by which layers of the same class with weights of the same shapes may differ in what they do.
_FUNCTIONAL_SETTINGS = (
    *("filters", "units", "kernel_size", "strides", "padding", "pool_size", "dilation_rate"),
    *("activation", "epsilon", "scale", "offset", "height", "width", "target_shape", "function"),
)


def _as_text(value):
    """A setting as the same text for every Keras."""
    if isinstance(value, dict):
        value = value.get("config") if isinstance(value.get("config"), str) else value.get("class_name")
    return [_as_text(item) for item in value] if isinstance(value, (list, tuple)) else str(value)


_FLOAT32 = ("InputLayer", "Rescaling", "LayerNormalization", "BatchNormalization", "GroupNormalization")


def with_precision(description, policy):
    """A description with a dtype policy of Keras, such as `mixed_float16`, for most of its layers.

    The scaling of pixels, normalizations and the logits stay float32: means and variances need the precision, and
    TensorFlow 2.13 has no fused normalization in bfloat16 for processors without such arithmetic.
    """
    config = description["config"]
    outputs = [config["layers"][-1]["config"].get("name")]  # of a Sequential model
    if "output_layers" in config:
        outputs = [reference.layer for reference in read_ends(config["output_layers"])]
    changed = []
    for entry in config["layers"]:
        if entry["class_name"] in MODELS:
            entry = with_precision(entry, policy)
        elif entry["class_name"] not in _FLOAT32 and entry["config"].get("name") not in outputs:
            entry = dict(entry, config=dict(entry["config"], dtype=policy))
        changed.append(entry)
    return dict(description, config=dict(config, layers=changed))


def _build(description, model_class):
    """Build a Functional or Sequential model: the model and its parts."""
    config = functional_config(description)
    parts, tensors, taken = {}, {}, set()
    for entry in config["layers"]:
        name = layer_name(entry)
        entry = dict(entry, config=dict(entry["config"], name=_usable_name(name, taken)))
        if entry["class_name"] == "InputLayer":
            tensors[Reference(name, 0, 0)] = _checked(_input(entry["config"]))
        else:
            parts[name] = _part(entry, name)
    for call in read_calls(config, functools.partial(_value, name=None)):
        part = parts[call.layer]
        arguments, options = replace_references(call[2:], tensors.__getitem__)
        if isinstance(part.layer, keras.layers.Normalization):  # whose weights have no initializer to be set
            _spend(math.prod(arguments[0].shape[axis] or 1 for axis in part.layer.axis))
        if part.parts is not None and isinstance(arguments[0], dict) and len(arguments[0]) == 1:
            arguments = list(arguments[0].values())  # a model that takes its one input by name
        results = part.apply(*arguments, **options)
        for position, tensor in enumerate(results if isinstance(results, (list, tuple)) else [results]):
            tensors[Reference(call.layer, call.node, position)] = _checked(tensor)
    ends = [
        [tensors[end] for end in references]
        for references in map(read_ends, (config["input_layers"], config["output_layers"]))
    ]
    name = config.get("name") and _usable_name(config["name"], set())
    model = model_class(*(end[0] if len(end) == 1 else end for end in ends), name=name)
    if config.get("trainable") is False:
        model.trainable = False
    return model, list(parts.values())


def _usable_name(name, taken):
    """A layer's name, or a similar one that TensorFlow takes and that is not `taken`, to which it is added."""
    usable = name
    if isinstance(name, str):
        usable = re.sub(r"[^A-Za-z0-9_.\\/>-]" if KERAS_2 else r"[^A-Za-z0-9_.\\>-]", "_", name)
        usable = usable if re.match(r"[A-Za-z0-9.]", usable) else "layer" + usable
    numbered = itertools.chain([usable], (f"{usable}_{number}" for number in itertools.count(1)))
    usable = next(each for each in numbered if each not in taken)
    taken.add(usable)
    return usable


def _checked(tensor):
    """A tensor, unless it has so many channels that one weight for each of them would be too many."""
    if len(tensor.shape) and (tensor.shape[-1] or 0) > _budget.get():
        raise RefusedError(_TOO_MANY)
    return tensor


def _input(config):
    shape = config.get("batch_shape") or config.get("batch_input_shape")
    return keras.Input(batch_shape=tuple(shape), dtype=_dtype(config.get("dtype")), name=config.get("name"))


def _part(entry, name):
    """The `Part` for one entry of a model's layers; its name in the file may not be that of the layer."""
    kind, config = entry["class_name"], entry["config"]
    if kind in MODELS:
        model, parts = _build(entry, keras.Model)
        return Part(kind, name, model, parts, model)
    if operation_of(entry) is not None:
        return Part(kind, name, None, None, build_operation(entry, config["name"]))
    replaced = build_application_layer(entry, config["name"]) if is_of_keras(entry) else None
    if replaced is not None:
        return Part(kind, name, None, None, replaced)
    layer_class = _layer_class(entry)
    options, activate = _options(layer_class, config, name), None
    if isinstance(options.get("activation"), str):
        activate = replaced_activation(options["activation"], _written_by.get(), config["name"])
    if activate is not None:
        options["activation"] = "linear"
    try:
        layer = layer_class(**options)
    except (TypeError, ValueError) as error:
        raise RefusedError(f"has a layer {name!r} that this Keras can't build: {one_line(error)}") from error
    return Part(kind, name, layer, None, layer if activate is None else lambda *given: activate(layer(*given)))


def _layer_class(entry):
    kind, name = entry["class_name"], entry["config"].get("name")
    if kind == "LayerScale":
        return LayerScale
    found = RandomCrop if kind == "RandomCrop" else getattr(keras.layers, kind, None)
    plain = inspect.isclass(found) and issubclass(found, keras.layers.Layer) and kind not in REFUSED
    if not (plain and is_of_keras(entry)):
        raise RefusedError(f"holds a layer {name!r} of the class {kind}, which is not one of Keras's plain layers")
    return found


def _options(built_class, config, name):
    """The settings of a layer, initializer, regularizer or constraint, as the running Keras wants them."""
    accepted, options = set(), {}
    for ancestor in built_class.__mro__:
        if "__init__" in vars(ancestor):
            accepted.update(inspect.signature(ancestor.__init__).parameters)
    if issubclass(built_class, keras.layers.Layer):
        accepted |= {"name", "trainable", "dtype"}
        known = [key for key in inspect.signature(built_class.__init__).parameters if key.endswith("_initializer")]
        # TensorFlow has initializers with the same names and settings, one of which Keras 2.13 uses in EfficientNetV2.
        of_tensorflow = {"module": "tensorflow.python.ops.init_ops_v2"}
        config = dict(config)
        for key in known:
            if isinstance(config.get(key), dict) and of_tensorflow.items() <= config[key].items():
                config[key] = dict(config[key], module="keras.initializers", registered_name=None)
        options = {key: FromFile(config.get(key)) for key in known}
    if built_class is LayerScale and "init_values" in config:  # that of `keras.applications`
        config = dict(config, epsilon=config["init_values"], init_values=None, projection_dim=None)
    for key, value in config.items():
        if key in options:
            _value(value, name)  # refuses what is not Keras's
            continue
        if key == "axis" and built_class is keras.layers.BatchNormalization and isinstance(value, list):
            value = value[0]  # Keras 2 writes its one axis as a list
        if key not in accepted and RENAMED.get((built_class.__name__, key)) in accepted:
            key = RENAMED[built_class.__name__, key]
        if key in accepted:
            options[key] = _dtype(value) if key == "dtype" else _value(value, name)
        elif not _has_no_effect(key, value):
            unknown = f"the setting {key}={value!r}, which Keras {keras.__version__} does not know"
            raise RefusedError(f"has a layer {name!r} with {unknown}")
    return options


def _has_no_effect(key, value):
    """Whether a setting that the running Keras does not know can be left out; weights come from the file."""
    ignored = key in REDUNDANT or key.endswith("_initializer") or (key, value) in NEUTRAL
    return ignored or value is None or value is False


def _dtype(value):
    """A dtype or dtype policy as its name."""
    return value["config"]["name"] if isinstance(value, dict) else value


def _value(value, name):
    """A setting's value: numbers and strings as they are, what is described as an object as the object."""
    if isinstance(value, list):
        return [_value(item, name) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("class_name")
    if kind is None:
        return {key: _value(item, name) for key, item in value.items()}
    if kind == "__ellipsis__":
        return Ellipsis
    if kind == "__slice__":
        return slice(*map(value["config"].get, ("start", "stop", "step")))
    if kind == "__tuple__":
        return tuple(_value(item, name) for item in value["items"])
    if kind in ("__numpy__", "__tensor__"):
        if value["config"]["dtype"] not in NUMBERS:
            raise RefusedError(f"has a layer {name!r} with an array of {value['config']['dtype']!r}")
        return np.array(value["config"]["value"], dtype=value["config"]["dtype"])
    config = value["config"]
    if kind == "function":
        if isinstance(config, str) and (config in FUNCTIONS or callable(getattr(keras.activations, config, None))):
            return config
    elif is_of_keras(value):
        for namespace in (keras.initializers, keras.regularizers, keras.constraints):
            found = getattr(namespace, kind, None)
            if inspect.isclass(found):
                return found(**_options(found, config, name))
        if hasattr(keras.layers, kind):
            return _part(value, config.get("name")).layer
    raise RefusedError(f"has a layer {name!r} that uses {kind}, which is not a plain part of Keras")
