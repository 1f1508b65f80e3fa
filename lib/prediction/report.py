"""What is made of a table of predictions to be looked at: a page, and folders."""

import os
from typing import NamedTuple, Optional

from lib.data.categories import CATEGORIES, LABELS, read_labels
from lib.data.images import MAX_PIXELS, ImageError
from lib.data.thumbnails import read_thumbnails
from lib.display.pages import Card, Group, Subject, link_to, write_prediction_page
from lib.errors import UsageError
from lib.prediction.sorting import sort_images
from lib.storage.names import unescape_name
from lib.storage.tables import read_errors_table, read_table, settings_of, table_kind


class Predicted(NamedTuple):
    """A row of a table: the image's name as it is there, its category, how probable that is, and the runner-up; None
    and empty where the table doesn't say."""

    name: str
    category: str
    probability: Optional[float]
    second: str
    second_probability: Optional[float]


def read_predictions(path, labels=()):
    """Read a table of predictions: `FILE PREDICTION`, perhaps `PROBABILITY`, and what more `predictImages.py` writes.

    Args:
        path: the table.
        labels: those whose probabilities may have columns, from which the runner-up is found if it has none.

    Returns:
        The `Predicted` in the table's order; and what it says of the model, None if it doesn't.

    Raises:
        UsageError: it is something else, or lists a file twice.
    """
    rows = read_table(path)
    columns = next(rows, None)
    if columns is None and table_kind(path) == "jsonl":
        return [], None  # it has no header
    for name in ("FILE", "PREDICTION"):
        if name not in (columns or ()):
            raise UsageError(f"{path} needs the columns FILE and PREDICTION, as predictImages.py writes them.")
    places = {name: columns.index(name) for name in columns}
    ranked = [(label, places[f"PROBABILITY_{label}"]) for label in labels if f"PROBABILITY_{label}" in places]
    found, models = {}, set()
    for row in rows:
        name, category = row[places["FILE"]], row[places["PREDICTION"]]
        if name in found:
            raise UsageError(f"{path} lists {name} twice; a page needs a table with one line per image.")
        if not name or not category:
            raise UsageError(f"{path} has a line without a FILE or a PREDICTION.")
        if "\0" in unescape_name(name):
            raise UsageError(f"{path} lists {name}, which has a zero byte, as no file name can.")
        if "PREDICTION_2" in places:
            second, chance = row[places["PREDICTION_2"]], _number(path, row, places.get("PROBABILITY_2"))
        elif len(ranked) == len(labels) > 1:
            others = [(_number(path, row, place) or 0.0, label) for label, place in ranked if label != category]
            chance, second = max(others, key=lambda other: other[0])
        else:
            second, chance = "", None
        found[name] = Predicted(name, category, _number(path, row, places.get("PROBABILITY")), second, chance)
        if "MODEL" in places:
            models.add(row[places["MODEL"]])
    return list(found.values()), ", ".join(sorted(models)) or None


def _number(path, row, place):
    """A probability in a row; None where there is no such column."""
    if place is None or not row[place]:
        return None
    try:
        value = float(row[place])
        if 0 <= value <= 1:
            return value
    except ValueError:
        pass
    raise UsageError(f"{path} has the probability {row[place]!r}; it must be a number from 0 to 1.")


def labels_of_table(path, labels_file=None):
    """The labels of a table's categories: of a table of labels, of what is recorded beside it, else the 17."""
    if labels_file is not None:
        return list(read_labels(labels_file))
    recorded = settings_of(path)[0].get("the labels")
    if isinstance(recorded, list) and recorded and all(isinstance(label, str) for label in recorded):
        return recorded
    return list(LABELS)


