"""A picture of a model, drawn by Graphviz: each stage a column, equal blocks drawn once."""

import re

import keras
import pydot

from lib.errors import WorkError
from lib.models.convnext import output_shapes

_LAYER = re.compile(r"convNeXt(?P<stage>\d+)_(?:block(?P<block>\d+)_)?")
_BEFORE, _AFTER = "Input", "Output"  # what stands before the first stage and after the last


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
    places = _places(sources)
    blocks = {}
    for stage, block in places.values():
        blocks[stage] = max(blocks.get(stage, 0), 0 if block is None else block + 1)
    graph = pydot.Dot(graph_type="digraph", fontname="sans-serif", nodesep="0.3", ranksep="0.25", compound=True)
    graph.set_node_defaults(shape="box", style="filled", fillcolor="white", fontname="sans-serif", fontsize="10")
    columns = {}
    for stage in blocks:
        column = pydot.Cluster(stage.replace(" ", ""), label=stage, style="filled", color="gray93", labeljust="l")
        graph.add_subgraph(column)
        columns[stage] = column, _block_cluster(stage, blocks[stage])
        if blocks[stage]:
            column.add_subgraph(columns[stage][1])
    shapes = output_shapes(model, size)
    for layer in model.layers:
        stage, block = places[layer.name]
        if not block:
            columns[stage][block == 0].add_node(
                pydot.Node(_quoted(layer.name), label=_quoted(_label(layer, shapes[layer.name])))
            )
    for target, names in sources.items():
        for source in names:
            edge = _edge(source, target, places, blocks)
            if edge is not None:
                graph.add_edge(edge)
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
            places[name] = _AFTER if stages else _BEFORE, None
    return places


def _edge(source, target, places, blocks):
    """The arrow between two layers; None where it lies within what is not drawn."""
    (from_stage, from_block), (to_stage, to_block) = places[source], places[target]
    if from_stage == to_stage:
        return pydot.Edge(_quoted(source), _quoted(target)) if not to_block else None
    if from_block:  # the last block's result comes out of the one that is drawn
        source = re.sub(r"block\d+", "block0", source)
    return pydot.Edge(_quoted(source), _quoted(target), constraint=False)


def _block_cluster(stage, count):
    label = "Block 0" if count == 1 else f"Block 0, one of {count} alike"
    # At the bottom, where no arrow crosses the words.
    options = {"style": "filled", "color": "gray85", "labeljust": "l", "labelloc": "b"}
    return pydot.Cluster(stage.replace(" ", "") + "Block", label=label, **options)


def _label(layer, shape):
    kind = type(layer).__name__
    details = [kind]
    if hasattr(layer, "kernel_size"):
        details.append("{} x {}".format(*layer.kernel_size))
    activation = getattr(layer, "activation", None)
    if activation is not None and activation is not keras.activations.linear:
        details.append(activation.__name__)
    sides = " x ".join(str(side) for side in shape)
    parameters = f", {layer.count_params():,} parameters" if layer.count_params() else ""
    return "{}\\n{}\\n{}{}".format(layer.name, ", ".join(details), sides, parameters)


def _quoted(text):
    return f'"{text}"'
