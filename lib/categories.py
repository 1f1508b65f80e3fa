"""The 17 categories of the published models, and the labels of anybody else's."""

from typing import NamedTuple

from lib.errors import UsageError


class Category(NamedTuple):
    """A category: the model's output (0-based), the short label that predictions print, the full name."""

    index: int
    label: str
    name: str


CATEGORIES = tuple(
    Category(index, label, name)
    for index, (label, name) in enumerate(
        (
            ("Animal", "Animal specimens"),
            ("Biocultural", "Biocultural specimens"),
            ("Corrupted", "Corrupted images"),
            ("Fragmentary", "Fragmentary pressed specimens"),
            ("Color", "Illustrations color"),
            ("Grayscale", "Illustrations gray"),
            ("Live", "Live plants"),
            ("EM", "Micrographs electron"),
            ("RLM", "Micrographs reflected light"),
            ("TLM", "Micrographs transmission light"),
            ("Slide", "Microscope slides"),
            ("Mixed", "Mixed pressed specimens"),
            ("Occluded", "Occluded specimens"),
            ("Ordinary", "Ordinary pressed specimens"),
            ("Reproduction", "Specimen reproductions"),
            ("Text", "Text focused"),
            ("Unpressed", "Unpressed specimens"),
        )
    )
)

LABELS = tuple(category.label for category in CATEGORIES)


def read_labels(path):
    """Read the labels of a model's outputs from a table.

    Args:
        path: a TSV file in UTF-8 with a header that names the columns `INDEX` (0-based) and `LABEL`, others ignored.

    Returns:
        The labels in the order of the outputs.

    Raises:
        UsageError: no such file or columns, no text, or indices that don't run from 0 without gaps or repeats.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            rows = [line.rstrip("\r\n").split("\t") for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} can't be read as a table of labels ({error}).") from error
    if not rows or "INDEX" not in rows[0] or "LABEL" not in rows[0]:
        raise UsageError(f"{path} needs a header with the columns INDEX and LABEL, separated by tabs.")
    index, label = rows[0].index("INDEX"), rows[0].index("LABEL")
    labels = {}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) <= max(index, label) or not (row[index].isascii() and row[index].isdecimal()) or not row[label]:
            raise UsageError(f"{path} line {number} needs a whole number as INDEX and a LABEL.")
        if int(row[index]) in labels:
            raise UsageError(f"{path} line {number} repeats the INDEX {row[index]}.")
        labels[int(row[index])] = row[label]
    if sorted(labels) != list(range(len(labels))) or not labels:
        raise UsageError(f"{path} needs each INDEX from 0 to one less than the number of categories.")
    if len(set(labels.values())) < len(labels):
        raise UsageError(f"{path} gives one LABEL to two categories.")
    return tuple(labels[index] for index in range(len(labels)))
