"""The softmax or sigmoid at the end of a model that a file describes, read without Keras.

The project computes with logits, so it is taken off where a file is opened, and put back where the model is saved.
"""

from lib.models.keras_descriptions import (
    MODELS,
    functional_config,
    layer_name,
    operation_of,
    read_call,
    read_ends,
    references_in,
)

ACTIVATIONS = ("softmax", "sigmoid")

# Layers, and operations, that pass each number on, at least in inference.
_PASSING = ("Dropout", "Flatten", "Reshape", "Identity", "cast", "reshape")


def without_activation(description):
    """Take a softmax or sigmoid off the end of a model's description.

    Args:
        description: as Keras has it in `config.json`; left as it is.

    Returns:
        A description of the model that gives the logits, and `softmax` or `sigmoid`; the same description and None for
        a model that ends otherwise, or that no Keras describes so.
    """
    try:
        config = functional_config(description)
        entries = {layer_name(entry): entry for entry in config["layers"]}
        calls = {name: [read_call(node, str) for node in entry["inbound_nodes"]] for name, entry in entries.items()}
        changed, activation = _changed(config, entries, calls)
    except Exception:  # what is wrong with it is told where the model is built
        return description, None
    return (dict(description, config=changed), activation) if activation else (description, None)


def _changed(config, entries, calls):
    """The configuration without its activation, and that one; None twice if there is none.

    Args:
        config: of a Functional model.
        entries: layer's name -> its entry.
        calls: layer's name -> its calls, of `read_call`.
    """
    ends = read_ends(config["output_layers"])
    used = [reference.layer for reference in ends + references_in(list(calls.values()))]
    name = ends[0].layer if len(ends) == 1 else None
    # From the output backwards, as long as nothing else uses the layer's result.
    while name is not None and len(calls[name]) == used.count(name) == 1:
        changed, activation = _without_activation(entries[name])
        sources = references_in(calls[name])
        if activation is not None:
            layers = [changed if entry is entries[name] else entry for entry in config["layers"]]
            config = dict(config, layers=[entry for entry in layers if entry is not None])
            return config if changed is not None else _redirected(config, name, sources[0]), activation
        name = sources[0].layer if changed is not None and len(sources) == 1 else None
    return None, None


def _without_activation(entry):
    """Take the activation off a layer at the end of a model.

    Args:
        entry: one of a file's layers.

    Returns:
        The entry without it, None if it is nothing else, and the activation. For a layer without one: the entry and
        None if it passes each number on, else None twice.
    """
    kind, settings = entry["class_name"], entry["config"]
    if kind in MODELS:
        changed, activation = without_activation(entry)
        return (None, None) if activation is None else (changed, activation)
    operation = operation_of(entry)
    if operation in ACTIVATIONS:
        return None, operation
    if kind == "Softmax":
        return None, "softmax" if settings.get("axis", -1) in (-1, [-1], 1, [1]) else None
    activation = _name_of(settings.get("activation"))
    if activation in ACTIVATIONS:
        return None if kind == "Activation" else dict(entry, config=dict(settings, activation="linear")), activation
    passing = (operation or kind) in _PASSING or (kind == "Activation" and activation == "linear")
    return entry if passing else None, None


def _name_of(activation):
    """The name of an activation, which may be described as a function or as a layer; None if it has none."""
    if not isinstance(activation, dict):
        return activation
    if activation["class_name"] == "function":
        return activation["config"]
    if activation["class_name"] == "Activation":
        return _name_of(activation["config"]["activation"])
    return "softmax" if activation["class_name"] == "Softmax" else None


def _redirected(value, name, source):
    """A description in which what led to a layer leads to its source, a `Reference`."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__" and value["config"]["keras_history"][0] == name:
            return dict(value, config=dict(value["config"], keras_history=list(source)))
        return {key: _redirected(item, name, source) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        if len(value) >= 3 and value[0] == name and type(value[1]) is int:
            return [*source, *value[3:]]
        return [_redirected(item, name, source) for item in value]
    return value
