"""Parts of a work that several machines share: which part is whose."""

import re
from typing import NamedTuple

MOST_SHARDS = 100_000  # more than any scheduler takes in one array


class Shard(NamedTuple):
    """One of several parts, counted from 1."""

    number: int = 1
    count: int = 1

    def __str__(self):
        return f"{self.number}/{self.count}"

    def range(self, total):
        """Which of `total` things in a row are this part's, counted from 0; parts differ by one thing at most."""
        return range(total * (self.number - 1) // self.count, total * self.number // self.count)


WHOLE = Shard()


def parse_shard(text):
    """`K/N` as a `Shard`; ValueError, with a clause about it, if it is something else."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    shard = Shard(*map(int, found.groups())) if found else None
    if shard is None or not 1 <= shard.number <= shard.count <= MOST_SHARDS:
        raise ValueError(f"{text!r} is not a part K/N, such as 1/8, with K from 1 to N and N up to {MOST_SHARDS}")
    return shard
