"""What the numbers of records and the outputs of models stand for: categories, which travel along with both.

Records made here have a table beside them, `PREFIX-categories.tsv`; a trained model and a soup have theirs beside them,
too, `categories.tsv`, and where several models of different categories lie in one folder, `NAME-categories.tsv`.
"""

import os
import re

from lib.data.categories import CATEGORIES, Category, read_categories, read_labels, write_categories
from lib.errors import UsageError, concerning, option
from lib.models.published import is_published

TABLE = "categories.tsv"  # of the categories, beside a model
_RECORDS = re.compile(r"(.+)-(?:train|validation|test)(?:-\d{5}-of-\d{5})?\.tfr")
_PUBLISHED_RECORDS = re.compile(r"herbariograph-\d+")  # how names of the published data set begin, which has no table


def categories_of_records(settings, *names):
    """What the numbers of records stand for, as far as tables beside them say.

    Args:
        settings: with `categories`, their number, perhaps `number_map`, and the settings that name record files.
        names: of these settings.

    Returns:
        A tuple of `Category`; None if there is no table, or the number map leaves numbers without one.

    Raises:
        UsageError: the tables differ, or have another number of categories than `categories`.
    """
    found, source = None, None
    for name in names:
        for path in getattr(settings, name):
            with concerning(name):
                categories, table = _beside_records(path)
                if found and categories:
                    check_same(found, source, categories, table)
            found, source = found or categories, source or table
    number_map = getattr(settings, "number_map", None)
    if found is None:
        return None
    if number_map is not None:
        return _renumbered(found, number_map, settings.categories)
    if len(found) != settings.categories:
        raise UsageError(f"{source} lists {len(found)} categories, not {settings.categories}.", "categories")
    return found


def _beside_records(path):
    """The categories of a record file and their source, None if unknown."""
    match = _RECORDS.fullmatch(path)
    if match and os.path.isfile(f"{match[1]}-{TABLE}"):
        return read_categories(f"{match[1]}-{TABLE}"), f"{match[1]}-{TABLE}"
    if match and _PUBLISHED_RECORDS.fullmatch(os.path.basename(match[1])):
        return CATEGORIES, "the published data set"
    return None, None


def _renumbered(categories, path, count):
    """Categories after a number map; several of one new number are joined. None if a number has none."""
    from lib.data.records import read_number_map

    mapping, found = read_number_map(path), []
    for index in range(count):
        joined = [each for each in categories if mapping.get(each.index) == index]
        if not joined:
            return None
        label, name = (" + ".join(getattr(each, kind) for each in joined) for kind in ("label", "name"))
        found.append(Category(index, label, name))
    return tuple(found)


def check_same(categories, source, others, other):
    """Raise UsageError if two sources of categories, named `source` and `other`, contradict each other."""
    if len(categories) != len(others):
        raise UsageError(f"{other} has {len(others)} categories where {source} has {len(categories)}.")
    for one, two in zip(categories, others):
        if one.name != two.name and one.label != two.label:
            raise UsageError(f"{other} has the category {two.label!r} as number {two.index}, {source} {one.label!r}.")


def table_of_model(path, own=False):
    """The path of the table of a model's categories: its own if it has or is to have (`own`) one, else its folder's."""
    table = f"{os.path.splitext(path)[0]}-{TABLE}"
    return table if own or os.path.isfile(table) else os.path.join(os.path.dirname(path), TABLE)


def categories_of_model(path, count):
    """What the outputs of a model stand for.

    Args:
        path: its file.
        count: how many outputs it has.

    Returns:
        A tuple of `Category` and their source: the table beside it, else the published ones if it is a published model;
        None and None if unknown.

    Raises:
        UsageError: the table can't be read.
    """
    table = table_of_model(path)
    if os.path.isfile(table):
        found = read_categories(table)
        if len(found) == count:  # else it is of another model in this directory
            return found, table
    elif count == len(CATEGORIES) and is_published(path):
        return CATEGORIES, "the published model"
    return None, None


def labels_of_outputs(settings, records):
    """The labels of a model's outputs that its answers to records are shown with.

    Args:
        settings: with `model`, `categories`, their number, `labels`, a table or None, and record files.
        records: the name of the setting for these.

    Returns:
        The labels: of the table, else of the model's categories, else of the records', else `category 0` and so on.

    Raises:
        UsageError: the table can't be read, has another number of labels, or the model's categories are not those of
            the records.
    """
    recorded = categories_of_records(settings, records)
    known, source = categories_of_model(settings.model, settings.categories)
    if recorded and known and getattr(settings, "number_map", None) is None:
        with concerning(records):
            check_same(known, source, recorded, "the table beside the records")
    if settings.labels:
        with concerning("labels"):
            labels = read_labels(settings.labels)
            if len(labels) != settings.categories:
                raise UsageError(f"{settings.labels} has {len(labels)} labels, but {settings.categories} are needed.")
        return labels
    return labels_or_neutral(known or recorded, settings.categories)


def labels_or_neutral(categories, count):
    """The labels of the outputs: those of categories, or `neutral_labels` where these are None."""
    return tuple(each.label for each in categories or ()) or neutral_labels(count)


def neutral_labels(count):
    """The labels of outputs of which nothing is known."""
    return tuple(f"category {index}" for index in range(count))


def unknown_outputs(path, count):
    """The message about a model whose outputs have `neutral_labels`."""
    return f"{path} doesn't say what its {count} outputs are; put its {TABLE} beside it, or pass {option('labels')}."


def write_beside_model(path, categories):
    """Write the table of categories beside a model, unless there is one, whose labels may have been changed.

    Args:
        path: the model's file.
        categories: a tuple of `Category`; None writes none.
    """
    table = table_of_model(path)
    if categories is not None and not os.path.isfile(table):
        write_categories(table, categories)
