"""Dividing labelled images into train, validation and test, so that what belongs together stays together."""

import collections
import hashlib

import numpy as np

from lib.errors import UsageError

SPLITS = ("train", "validation", "test")
UNUSED = -1


def shuffled(names, seed):
    """Indices of names in an order that follows from the seed and each name alone, on every machine."""
    keys = [hashlib.blake2b(f"{seed} ".encode() + name, digest_size=16).digest() for name in names]
    return sorted(range(len(names)), key=keys.__getitem__)


def straddling(groups, wanted):
    """The first images, as a pair of indices, that are of one group but given to different splits; None if all is well.

    Args:
        groups: int `(images,)`: a number for each, the same for those that belong together.
        wanted: int `(images,)`: the split that is given for an image, `UNUSED` where none is.
    """
    first = {}
    for index in np.flatnonzero(np.asarray(wanted) != UNUSED).tolist():
        other = first.setdefault(int(groups[index]), index)
        if wanted[other] != wanted[index]:
            return other, index
    return None


def split(categories, groups, wanted, per_class, order, names):
    """Choose each image's split. A group is in one split only; each category is divided as `per_class` says.

    Groups for which a split is given come first, then the larger ones; each goes where it fits and most is missing.
    A group may have more members than are needed; unless all are to be used, those left over are not.

    Args:
        categories: int `(images,)`: the category of each, from 0.
        groups: int `(images,)`: a number for each, the same for those that belong together.
        wanted: int `(images,)`: the split that is given for an image, `UNUSED` where none is; the same in a group.
        per_class: a `lib.data.per_class.PerClass`.
        order: all indices, shuffled; it decides among groups of the same size, and which members are left over.
        names: the categories' names, for messages.

    Returns:
        int64 `(images,)`: an index into `SPLITS`, or `UNUSED`.

    Raises:
        UsageError: a category that has any images has too few for the counts.
    """
    categories = np.asarray(categories)
    members, given = {}, {}
    for index in order:
        group = int(groups[index])
        members.setdefault(group, []).append(index)
        if wanted[index] != UNUSED:
            given[group] = int(wanted[index])
    goals = _goals(np.bincount(categories, minlength=len(names)), per_class)
    missing = goals.tolist()
    use_all = per_class.shares is not None and sum(per_class.shares) > 1 - 1e-9
    result = np.full(len(categories), UNUSED)
    for group in sorted(members, key=lambda group: (group not in given, -len(members[group]))):
        counts = collections.Counter(categories[members[group]].tolist())
        place = given.get(group)
        if place is None:
            place = _best_place(counts, missing, goals)
        for index in members[group]:
            rest = missing[categories[index]]
            if group in given or use_all or rest[place] > 0:
                result[index] = place
                rest[place] -= 1
    if per_class.counts and len(given) < len(members):
        _check_counts(result, categories, goals, names)
    return result


def _goals(there, per_class):
    """How many images each split is to have of each category, of which so many are there: int `(categories, 3)`."""
    if per_class.counts:
        return np.tile(np.array(per_class.counts), (len(there), 1))
    exact = there[:, None] * np.array(per_class.shares)
    goals = np.floor(exact + 1e-9).astype(int)
    left = np.round(exact.sum(axis=1)).astype(int) - goals.sum(axis=1)
    for category in np.flatnonzero(there):
        for place in np.argsort(goals[category] - exact[category], kind="stable")[: left[category]]:
            goals[category, place] += 1  # where rounding took most
        for place in np.flatnonzero((exact[category] > 0) & (goals[category] == 0)):
            if goals[category].max() > 1:  # what is asked for is not empty, as far as there is something
                goals[category, np.argmax(goals[category])] -= 1
                goals[category, place] = 1
    return goals


def _best_place(counts, missing, goals):
    """The split for a group that has `counts` images of some categories."""

    def worth(place):
        asked = any(goals[category][place] for category in counts)
        useful = any(missing[category][place] > 0 for category in counts)
        fits = all(missing[category][place] >= count for category, count in counts.items())
        share = sum(missing[category][place] / max(goals[category][place], 1) for category in counts)
        return asked, useful, fits, share

    return max(range(len(SPLITS)), key=worth)


def _check_counts(result, categories, goals, names):
    for category, label in enumerate(names):
        there = int((categories == category).sum())
        got = np.bincount(result[(categories == category) & (result != UNUSED)], minlength=len(SPLITS))
        for place in np.flatnonzero(got < goals[category]) if there else ():
            raise UsageError(
                f"--per-class: {label} has {there:,} images, of which only {got[place]:,} can go to {SPLITS[place]} "
                f"without dividing near-duplicates, not {goals[category, place]:,}; use smaller counts or more images."
            )
