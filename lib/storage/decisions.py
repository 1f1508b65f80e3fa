"""What a person decided about images, in the rows of a table of predictions: it always wins over the model's answer.

Such a table has one more column, `SOURCE`, its last: `model`, or `person` for images that a person decided about.
"""

SOURCE = "SOURCE"
MODEL, PERSON = "model", "person"


def decide(columns, values, category):
    """The values of a row with a person's decision as its answer.

    Args:
        columns: their names.
        values: the model's, without `SOURCE`.
        category: what the person decided.

    Returns:
        The values. If the category was not the model's answer it has no probability, None, and the model's own answers
        follow it, as far as there are columns for them.
    """
    ranks = [name for name in columns if name == "PREDICTION" or (name[:11] == "PREDICTION_" and name[11:].isdecimal())]
    places = [(columns.index(name), columns.index(name.replace("PREDICTION", "PROBABILITY"))) for name in ranks]
    ranking = [(values[answer], values[probability]) for answer, probability in places]
    if ranking[0][0] == category:
        return list(values)
    changed = list(values)
    others = (pair for pair in ranking if pair[0] != category)
    for (answer, probability), pair in zip(places, [(category, None), *others]):
        changed[answer], changed[probability] = pair
    return changed


def add_source(kind, line, source):
    """A line of a table, see `format_line`, with the column `SOURCE` at its end."""
    end = _end(kind)
    return line[: -len(end)] + _separated(kind, source) + end


def split_source(kind, line):
    """A line without the column `SOURCE` at its end, and what stood there. ValueError if that is no source."""
    for source in (MODEL, PERSON):
        ending = _separated(kind, source) + _end(kind)
        if line.endswith(ending):
            return line[: -len(ending)] + _end(kind), source
    raise ValueError(f"it has no {SOURCE} at its end")


def _separated(kind, source):
    if kind in ("jsonl", "xlsx"):
        return f', "{SOURCE}": "{source}"'.encode()
    return f"{',' if kind == 'csv' else chr(9)}{source}".encode()


def _end(kind):
    return b"}\n" if kind in ("jsonl", "xlsx") else b"\n"
