"""A page, and folders of links, from a table of predictions."""

import collections
import itertools
import logging
import os
from typing import NamedTuple, Optional

from lib.data.categories import CATEGORIES, LABELS, canonical, read_labels
from lib.data.corrections import AUDIT, TEACH
from lib.data.images import ImageError, read_thumbnail
from lib.data.thumbnails import larger_count, make_thumbnails
from lib.display.pages import Card, Group, Subject, link_to, write_prediction_page
from lib.errors import UsageError, option
from lib.prediction.decisions import corrections_of, find_decisions
from lib.prediction.sorting import sort_images
from lib.prediction.teaching import draw, find_teaching
from lib.storage.files import checksum
from lib.storage.fingerprints import changed_files
from lib.storage.names import unescape_name
from lib.storage.tables import read_errors_table, read_table, settings_of, table_kind
from lib.system.words import counted

log = logging.getLogger(__name__)


_RIGHTS = ("LICENCE", "RIGHTSHOLDER")  # columns, as downloadImages.py writes them


class Predicted(NamedTuple):
    """A row of a table: the image's escaped name, its category and probability, the runner-up's, and its licence and
    the holder of its rights; None or empty where the table has no such column."""

    name: str
    category: str
    probability: Optional[float]
    second: str
    second_probability: Optional[float]
    rights: str = ""


def read_predictions(path, labels=()):
    """Read a table of predictions: `FILE PREDICTION`, perhaps `PROBABILITY`, and what more `predictImages.py` writes.

    Args:
        path: the table.
        labels: those whose probabilities may have columns, from which the runner-up is found if it has none.

    Returns:
        The `Predicted` in the table's order; and the models' names, None without a column `MODEL`.

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
    found, models, spellings = {}, set(), {canonical(label): label for label in labels}

    def spelled(category):
        return spellings.get(canonical(category), canonical(category))

    for row in rows:
        name, category = row[places["FILE"]], spelled(row[places["PREDICTION"]])
        if name in found:
            raise UsageError(f"{path} lists {name} twice; a page needs a table with one line per image.")
        if not name or not category:
            raise UsageError(f"{path} has a line without a FILE or a PREDICTION.")
        if "\0" in unescape_name(name):
            raise UsageError(f"{path} lists {name}, which has a zero byte, as no file name can.")
        if "PREDICTION_2" in places:
            second, chance = spelled(row[places["PREDICTION_2"]]), _number(path, row, places.get("PROBABILITY_2"))
        elif len(ranked) == len(labels) > 1:
            others = [(_number(path, row, place) or 0.0, label) for label, place in ranked if label != category]
            chance, second = max(others, key=lambda other: other[0])
        else:
            second, chance = "", None
        rights = " · ".join(filter(None, (row[places[column]] for column in _RIGHTS if column in places)))
        found[name] = Predicted(name, category, _number(path, row, places.get("PROBABILITY")), second, chance, rights)
        if "MODEL" in places:
            models.add(row[places["MODEL"]])
    return list(found.values()), ", ".join(sorted(models)) or None


def _number(path, row, place):
    """A probability in a row; None where there is no such column."""
    if place is None or not row[place]:
        return None
    try:
        value = float(row[place].replace(",", "."))  # as much of the world writes it
        if not 0 <= value <= 1:
            raise ValueError
    except ValueError:
        raise UsageError(f"{path} has the probability {row[place]!r}; it must be a number from 0 to 1.") from None
    return value


def labels_of_table(path, labels_file=None):
    """The labels of a table's categories: of a table of labels, else those recorded beside it, else the 17."""
    if labels_file is not None:
        return list(read_labels(labels_file))
    recorded = settings_of(path)[0].get("labels")
    if isinstance(recorded, list) and recorded and all(isinstance(label, str) for label in recorded):
        return recorded
    return list(LABELS)


def report_table(settings):
    """Make a page of a table of predictions; its images are read again.

    Args:
        settings: `Settings`, whose `table` predicting wrote, or one like it. Its files are found from the current
            directory.

    Raises:
        UsageError: it is no such table.
    """
    table, page = settings.table, settings.report
    labels = labels_of_table(table, settings.labels)
    rows, model = read_predictions(table, labels)
    corrections = corrections_of(settings)
    decided = corrections.decided
    answered = {row.category for row in rows if row.name not in decided}
    if settings.labels is None and labels == list(LABELS) and not answered <= set(LABELS):
        labels = []  # those of a model that nothing is recorded of
    rows = with_decisions(rows, decided)
    used = {row.category for row in rows} | {row.second for row in rows if row.second}
    labels = [*labels, *sorted(used - set(labels))]
    if rows and not any(row.second for row in rows):
        log.info(f"{table} has no runners-up; make it with {option('top')} 2 to show them in the page.")
    audited = _audited(rows, settings, corrections)
    chosen = least_certain(rows, labels, settings.report_images, frozenset([*audited, *decided]), decided)
    recorded, versions = settings_of(table)
    shown = [row for label in labels for row in chosen[label]]
    teaching, lacking = find_teaching(settings, shown, labels, audited, corrections)
    if lacking:
        log.info(f"The page can't learn from its reader: {lacking}.")
    cards = _cards(shown, audited, settings)
    counts = collections.Counter(row.category for row in rows)
    groups = [Group(label, counts[label], list(itertools.islice(cards, len(chosen[label])))) for label in labels]
    folder = str(recorded.get("data") or "")
    subject = Subject(
        f"Predictions for {folder.rstrip('/') or folder}" if folder else f"Predictions of {os.path.basename(table)}",
        _facts(table, model, recorded, versions),
        labels,
        {category.label: category.name for category in CATEGORIES} if labels[: len(LABELS)] == list(LABELS) else {},
        # Neither the table of another folder of the same name nor this one's former rows have this page's corrections.
        identity=f"{os.path.abspath(table)} {checksum(table)}",
    )
    errors = read_errors_table(f"{table}.errors.tsv").items()
    write_prediction_page(page, subject, groups, errors, teaching, lacking, _listed(corrections))


