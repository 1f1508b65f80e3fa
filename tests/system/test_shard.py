"""Parts of a work."""

import pytest

from lib.system.shard import Shard, parse_shard


@pytest.mark.parametrize("total", [0, 1, 7, 100])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_parts_are_in_order_and_differ_by_one_at_most(total, count):
    ranges = [Shard(number, count).range(total) for number in range(1, count + 1)]
    assert [place for part in ranges for place in part] == list(range(total))
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "-1/4", "1/4/8", "1/9999999", "a/b", ""])
def test_what_is_no_part(text):
    with pytest.raises(ValueError, match="such as 1/8"):
        parse_shard(text)
