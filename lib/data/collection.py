"""The labelled image files in a folder or a table, and their categories."""

import contextlib
import logging
import os
import unicodedata
from typing import NamedTuple

from lib.data.categories import CATEGORIES, Category, canonical, check_category, find_category, read_categories
from lib.data.corrections import AUDIT, role_of
from lib.data.left_out import LeftOut
from lib.data.list_files import find_named
from lib.data.listing import list_images
from lib.data.splits import SPLITS, UNUSED
from lib.errors import UsageError, concerning, option
from lib.storage.decisions import PERSON, SOURCE
from lib.storage.formats import check_columns, read_named_rows
from lib.storage.names import escape_name, unescape_name
from lib.system.words import counted

log = logging.getLogger(__name__)


# What people take for each other, or type for each other: Cyrillic and Greek letters, dashes, quotes, hybrids' crosses.
_LOOK_LIKE = str.maketrans("аеорсухіјѕһԁοναι×‐‑–—−_’‘", "aeopcyxijshdovaix----- ''")


class Item(NamedTuple):
    """A labelled image file.

    Attributes:
        path: where it is.
        category: as text.
        name: its FILE in the table or its path in the folder, which decides its place in the records.
        group: the group that it belongs to, "" for none.
        split: the index in `SPLITS` of the split that it is assigned to, `UNUSED` for none.
        audited: whether a person looked at it to measure a model, so that no model may learn from it.
    """

    path: str
    category: str
    name: str
    group: str = ""
    split: int = UNUSED
    audited: bool = False


def items_of_folder(directory, exclude=None):
    """The images of a folder that has a subfolder for each category.

    What is left out, and subfolders without images, are said in a line each.

    Args:
        directory: the folder.
        exclude: of `LeftOut`.

    Returns:
        `Item`s sorted by path, and a dictionary of files that can't be used: path -> reason.

    Raises:
        UsageError: no subfolder has an image.
    """
    left_out = LeftOut(exclude)
    items, errors = _list_items(directory, left_out)
    without = _without_images(directory, {item.name.partition(os.sep)[0] for item in items}, exclude)
    if not items:
        found = f": {without}" if without else ""
        raise UsageError(f"{directory} has no subfolders with images, one per category{found}.", "data")
    left_out.tell()
    if without:
        log.info(f"folders without images, which make no category: {without}.")
    return _sorted(_of_one_spelling(items)), errors


def categories_of_folder(directory):
    """The categories of `items_of_folder`, a set, whether their images can be read or not; says nothing."""
    return {canonical(item.category) for item in _list_items(directory)[0]}


def _list_items(directory, left_out=None):
    """The `Item`s of a folder's subfolders, and the images that lie in none, path -> reason."""
    items, (paths, errors) = [], list_images(directory, left_out)
    for path in paths:
        name = os.path.relpath(path, directory)
        category, below, _ = name.partition(os.sep)
        if below:
            items.append(Item(path, escape_name(category), name))
        else:
            errors[path] = "it lies in no category's folder"
    return items, errors


def _without_images(directory, folders, exclude):
    """The subfolders that make no category, and what they have, as text."""
    found, own = [], LeftOut(exclude)
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        with contextlib.suppress(OSError):  # of a link to itself
            if entry.name not in folders and entry.is_dir() and not own.leave_out(os.fsencode(entry.name), b""):
                inside = LeftOut(exclude)
                list_images(entry.path, inside)
                found.append(f"{escape_name(entry.name)} ({str(inside) or 'empty'})")
    return ", ".join(found)


def _of_one_spelling(items):
    """The items, in whose categories spellings that look alike are one; says which they were."""
    spellings = {}
    for item in items:
        spellings.setdefault(canonical(item.category), set()).add(item.category)
    for name, several in sorted(spellings.items()):
        if len(several) > 1:
            log.info(f"spellings of one category, {name}: {', '.join(map(ascii, sorted(several)))}.")
    similar = {}
    for name in sorted(spellings):
        other = similar.setdefault(unicodedata.normalize("NFKC", name).casefold().translate(_LOOK_LIKE), name)
        if other != name:
            log.info(f"two categories that differ in little: {other!a} and {name!a}.")
    return [item._replace(category=canonical(item.category)) for item in items]


