"""A table of predictions in one line."""

import collections
import logging

from lib.storage.tables import read_table
from lib.system.words import counted

log = logging.getLogger(__name__)

_DOUBTFUL = 0.4  # a probability, below which the published model is right less than half of the time
_MOST_SHOWN = 20  # categories


def tell_outcome(path, images, errors):
    """Say what a table holds, and of how many images it was made, and how many could not be read."""
    rows, summary = summarise(path)
    if summary:
        log.info(summary)
    gone = rows - images
    listed = f"{counted(errors, 'error')}, listed in {path}.errors.tsv" if errors else "no errors"
    kept = f"; {counted(gone, 'row')} kept from a former call" if gone > 0 else ""
    log.info(f"{counted(images, 'image')} categorised, {listed}{kept}.")


def summarise(path):
    """How many images of a table are in each category, and how many are doubtful.

    Args:
        path: a table that predicting wrote.

    Returns:
        The number of its rows, and a line such as `744 images: 161 Ordinary, 98 Live; 33 % with a probability below
        40 %.`; empty for an empty table.
    """
    rows, counts, known, doubtful = read_table(path), collections.Counter(), 0, 0
    columns = next(rows, [])
    if not {"PREDICTION", "PROBABILITY"} <= set(columns):
        return 0, ""
    category, probability = columns.index("PREDICTION"), columns.index("PROBABILITY")
    for row in rows:
        counts[row[category]] += 1
        if row[probability]:  # a person's decisions have none
            known += 1
            doubtful += float(row[probability]) < _DOUBTFUL
    total = sum(counts.values())
    if not total:
        return 0, ""
    ranked = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    shown = [f"{count:,} {label}" for label, count in ranked[:_MOST_SHOWN]]
    others = ranked[_MOST_SHOWN:]
    if others:
        shown.append(f"{sum(count for _, count in others):,} in {counted(len(others), 'other category', 'others')}")
    share = f"; {100 * doubtful / known:.0f} % with a probability below {100 * _DOUBTFUL:.0f} %" if known else ""
    return total, f"{counted(total, 'image')}: {', '.join(shown)}{share}."
