"""Dividing labelled images into train, validation and test, so that what belongs together stays together."""

import collections
import hashlib
from typing import NamedTuple, Optional, Tuple

import numpy as np

from lib.errors import UsageError

SPLITS = ("train", "validation", "test")
UNUSED = -1


class PerClass(NamedTuple):
    """How many images of each category go into train, validation and test.

    Attributes:
        counts: how many of each category, the same for all; None for shares.
        shares: fractions of the images of each category; None for counts.
    """

    counts: Optional[Tuple[int, int, int]] = None
    shares: Optional[Tuple[float, float, float]] = None


def parse_per_class(text):
    """Counts such as `10240:1024:1024` or shares such as `0.8:0.1:0.1` -> a `PerClass`.

    Raises:
        UsageError: it is neither.
    """
    parts = text.split(":")
    if len(parts) == 3 and all(part.isascii() and part.isdecimal() for part in parts):
        counts = tuple(int(part) for part in parts)
        if any(counts):
            return PerClass(counts=counts)
    elif len(parts) == 3:
        try:
            shares = tuple(float(part) for part in parts)
        except ValueError:
            shares = (-1.0,)
        if all(share >= 0 for share in shares) and 0 < sum(shares) <= 1 + 1e-9:
            return PerClass(shares=shares)
    raise UsageError(f"{text!r} is neither counts such as 1024:128:128 nor shares such as 0.8:0.1:0.1.", "per_class")


def shuffled(names, seed):
    """Indices of names in an order that follows from the seed and each name alone, on every machine."""
    keys = [hashlib.blake2b(f"{seed} ".encode() + name, digest_size=16).digest() for name in names]
    return sorted(range(len(names)), key=keys.__getitem__)


def find_divided(groups, assigned):
    """The first two images, as indices, that are of one group but assigned to different splits; None for none.

    Args:
        groups: int `(images,)`: a number for each, the same for those that belong together.
        assigned: for each image the split that it is assigned to, `UNUSED` for none.
    """
    first = {}
    for index, split in enumerate(assigned):
        if split != UNUSED:
            other = first.setdefault(int(groups[index]), index)
            if assigned[other] != split:
                return other, index
    return None


def divide(categories, groups, assigned, per_class, order, names):
    """Choose each image's split. A group is in one split only; each category is divided as `per_class` says.

    Groups that are assigned to a split come first, then the larger ones; each goes where it fits and most is missing.
    A group may have more members than are needed; unless all are to be used, the rest of them is not.

    Args:
        categories: int `(images,)`: the category of each, from 0.
        groups: int `(images,)`: a number for each, the same for those that belong together.
        assigned: for each image the split that it is assigned to, `UNUSED` for none; the same in a group.
        per_class: a `PerClass`.
        order: all indices, shuffled; it decides among groups of the same size, and which members are not used.
        names: the categories' names, for messages.

    Returns:
        int64 `(images,)`: an index into `SPLITS`, or `UNUSED`.

    Raises:
        UsageError: a category that has any images has too few for the counts.
    """
    categories = np.asarray(categories)
    members, split_of = {}, {}
    for index in order:
        group = int(groups[index])
        members.setdefault(group, []).append(index)
        if assigned[index] != UNUSED:
            split_of[group] = int(assigned[index])
    goals = _goals(np.bincount(categories, minlength=len(names)), per_class)
    missing = goals.tolist()
    use_all = per_class.shares is not None and sum(per_class.shares) > 1 - 1e-9
    result = np.full(len(categories), UNUSED)
    for group in sorted(members, key=lambda group: (group not in split_of, -len(members[group]))):
        split = split_of.get(group)
        if split is None:
            split = _best_split(collections.Counter(categories[members[group]].tolist()), missing, goals)
        for index in members[group]:
            rest = missing[categories[index]]
            if group in split_of or use_all or rest[split] > 0:
                result[index] = split
                rest[split] -= 1
    if per_class.counts and len(split_of) < len(members):
        _check_counts(result, categories, goals, names)
    return result


def count_splits(categories, splits, count):
    """How many images of each category are in each of `SPLITS` and, last, unused: int64 `(count, 4)`."""
    found = [np.bincount(categories[splits == split], minlength=count) for split in (*range(len(SPLITS)), UNUSED)]
    return np.stack(found, axis=1)


def _goals(available, per_class):
    """How many images each split is to have of each category, of which so many are available: int `(categories, 3)`."""
    if per_class.counts:
        return np.tile(np.array(per_class.counts), (len(available), 1))
    exact = available[:, None] * np.array(per_class.shares)
    goals = np.floor(exact + 1e-9).astype(int)
    left = np.round(exact.sum(axis=1)).astype(int) - goals.sum(axis=1)
    for category in np.flatnonzero(available):
        for split in np.argsort(goals[category] - exact[category], kind="stable")[: left[category]]:
            goals[category, split] += 1  # where rounding took most
        for split in np.flatnonzero((exact[category] > 0) & (goals[category] == 0)):
            if goals[category].max() > 1:  # a split that is asked for gets an image as long as another can spare one
                goals[category, np.argmax(goals[category])] -= 1
                goals[category, split] = 1
    return goals


def _best_split(counts, missing, goals):
    """The split for a group that has `counts` images of some categories."""

    def worth(split):
        asked = any(goals[category][split] for category in counts)
        useful = any(missing[category][split] > 0 for category in counts)
        fits = all(missing[category][split] >= count for category, count in counts.items())
        share = sum(missing[category][split] / max(goals[category][split], 1) for category in counts)
        return asked, useful, fits, share

    return max(range(len(SPLITS)), key=worth)


def _check_counts(splits, categories, goals, names):
    counts = count_splits(categories, splits, len(names))
    for category, label in enumerate(names):
        for split in np.flatnonzero(counts[category, :3] < goals[category]) if counts[category].any() else ():
            raise UsageError(
                f"{label} has {counts[category].sum():,} images, of which only {counts[category, split]:,} can go to "
                f"{SPLITS[split]} without dividing near-duplicates, not {goals[category, split]:,}; use smaller counts "
                "or more images.",
                "per_class",
            )
