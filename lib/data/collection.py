"""The labelled image files in a folder or a table, and their categories."""

import logging
import os
from typing import NamedTuple

from lib.data.categories import CATEGORIES, Category, find_category, read_categories
from lib.data.listing import list_images
from lib.data.splits import SPLITS, UNUSED
from lib.errors import UsageError, concerning, option
from lib.storage.formats import read_rows
from lib.storage.names import escape_name, unescape_name

log = logging.getLogger(__name__)


class Item(NamedTuple):
    """A labelled image file.

    Attributes:
        path: where it is.
        category: as text.
        name: its FILE in the table or its path in the folder, which decides its place in the records.
        group: the group that it belongs to, "" for none.
        split: the index in `SPLITS` of the split that it is assigned to, `UNUSED` for none.
    """

    path: str
    category: str
    name: str
    group: str = ""
    split: int = UNUSED


def items_of_folder(directory):
    """The images of a folder that has a subfolder for each category.

    Returns:
        `Item`s sorted by path, and a dictionary of files that can't be used: path -> reason.

    Raises:
        UsageError: no subfolder has an image.
    """
    items, (paths, errors) = [], list_images(directory)
    for path in paths:
        name = os.path.relpath(path, directory)
        category, below, _ = name.partition(os.sep)
        if below:
            items.append(Item(path, escape_name(category), name))
        else:
            errors[path] = "it lies in no category's folder"
    if not items:
        raise UsageError(f"{directory} has no subfolders with images, one per category.", "data")
    return _sorted(items), errors


def items_of_table(path):
    """The images that a table lists: columns `FILE CATEGORY`, as of predictions, and perhaps `GROUP` and `SPLIT`.

    Returns:
        `Item`s sorted by path.

    Raises:
        UsageError: it is something else, or lists a file twice.
    """
    with concerning("table"):
        (_, header), *rows = list(read_rows(path)) or [(1, ())]
        if "FILE" not in header or "CATEGORY" not in header:
            raise UsageError(f"{path} needs a header with the columns FILE and CATEGORY, separated by tabs.")
        items = {}
        for line, values in rows:
            item = _item_of_row(dict(zip(header, values)), f"{path} line {line}")
            if item.path in items:
                raise UsageError(f"{path} line {line} repeats the FILE {item.path}.")
            items[item.path] = item
        if not items:
            raise UsageError(f"{path} lists no files.")
    return _sorted(items.values())


def _item_of_row(row, named):
    """The `Item` of a row, a dictionary; `named` is its name in messages."""
    name, category, split = unescape_name(row.get("FILE", "")), row.get("CATEGORY"), row.get("SPLIT", "")
    if not name or not category:
        raise UsageError(f"{named} needs a FILE and a CATEGORY.")
    if category != escape_name(category).replace("\\\\", "\\"):
        raise UsageError(f"{named} has a CATEGORY with characters that aren't text.")
    if split and split not in SPLITS:
        raise UsageError(f"{named} has the SPLIT {split!r}; it must be one of {', '.join(SPLITS)}.")
    return Item(name, category, name, row.get("GROUP", ""), SPLITS.index(split) if split else UNUSED)


def _sorted(items):
    return sorted(items, key=lambda item: os.fsencode(item.path))


def find_categories(items, path, herbariograph=False):
    """The categories of a collection.

    Args:
        items: `Item`s.
        path: a table of categories, used if it exists.
        herbariograph: use the 17 published ones.

    Returns:
        A tuple of `Category`, and a dictionary from their names in `items` to their indices.

    Raises:
        UsageError: an item's category is not among the given ones.
    """
    names = sorted({item.category for item in items})
    if os.path.exists(path):
        categories = read_categories(path)
        log.info(f"Using the categories in {path}.")
        if herbariograph and categories != CATEGORIES:
            raise UsageError(
                f"{path} has other categories; remove it, or choose another {option('output')}.", "herbariograph"
            )
    elif herbariograph:
        categories = CATEGORIES
    else:
        categories = tuple(Category(index, name, name) for index, name in enumerate(names))
    found = {}
    for name in names:
        category = find_category(name, categories)
        if category is None:
            source = f"categories in {path}" if os.path.exists(path) else "17 published categories"
            raise UsageError(f"{name!r} is not one of the {source}; rename it, or add it there.")
        found[name] = category.index
    return categories, found
