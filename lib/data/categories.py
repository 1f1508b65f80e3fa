"""The 17 categories of the published models, and labels of other categories."""

import functools
import re
import unicodedata
from typing import NamedTuple

from lib.errors import UsageError
from lib.storage.files import whole_file
from lib.storage.formats import read_named_rows
from lib.storage.names import escape_name
from lib.storage.untrusted import is_whole_number

_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")


class Category(NamedTuple):
    """A category: the model's output (0-based), the short label that predictions print, the full name."""

    index: int
    label: str
    name: str


_NAMES = {
    "Animal": "Animal specimens",
    "Biocultural": "Biocultural specimens",
    "Corrupted": "Corrupted images",
    "Fragmentary": "Fragmentary pressed specimens",
    "Color": "Illustrations color",
    "Grayscale": "Illustrations gray",
    "Live": "Live plants",
    "EM": "Micrographs electron",
    "RLM": "Micrographs reflected light",
    "TLM": "Micrographs transmission light",
    "Slide": "Microscope slides",
    "Mixed": "Mixed pressed specimens",
    "Occluded": "Occluded specimens",
    "Ordinary": "Ordinary pressed specimens",
    "Reproduction": "Specimen reproductions",
    "Text": "Text focused",
    "Unpressed": "Unpressed specimens",
}
CATEGORIES = tuple(Category(index, label, name) for index, (label, name) in enumerate(_NAMES.items()))
LABELS = tuple(_NAMES)


def read_labels(path):
    """Read the labels of a model's outputs from a table.

    Args:
        path: a TSV file in UTF-8 with a header that names the columns `INDEX` (0-based) and `LABEL`, others ignored.

    Returns:
        The labels in the order of the outputs.

    Raises:
        UsageError: no such file or columns, no text, or indices that don't run from 0 without gaps or repeats.
    """
    return tuple(category.label for category in _read(path))


def _read(path):
    columns, rows = read_named_rows(path, ("INDEX", "LABEL"), "INDEX and LABEL, separated by tabs")
    found = {}
    for line, row in rows:
        index, label = row.get("INDEX", "").strip(), canonical(row.get("LABEL", ""))
        if not is_whole_number(index) or not label:
            raise UsageError(f"{path} line {line} needs a whole number as INDEX and a LABEL.")
        if int(index) in found:
            raise UsageError(f"{path} line {line} repeats the INDEX {index}.")
        name = canonical(row.get("CATEGORY", "")) if "CATEGORY" in columns else label
        found[int(index)] = Category(int(index), label, name)
    if sorted(found) != list(range(len(found))) or not found:
        raise UsageError(f"{path} needs every INDEX from 0 to one less than the number of categories.")
    labels = {}
    for category in found.values():
        other = labels.setdefault(category.label, category)
        if other is not category:
            both = f"the INDEX {other.index} and {category.index}"
            raise UsageError(f"{path} gives two categories the same LABEL, {category.label}: {both}.")
    return tuple(found[index] for index in range(len(found)))


@functools.lru_cache(maxsize=4096)
def canonical(text):
    """A category's name in the one spelling of all that look like it: composed accents, single blanks of one kind,
    none around it, and no invisible characters.
    """
    return " ".join(unicodedata.normalize("NFC", _INVISIBLE.sub("", text)).split())


def check_category(text, named):
    """Raise UsageError if a CATEGORY has characters that aren't text; `named` is its row's name in the message."""
    if text != escape_name(text).replace("\\\\", "\\"):
        raise UsageError(f"{named} has a CATEGORY with characters that aren't text.")


def read_categories(path):
    """Read a table of categories as `write_categories` writes it.

    Args:
        path: a TSV file as of `read_labels`; a further column `CATEGORY` has the names, the labels by default.

    Returns:
        A tuple of `Category`.

    Raises:
        UsageError: as of `read_labels`, or a name twice.
    """
    categories = _read(path)
    if len({category.name for category in categories} - {""}) < len(categories):
        raise UsageError(f"{path} needs a different CATEGORY on each line.")
    return categories


def write_categories(path, categories):
    """Write a table `CATEGORY INDEX LABEL`, which appears whole or not at all."""
    with whole_file(path) as file:
        file.write("CATEGORY\tINDEX\tLABEL\n")
        for category in categories:
            file.write(f"{category.name}\t{category.index}\t{category.label}\n")


def find_category(text, categories):
    """The category with a name or label or, of the 17, with the same words in any order.

    So `color_illustration` is the category `Illustrations color`. Other categories, whose names and labels have to be
    canonical, have to be written alike, see `canonical`: a hybrid may differ from a species by one character.

    Returns:
        A `Category`; None if there is none.
    """
    wanted = canonical(text)
    for category in categories:
        if wanted in (category.name, category.label):
            return category
    if categories != CATEGORIES or not _words(text):
        return None
    meant = [one for one in categories if _words(text) in (_words(one.name), _words(one.label))]
    return meant[0] if len(meant) == 1 else None


def _words(text):
    """The words of a name in lower case and in the singular."""
    return frozenset(word[:-1] if word.endswith("s") else word for word in re.findall(r"[^\W_]+", text.lower()))
