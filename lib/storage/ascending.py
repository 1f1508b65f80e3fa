"""Sequences that ascend by their keys: what one of them has under the keys of another, with neither held in memory."""

import itertools

_END = (None, None)


def match(rows, pairs, absent=None):
    """Yield pairs of each row and the value under its key.

    Args:
        rows: tuples that begin with a key; both they and `pairs` ascend by their keys.
        pairs: of a key and a value.
        absent: what is yielded as the value of a key that `pairs` lacks.
    """
    pairs = iter(pairs)
    key, value = next(pairs, _END)
    for row in rows:
        wanted = row[0]
        while key is not None and key < wanted:
            key, value = next(pairs, _END)
        yield row, value if key == wanted else absent


def look_up(keys, known):
    """Yield pairs of each of `keys` and whether `known` has it; both ascend."""
    return ((key, found) for (key,), found in match(zip(keys), zip(known, itertools.repeat(True)), False))


def with_facts(keys, facts):
    """Yield each of `keys`, whether `facts`, pairs of a key and `about`, has it, and its `about`; both ascend."""
    found = match(zip(keys), ((key, (True, about)) for key, about in facts), (False, None))
    return ((key, *about) for (key,), about in found)
