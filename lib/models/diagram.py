"""A diagram of a model, drawn by Graphviz: each stage is a column, equal blocks are drawn once."""

import re

import keras
import pydot

from lib.errors import WorkError
from lib.models.convnext import output_shapes

_LAYER = re.compile(r"convNeXt(?P<stage>\d+)_(?:block(?P<block>\d+)_)?")


def draw_model(model, size, kind):
    """Draw a model made by `lib.models.convnext`.

    Args:
        model: the Keras model.
        size: the side in pixels of the images that the shapes are given for.
        kind: `png` or `svg`.

    Returns:
        The picture's bytes.

    Raises:
        WorkError: Graphviz's `dot` is missing, or fails.
    """
    sources = {layer.name: _sources(layer) for layer in model.layers}
    places, shapes = _places(sources), output_shapes(model, size)
    graph = pydot.Dot(graph_type="digraph", fontname="sans-serif", nodesep="0.3", ranksep="0.25", compound=True)
    graph.set_node_defaults(shape="box", style="filled", fillcolor="white", fontname="sans-serif", fontsize="10")
    for stage in dict.fromkeys(stage for stage, _ in places.values()):
        name, blocks = (
            stage.replace(" ", ""),
            len({block for other, block in places.values() if other == stage} - {None}),
        )
        column = pydot.Cluster(name, label=stage, style="filled", color="gray93", labeljust="l")
        graph.add_subgraph(column)
        label = "Block 0" if blocks == 1 else f"Block 0, one of {blocks} alike"
        # The label is at the bottom, where no arrow crosses it.
        options = {"style": "filled", "color": "gray85", "labeljust": "l", "labelloc": "b"}
        first = pydot.Cluster(name + "Block", label=label, **options)
        if blocks:
            column.add_subgraph(first)
        for layer in model.layers:
            if places[layer.name][0] == stage and not places[layer.name][1]:
                node = pydot.Node(_quoted(layer.name), label=_quoted(_label(layer, shapes[layer.name])))
                (column if places[layer.name][1] is None else first).add_node(node)
    for target, names in sources.items():
        for source in names:
            _add_edge(graph, source, target, places)
    try:
        return graph.create(format=kind)
    except (AssertionError, OSError) as error:  # the first is how pydot says that `dot` failed
        raise WorkError("Graphviz's dot failed; check whether it can draw anything.", "plot") from error


def _sources(layer):
    """The names of the layers whose results a layer takes."""
    if isinstance(layer, keras.layers.InputLayer):
        return []
    inputs = layer.input if isinstance(layer.input, list) else [layer.input]
    return [tensor._keras_history[0].name for tensor in inputs]  # the one way that Keras 2 and 3 share


def _places(sources):
    """Each layer's stage and the number of its block, None outside of blocks."""
    places = {}
    stages = 0
    for name, before in sources.items():
        match = _LAYER.match(name)
        if match:
            stages = int(match["stage"]) + 1
            places[name] = f"Stage {match['stage']}", None if match["block"] is None else int(match["block"])
        elif name.startswith("gaussian_noise"):
            places[name] = places[before[0]]
        else:
            places[name] = "Output" if stages else "Input", None
    return places


def _add_edge(graph, source, target, places):
    """Draw the arrow between two layers, except within a block that is not drawn."""
    (from_stage, from_block), (to_stage, to_block) = places[source], places[target]
    if from_stage != to_stage:
        # The last block's result comes out of the first, which is drawn.
        source = re.sub(r"block\d+", "block0", source) if from_block else source
        graph.add_edge(pydot.Edge(_quoted(source), _quoted(target), constraint=False))
    elif not to_block:
        graph.add_edge(pydot.Edge(_quoted(source), _quoted(target)))


def _label(layer, shape):
    details = [type(layer).__name__]
    if hasattr(layer, "kernel_size"):
        details.append("{} x {}".format(*layer.kernel_size))
    if getattr(layer, "activation", keras.activations.linear) is not keras.activations.linear:
        details.append(layer.activation.__name__)
    sides = " x ".join(str(side) for side in shape)
    parameters = f", {layer.count_params():,} parameters" if layer.count_params() else ""
    return "{}\\n{}\\n{}{}".format(layer.name, ", ".join(details), sides, parameters)


def _quoted(text):
    return f'"{text}"'