def _tell_changed(table, names):
    """The names of the files that changed since they were categorised; says how many they are."""
    changed = changed_files(table, names)
    if changed:
        those = f"{counted(len(changed), 'image')} changed since {table} was made, such as {min(changed)}"
        log.info(f"{those}; run the prediction again.")
    return changed


def _audited(rows, settings, corrections):
    """The names of the images to measure with: those that were used for that, and others that are drawn."""
    if not os.path.isfile(settings.features):
        return []
    names = [row.name for row in rows]
    known = corrections.audited.keys() & set(names)
    return [*known, *(name for name in draw(names, settings.audit) if name not in corrections.decided)]


def _listed(corrections):
    parts = ((TEACH, corrections.taught), (AUDIT, corrections.audited))
    return [(name, category, role) for role, part in parts for name, category in part.items()]


def sort_table(settings):
    """Sort the images of `settings.table` into folders; see `sort_images`."""
    kind = "copy" if settings.copy else "hardlink" if settings.hardlink else "link"
    rows, _ = read_predictions(settings.table)
    # If this call has made the table, mistyped categories have been told.
    labels = labels_of_table(settings.table, settings.labels) if settings.report_from else ()
    rows = with_decisions(rows, find_decisions(settings, labels) or {})
    _tell_changed(settings.table, [row.name for row in rows])
    recorded = settings_of(settings.table)[0].get("data")
    data = unescape_name(recorded) if isinstance(recorded, str) else None
    done = sort_images({row.name: row.category for row in rows}, settings.sort, kind, data)
    words = {"link": ("new link",), "copy": ("new copy", "new copies"), "hardlink": ("new hard link",)}[kind]
    log.info(
        f"{counted(done.made, *words)} in {settings.sort}, {done.unchanged:,} unchanged, {done.removed:,} removed."
    )
    if done.missing:
        exist = "exists" if len(done.missing) == 1 else "exist"
        log.info(f"{counted(len(done.missing), 'image')} no longer {exist}, such as {done.missing[0]}.")
    if done.left:
        stay = "was changed since and stays" if len(done.left) == 1 else "were changed since and stay"
        log.info(f"{counted(len(done.left), 'file')} {stay}, such as {done.left[0]}.")


def with_decisions(rows, decided):
    """The `Predicted` rows with a person's decisions, name -> category, in place of the model's answers."""

    def changed(row):
        category = decided.get(row.name, row.category)
        if category == row.category:
            return row
        found = {"category": category, "probability": None}
        return row._replace(**found, second=row.category, second_probability=row.probability)

    return list(map(changed, rows))


def least_certain(rows, labels, most, always=frozenset(), decided=()):
    """Of each category the `most` least certain images, those first whose probability is unknown: label -> rows.

    Those whose names are in `always` come on top; those that a person decided about, `decided`, are certain.
    """
    found = {label: [] for label in labels}
    for row in rows:
        found[row.category].append(row)
    for label in labels:
        found[label].sort(key=lambda row: (row.name in decided, -1 if row.probability is None else row.probability))
        some = [row for row in found[label] if row.name not in always][:most]
        kept = always.union(row.name for row in some)
        found[label] = [row for row in found[label] if row.name in kept]
    return found


def _cards(rows, audited, settings):
    """Yield the `Card` of each row. The images that a person is asked about first have a larger picture, too."""
    changed = _tell_changed(settings.table, [row.name for row in rows])

    def read(name, side):
        if name in changed:
            raise ImageError("the file changed since it was categorised")
        return read_thumbnail(unescape_name(name), side, settings.max_pixels)

    def margin(place):
        row = rows[place]
        return -1 if row.probability is None else row.probability - (row.second_probability or 0)

    audited = frozenset(audited)
    order = sorted(range(len(rows)), key=lambda place: (rows[place].name not in audited, margin(place)))
    names = [row.name for row in rows]
    larger = order[: larger_count(len(order))]
    for row, pictures in zip(rows, make_thumbnails(names, read, settings.processors, larger)):
        *about, rights = row
        if isinstance(pictures, ImageError):
            yield Card(*about, problem=str(pictures), rights=rights)
        else:
            link = link_to(row.name, settings.report)
            yield Card(*about, pictures.small, link=link, larger=pictures.larger, rights=rights)


# The names of the settings recorded beside a table, for people.
_WORDS = {
    "model_sha256": "The model's SHA-256",
    "data": "Folder",
    "list_file": "List",
    "exclude": "Excluded",
    "exact": "The published pipeline's pixels",
    "top": "Categories of an image",
    "probabilities": "Probabilities of all categories",
    "ridge": "Ridge of what was learnt",
    "shard": "Part",
    "listed": "The list",
}


def _facts(table, model, settings, versions):
    """How a table was made, as pairs of text."""
    facts = [("Table", table)]
    if model or settings.get("model"):
        facts.append(("Model", model or str(settings["model"])))
    for name, value in settings.items():
        if name not in ("model", "labels", "joined"):
            text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
            facts.append((_WORDS.get(name, name), text))
    if versions:
        facts.append(("Packages", ", ".join(f"{name} {version}" for name, version in versions.items())))
    return facts