def items_of_table(path):
    """The images that a table lists: columns `FILE CATEGORY` and perhaps `GROUP`, `SPLIT` and `ROLE`.

    The audited ones, by their ROLE, are for the test. Of a table of predictions with a person's decisions, `FILE
    PREDICTION SOURCE`, the rows with decisions are taken; of one to which a CATEGORY was joined, those that have one.
    Images of one occurrence (`GBIFID`) are a group where there is no GROUP.

    Returns:
        `Item`s sorted by path.

    Raises:
        UsageError: it is something else, or lists a file twice.
    """
    with concerning("table"):
        columns, rows = read_named_rows(path)
        predicted = "PREDICTION" in columns
        if predicted and "FILE" in columns and "CATEGORY" not in columns:
            rows, predicted = _decided_rows(path, rows), False
        else:
            check_columns(path, columns, ("FILE", "CATEGORY"), "FILE and CATEGORY, separated by tabs")
        items, count = {}, 0
        for count, (line, row) in enumerate(rows, start=1):  # noqa: B007 - for the message
            if predicted and not row.get("CATEGORY"):
                continue
            item = _item_of_row(row, f"{path} line {line}")
            if item.path in items:
                raise UsageError(f"{path} line {line} repeats the FILE {item.path}.")
            items[item.path] = item
        if not items:
            raise UsageError(f"{path} lists no files.")
        if len(items) < count:
            log.info(f"{path}: {count - len(items):,} of {count:,} images have no CATEGORY and are left out.")
    return _sorted(_of_one_spelling(items.values()))


def _decided_rows(path, rows):
    """Of a table of predictions the rows that a person decided about, with the answer as their CATEGORY."""
    decided, count = [], 0
    for count, (line, row) in enumerate(rows, start=1):  # noqa: B007 - for the message
        if row.get(SOURCE) == PERSON:
            decided.append((line, {**row, "CATEGORY": row.get("PREDICTION", "")}))
    if not decided:
        cure = "look at images in its page, and give the corrections.tsv that it saves"
        raise UsageError(f"{path} has only a model's answers, from which a model can't learn; {cure}.")
    log.info(f"{counted(count - len(decided), 'image')} that only a model has answered are left out.")
    return decided


def _item_of_row(row, named):
    """The `Item` of a row, a dictionary; `named` is its name in messages."""
    name = os.fsdecode(find_named(os.fsencode(unescape_name(row.get("FILE", "")))))
    category, split = row.get("CATEGORY", ""), row.get("SPLIT", "").strip()
    if not name or not canonical(category):
        raise UsageError(f"{named} needs a FILE and a CATEGORY.")
    check_category(category, named)
    if split and split not in SPLITS:
        raise UsageError(f"{named} has the SPLIT {split!r}; it must be one of {', '.join(SPLITS)}.")
    audited = role_of(row, named) == AUDIT
    if audited and split not in ("", "test"):
        raise UsageError(f"{named} is audited, so that its SPLIT can only be test.")
    split = "test" if audited else split
    group = canonical(row.get("GROUP") or row.get("GBIFID", ""))
    return Item(name, category, name, group, SPLITS.index(split) if split else UNUSED, audited)


def _sorted(items):
    return sorted(items, key=lambda item: os.fsencode(item.path))


def given_categories(path, herbariograph=False):
    """The categories that records have to have: those of a table, if it exists, or the 17 published ones; else None.

    Raises:
        UsageError: `herbariograph`, but the table has others.
    """
    if not os.path.exists(path):
        return CATEGORIES if herbariograph else None
    categories = read_categories(path)
    log.info(f"Using the categories in {path}.")
    if herbariograph and categories != CATEGORIES:
        raise UsageError(
            f"{path} has other categories; remove it, or choose another {option('output')}.", "herbariograph"
        )
    return categories


def number_categories(items, given, path):
    """The categories of a collection.

    Args:
        items: `Item`s.
        given: of `given_categories`.
        path: the table that they come from, for messages.

    Returns:
        A tuple of `Category`, and a dictionary from their names in `items` to their indices.

    Raises:
        UsageError: an item's category is not among the given ones.
    """
    names = sorted({item.category for item in items})
    categories, found = given, {}
    if given is None:
        categories = tuple(Category(index, name, name) for index, name in enumerate(names))
    for name in names:
        category = find_category(name, categories)
        if category is None:
            source = f"categories in {path}" if os.path.exists(path) else "17 published categories"
            raise UsageError(f"{name!r} is not one of the {source}; rename it, or add it there.")
        found[name] = category.index
    return categories, found
