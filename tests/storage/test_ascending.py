"""Ascending sequences meet under their keys."""

import random

import pytest

from lib.storage.ascending import look_up, match, with_facts


@pytest.mark.parametrize("seed", range(20))
def test_each_row_gets_what_its_key_has(seed):
    draw = random.Random(seed)
    known = {key: draw.choice([None, 0, "x"]) for key in draw.sample(range(30), draw.randrange(20))}
    keys = sorted(draw.choices(range(30), k=draw.randrange(20)))  # the same key several times
    facts, rows = sorted(known.items(), key=lambda pair: pair[0]), [(key, number) for number, key in enumerate(keys)]
    assert list(match(rows, facts)) == [(row, known.get(row[0])) for row in rows]
    assert list(match(rows, facts, "none")) == [(row, known.get(row[0], "none")) for row in rows]
    assert list(look_up(keys, sorted(known))) == [(key, key in known) for key in keys]
    assert list(with_facts(keys, facts)) == [(key, key in known, known.get(key)) for key in keys]


def test_no_more_is_read_than_is_needed():
    pairs = iter([(b"a", 1), (b"b", 2), (b"c", 3), (b"d", 4)])
    assert list(match([(b"b", "row")], pairs)) == [((b"b", "row"), 2)] and next(pairs) == (b"c", 3)
    assert list(match([(b"a",)], [])) == [((b"a",), None)] and list(match([], [(b"a", 1)])) == []
