"""Dividing labelled images into train, validation and test, so that each group stays in one split."""

import collections
import contextlib
import hashlib
import math
from typing import NamedTuple, Tuple

import numpy as np

from lib.errors import UsageError
from lib.storage.untrusted import is_whole_number

SPLITS = ("train", "validation", "test")
UNUSED = -1


class PerClass(NamedTuple):
    """How many images of each category go into train, validation and test.

    Attributes:
        numbers: three, the same for all categories.
        shares: whether they are fractions of a category's images, rather than counts.
    """

    numbers: Tuple[float, float, float]
    shares: bool


def parse_per_class(text):
    """Counts such as `10240:1024:1024` or shares such as `0.8:0.1:0.1` -> a `PerClass`.

    Raises:
        UsageError: it is neither.
    """
    parts = text.split(":")
    shares = not all(map(is_whole_number, parts))
    with contextlib.suppress(ValueError):
        numbers = tuple(map(float if shares else int, parts))
        if len(numbers) == 3 and min(numbers) >= 0 and 0 < sum(numbers) <= (1 + 1e-9 if shares else math.inf):
            return PerClass(numbers, shares)
    raise UsageError(f"{text!r} is neither counts such as 1024:128:128 nor shares such as 0.8:0.1:0.1.", "per_class")


def shuffled(names, seed):
    """Indices of names in an order that follows from the seed and each name alone, on every machine."""
    keys = [hashlib.blake2b(f"{seed} ".encode() + name, digest_size=16).digest() for name in names]
    return sorted(range(len(names)), key=keys.__getitem__)


def divide(categories, groups, assigned, per_class, order, names):
    """Choose each image's split. A group is in one split only; each category is divided as `per_class` says.

    Groups that are assigned to a split come first. The others follow, larger ones before smaller ones, and each goes to
    the split that has room for it and still lacks the largest share of its images. Members of a group beyond what is
    needed stay unused, unless all images are to be used.

    Args:
        categories: int `(images,)`: the category of each, from 0.
        groups: int `(images,)`: a number for each, the same for those that belong together.
        assigned: for each image the split that it is assigned to, `UNUSED` for none; the same in a group.
        per_class: a `PerClass`.
        order: all indices, shuffled: the order of groups of one size, and of the members of a group.
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
    use_all = per_class.shares and sum(per_class.numbers) > 1 - 1e-9
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
    if not per_class.shares and len(split_of) < len(members):
        _check_counts(result, categories, goals, names)
    return result


def count_splits(categories, splits, count):
    """How many images of each category are in each of `SPLITS` and, last, unused: int64 `(count, 4)`."""
    found = [np.bincount(categories[splits == split], minlength=count) for split in (*range(len(SPLITS)), UNUSED)]
    return np.stack(found, axis=1)


def _goals(available, per_class):
    """How many images each split should have of each category, given how many there are: int `(categories, 3)`."""
    if not per_class.shares:
        return np.tile(np.array(per_class.numbers), (len(available), 1))
    exact = available[:, None] * np.array(per_class.numbers)
    goals = np.floor(exact + 1e-9).astype(int)
    left = np.round(exact.sum(axis=1)).astype(int) - goals.sum(axis=1)
    for category in np.flatnonzero(available):
        for split in np.argsort(goals[category] - exact[category], kind="stable")[: left[category]]:
            goals[category, split] += 1  # where rounding took most
        for split in np.flatnonzero((exact[category] > 0) & (goals[category] == 0)):
            if goals[category].max() > 1:  # each split with a share gets an image as long as another can spare one
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
    for category, split in np.argwhere((counts[:, :3] < goals) & counts.any(axis=1, keepdims=True)):
        total, most = counts[category].sum(), counts[category, split]
        raise UsageError(
            f"{names[category]} has {total:,} images, of which only {most:,} can go to {SPLITS[split]} without "
            f"dividing near-duplicates, not {goals[category, split]:,}; use smaller counts or more images.",
            "per_class",
        )
