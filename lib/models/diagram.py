"""A diagram of a model, drawn by Graphviz: a table for each stage, and one for the first of its blocks, all alike."""

import html
import re

import keras
import pydot

from lib.errors import WorkError
from lib.models.convnext import output_shapes

_LAYER = re.compile(r"(?:convNeXt(?P<stage>\d+)_(?:block(?P<block>\d+)_)?|block(?P<only>\d+)_)")
_WIDTHS = 270, 170, 100, 80  # of the columns, in points: all tables are as wide


def draw_model(model, size, kind):
    """Draw a model made by `lib.models.convnext` or `lib.models.vit`.

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
    tables = {}  # the layers of each stage outside of blocks, and of its first block
    for layer in model.layers:
        stage, block = places[layer.name]
        if not block:
            tables.setdefault((stage, block), []).append(layer)
    graph = pydot.Dot(graph_type="digraph", ranksep="0.2", dpi="80")
    graph.set_node_defaults(shape="plain", fontname="sans-serif", fontsize="11")
    rows = {}  # layer's name -> the table that it is in, and its row there
    for number, ((stage, block), layers) in enumerate(tables.items()):
        blocks = len({other for where, other in places.values() if where == stage} - {None})
        title = stage if block is None else f"{stage}, block 0" if stage else "Block 0"
        title += f", one of {blocks} alike" if block is not None and blocks > 1 else ""
        graph.add_node(pydot.Node(f"t{number}", label=_table(title, layers, shapes)))
        rows.update((layer.name, (number, row)) for row, layer in enumerate(layers))
    for target, names in sources.items():
        for source in names if target in rows else ():
            # The last block's result comes out of the first, which is drawn.
            source = source if source in rows else re.sub(r"block\d+", "block0", source)
            _add_edge(graph, rows[source], rows[target], [*tables.values()])
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
    """Each layer's stage, empty if the model has none, and the number of its block, None outside of blocks."""
    places = {}
    stages = 0
    for name, before in sources.items():
        match = _LAYER.match(name)
        if match and match["only"]:
            stages, places[name] = 1, ("", int(match["only"]))
        elif match:
            stages = int(match["stage"]) + 1
            places[name] = f"Stage {match['stage']}", None if match["block"] is None else int(match["block"])
        elif name.startswith("gaussian_noise"):
            places[name] = places[before[0]]
        else:
            places[name] = "Output" if stages else "Input", None
    return places


def _add_edge(graph, source, target, tables):
    """Draw the arrow between two layers, given by table and row, unless one is the row below the other."""
    (from_table, from_row), (to_table, to_row) = source, target
    if (to_table, to_row) == (from_table, from_row + 1):
        return
    if to_row == 0 and from_row == len(tables[from_table]) - 1 and to_table == from_table + 1:
        graph.add_edge(pydot.Edge(f"t{from_table}", f"t{to_table}"))
    else:  # beside the tables, where it crosses none
        ends = (f"t{from_table}:r{from_row}:e", f"t{to_table}:r{to_row}:e")
        graph.add_edge(pydot.Edge(*ends, constraint=False))


def _table(title, layers, shapes):
    """A table of layers, as Graphviz reads it."""
    lines = [f'<TR><TD COLSPAN="4" ALIGN="LEFT" BGCOLOR="gray85"><B>{html.escape(title)}</B></TD></TR>']
    for row, layer in enumerate(layers):
        cells = [html.escape(text) for text in _cells(layer, shapes[layer.name])]
        ports = [f'PORT="l{row}"', "", "", f'PORT="r{row}"']
        aligned = ("LEFT", "LEFT", "LEFT", "RIGHT")
        made = zip(cells, ports, aligned, _WIDTHS)
        lines.append(
            "<TR>"
            + "".join(f'<TD {port} ALIGN="{side}" WIDTH="{width}">{text}</TD>' for text, port, side, width in made)
            + "</TR>"
        )
    return f'<<TABLE BORDER="0" CELLBORDER="1" CELLSPACING="0" CELLPADDING="3">{"".join(lines)}</TABLE>>'


def _cells(layer, shape):
    """A layer's name, its kind, the size of its result, and its parameters."""
    details = [type(layer).__name__]
    if hasattr(layer, "kernel_size"):
        details.append("{} × {}".format(*layer.kernel_size))
    if getattr(layer, "activation", keras.activations.linear) is not keras.activations.linear:
        details.append(layer.activation.__name__)
    parameters = f"{layer.count_params():,}" if layer.count_params() else ""
    return layer.name, ", ".join(details), " × ".join(str(side) for side in shape), parameters