def report_table(table, page, most=300, labels_file=None, max_pixels=MAX_PIXELS, processors=None, report=print):
    """Make a page of a table of predictions; its images are read again.

    Args:
        table: what `predictImages.py` wrote, or a table like it; its files are found from here.
        page: the `.html` file to write.
        most: of how many images of a category there are thumbnails: the least certain.
        labels_file: a table of labels; None for those that are recorded beside the table, else the 17.
        max_pixels: the largest picture that is decoded.
        processors: how many cores to use; None for all.
        report: called with each message for the user.

    Raises:
        UsageError: it is no such table.
    """
    labels = labels_of_table(table, labels_file)
    rows, model = read_predictions(table, labels)
    used = {row.category for row in rows}
    if labels_file is None and labels == list(LABELS) and not used <= set(LABELS):
        labels = []  # of a model of somebody's own, of which nothing is recorded
    labels = [*labels, *sorted((used | {row.second for row in rows if row.second}) - set(labels))]
    if rows and not any(row.second for row in rows):
        report(f"{table} has no runners-up; make it with --top 2 to show them in the page.")
    chosen = least_certain(rows, labels, most)
    shown = [row for label in labels for row in chosen[label]]
    pictures = iter(list(read_thumbnails([unescape_name(row.name) for row in shown], max_pixels, processors)))
    counts = dict.fromkeys(labels, 0)
    for row in rows:
        counts[row.category] += 1
    groups = [
        Group(label, counts[label], [_card(row, next(pictures), page) for row in chosen[label]]) for label in labels
    ]
    settings, versions = settings_of(table)
    folder = str(settings.get("-d/--data") or "")
    subject = Subject(
        f"Predictions for {folder.rstrip('/') or folder}" if folder else f"Predictions of {os.path.basename(table)}",
        _facts(table, model, settings, versions),
        labels,
        {category.label: category.name for category in CATEGORIES} if labels[: len(LABELS)] == list(LABELS) else {},
        identity=f"{model} {folder or os.path.abspath(table)}",
    )
    write_prediction_page(page, subject, groups, read_errors_table(f"{table}.errors.tsv").items())


def sort_table(table, folder, kind="link", report=print):
    """Sort the images of a table of predictions into folders; see `lib.prediction.sorting.sort_images`.

    Args:
        table: as of `report_table`.
        folder, kind: as of `sort_images`.
        report: called with each message for the user.
    """
    rows, _ = read_predictions(table)
    recorded = settings_of(table)[0].get("-d/--data")
    data = unescape_name(recorded) if isinstance(recorded, str) else None
    done = sort_images({row.name: row.category for row in rows}, folder, kind, data)
    words = {"link": "links", "copy": "copies", "hardlink": "hard links"}[kind]
    report(f"{done.made:,} new {words} in {folder}, {done.kept:,} unchanged, {done.removed:,} removed.")
    if done.missing:
        report(f"{len(done.missing):,} images no longer exist, such as {done.missing[0]}.")
    if done.left:
        report(f"{len(done.left):,} files were changed since and are kept, such as {done.left[0]}.")


def least_certain(rows, labels, most):
    """Of each category the `most` least certain images, those first whose probability is unknown: label -> rows."""
    found = {label: [] for label in labels}
    for row in rows:
        found[row.category].append(row)
    for label in labels:
        found[label].sort(key=lambda row: -1 if row.probability is None else row.probability)
        del found[label][most:]
    return found


def _card(row, picture, page):
    """The `Card` of a row whose thumbnail was read, or was not."""
    about = (row.name, row.category, row.probability, row.second, row.second_probability)
    if isinstance(picture, ImageError):
        return Card(*about, problem=str(picture))
    return Card(*about, picture=picture, link=link_to(row.name, page))


def _facts(table, model, settings, versions):
    """How a table was made, as pairs of text."""
    facts = [("Table", table)]
    if model or settings.get("-m/--model"):
        facts.append(("Model", model or str(settings["-m/--model"])))
    for name, value in settings.items():
        if name not in ("-m/--model", "the labels"):
            text = {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
            facts.append((name[:1].upper() + name[1:] if name.startswith("the") else name, str(text)))
    if versions:
        facts.append(("Packages", ", ".join(f"{name} {version}" for name, version in versions.items())))
    return facts
