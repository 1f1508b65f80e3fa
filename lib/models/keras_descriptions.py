"""The graphs in the descriptions of models, as any Keras since 2.12 writes them, read without Keras."""

import collections
import re
from typing import NamedTuple

from lib.storage.untrusted import RefusedError

FEATURES = "output_layerNormalization"  # the layer after the pooling

MODELS = ("Functional", "Sequential", "Model")  # the classes of models in a file


class NoFeaturesError(ValueError):
    """A model has no features; the message is a clause to follow its name."""

    def __init__(self):
        super().__init__(f"has no layer {FEATURES}, and the input of its last layer is not one vector per image")


class Reference(NamedTuple):
    """A tensor in a file's graph: which output of which call of which layer."""

    layer: str
    node: int
    tensor: int


def snake_case(class_name):
    """A class's name as Keras spells it in the weights' paths: `DepthwiseConv2D` is `depthwise_conv2d`."""
    spaced = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", class_name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", spaced).lower()


def is_of_keras(described):
    """Whether a class is Keras's own: others have the module None, and versions before 2.13 write no module at all."""
    return (described.get("module", "keras") or "").split(".")[0] in ("keras", "tf_keras")


def functional_config(description):
    """The configuration of a model, of a Sequential one as that of a Functional one; RefusedError for anything else."""
    kind = description["class_name"]
    if kind not in MODELS:
        raise RefusedError(f"is a {kind}, not a model of plain layers (Functional or Sequential)")
    config = description["config"]
    return _as_functional(config, description.get("build_config")) if kind == "Sequential" else config


def _as_functional(config, build_config):
    """The configuration of a Sequential model as that of a Functional one."""
    layers = config["layers"]
    if layers[0]["class_name"] != "InputLayer":
        shape = layers[0]["config"].get("batch_input_shape") or (build_config or config).get("input_shape")
        shape = shape or config.get("build_input_shape")
        if shape is None:
            raise RefusedError("holds a Sequential model that was saved before its input's shape was known")
        layers = [{"class_name": "InputLayer", "config": {"batch_shape": shape, "name": "sequential_input"}}, *layers]
    chained, ends = [], []
    for layer in layers:
        name = layer["config"].get("name") or layer.get("name")
        chained.append(dict(layer, name=name, inbound_nodes=ends and [ends]))
        ends = [[name, 0, 0]]
    return dict(config, layers=chained, input_layers=[[chained[0]["name"], 0, 0]], output_layers=ends)


class Call(NamedTuple):
    """A call of a layer: its results are the tensors `Reference(layer, node, …)`.

    Attributes:
        layer, node: the layer's name and the call's number.
        arguments, options: positional and named arguments, tensors as `Reference`s.
    """

    layer: str
    node: int
    arguments: list
    options: dict


def layer_name(entry):
    """The name of one of the layers in a configuration."""
    return entry.get("name") or entry["config"].get("name")


def operation_of(entry):
    """The operation between tensors that an entry of a file's layers is, such as `truediv`; None for a layer.

    Keras 2 calls it as TensorFlow does (`math.truediv`), Keras 3 by a class of its own (`TrueDivide`).
    """
    if entry["class_name"] in ("TFOpLambda", "SlicingOpLambda"):
        written = entry["config"]["function"]
    elif (entry.get("module") or "").startswith("keras.src.ops"):
        written = entry["class_name"]
    else:
        return None
    return written.split(".")[-1].lower().replace("_", "")


def read_calls(config, build):
    """The calls in a model's graph, each after those whose results it takes.

    Args:
        config: of `functional_config`.
        build: called with the description of an object among the arguments, such as an array; its result is taken.

    Returns:
        A list of `Call`s.

    Raises:
        RefusedError: the graph is not connected, or Keras 3.2 wrote it wrongly.
    """
    layers = [(layer_name(entry), entry) for entry in config["layers"]]
    ready = {(name, 0) for name, entry in layers if entry["class_name"] == "InputLayer"}
    waiting = [
        Call(name, index, *read_call(node, build))
        for name, entry in layers
        if entry["class_name"] != "InputLayer"
        for index, node in enumerate(entry["inbound_nodes"])
    ]
    models = {name for name, entry in layers if entry["class_name"] in MODELS}
    first = _first_calls(waiting, models, read_ends(config["output_layers"]))
    waiting = [call._replace(node=call.node + first[call.layer]) for call in waiting]
    calls = []
    while waiting:
        later = []
        for call in waiting:
            if all(reference[:2] in ready for reference in references_in(call[2:])):
                calls.append(call)
                ready.add(call[:2])
            else:
                later.append(call)
        if len(later) == len(waiting):
            raise RefusedError(f"has a layer {later[0].layer!r} whose input comes from nowhere")
        waiting = later
    return calls


def read_call(node, build):
    """The arguments of one call of a layer in a file's graph: positional and named."""
    if isinstance(node, dict) and "args" in node:  # Keras 3
        # `training` is recorded as it was when the model was made; each call sets its own.
        given = {key: item for key, item in node["kwargs"].items() if key != "training" and item is not None}
        return [_argument(item, build) for item in node["args"]], _argument(given, build)
    if isinstance(node[0], str):  # Keras 2, an operator
        return [_old_reference(node)], _argument(node[3], build)
    options = {key: value for item in node for key, value in (item[3] if len(item) > 3 else {}).items()}
    inputs = [_old_reference(item) for item in node]
    return [inputs[0] if len(inputs) == 1 else inputs], _argument(options, build)


def _argument(value, build):
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            return Reference(*value["config"]["keras_history"])
        return build(value) if "class_name" in value else {key: _argument(v, build) for key, v in value.items()}
    if isinstance(value, list):
        if len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], int):
            return _old_reference(value)
        return [_argument(item, build) for item in value]
    return value


def _old_reference(item):
    return item[2] if item[0] == "_CONSTANT_VALUE" else Reference(*item[:3])


def read_ends(ends):
    """The inputs or outputs of a model, `[name, 0, 0]`, a list of such or a dictionary by name, as `Reference`s."""
    if isinstance(ends, dict):
        ends = list(ends.values())
    return [Reference(*ends)] if isinstance(ends[0], str) else [Reference(*end) for end in ends]


def references_in(value):
    """All `Reference`s in nested lists, tuples and dictionaries."""
    found = []
    replace_references(value, found.append)
    return found


def replace_references(value, function):
    """Nested lists, tuples and dictionaries with the function's results in place of `Reference`s."""
    if isinstance(value, Reference):
        return function(value)
    if isinstance(value, dict):
        return {key: replace_references(item, function) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(replace_references(item, function) for item in value)
    return value


def _first_calls(calls, models, outputs):
    """The number of each layer's first call: layer's name -> number.

    Keras 2 counts the call that makes a model as the first of a model in a model: its calls in the graph start at 1.
    Every call that a file lists leads to an output, so an unused result means that the graph was written wrongly, which
    Keras 3.2 does to layers that are called twice.
    """
    counts = collections.Counter(call.layer for call in calls)
    used = collections.defaultdict(set)
    for reference in outputs + [one for call in calls for one in references_in(call[2:])]:
        used[reference.layer].add(reference.node)
    first = {name: int(name in models and max(used[name], default=0) == count) for name, count in counts.items()}
    for name, count in counts.items():
        if used[name] != set(range(first[name], first[name] + count)):
            problem = (
                f"calls the layer {name!r} {count} times without saying which result goes where, as Keras 3.2 does"
            )
            raise RefusedError(f"{problem}; save the model with another Keras")
    return first
