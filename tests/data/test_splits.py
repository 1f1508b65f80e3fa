"""Splits: stratified, groups kept whole, the given ones kept."""

import numpy as np
import pytest

from lib.data.splits import UNUSED, count_splits, divide, parse_per_class, shuffled
from lib.errors import UsageError

NAMES = ["fern", "moss", "palm"]


def make(categories, per_class, groups=None, assigned=None, seed=0):
    count = len(categories)
    groups = np.arange(count) if groups is None else np.array(groups)
    assigned = np.full(count, UNUSED) if assigned is None else np.array(assigned)
    order = shuffled([str(index).encode() for index in range(count)], seed)
    return divide(np.array(categories), groups, assigned, parse_per_class(per_class), order, NAMES)


def counts(categories, places):
    return count_splits(np.array(categories), places, 3).tolist()


@pytest.mark.parametrize(
    "text", ["10:2", "a:b:c", "-1:2:3", "0:0:0", "0.8:0.3:0.1", "0.0:0.0:0.0", "1:2:3:4", "nan:0.1:0.1"]
)
def test_what_is_neither_counts_nor_shares_is_refused(text):
    with pytest.raises(UsageError, match=r"neither counts such as .* nor shares such as") as error:
        parse_per_class(text)
    assert error.value.setting == "per_class"


def test_counts_are_distinguished_from_shares():
    assert parse_per_class("10240:1024:1024") == ((10240, 1024, 1024), False)
    assert parse_per_class("1:0:0") == ((1, 0, 0), False)
    assert parse_per_class("0.8:0.1:0.1") == ((0.8, 0.1, 0.1), True)
    assert parse_per_class("1.0:0:0") == ((1.0, 0.0, 0.0), True)


def test_shares_hold_in_each_category_and_all_is_used():
    categories = [0] * 100 + [1] * 33 + [2] * 7
    places = make(categories, "0.8:0.1:0.1")
    assert counts(categories, places) == [[80, 10, 10, 0], [27, 3, 3, 0], [5, 1, 1, 0]]
    assert counts(categories, make(categories, "0.5:0.25:0")) == [[50, 25, 0, 25], [17, 8, 0, 8], [3, 2, 0, 2]]


def test_a_category_of_two_or_one_image_has_what_there_is():
    categories = [0] * 2 + [1] * 1 + [2] * 3
    assert counts(categories, make(categories, "0.8:0.1:0.1")) == [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]]


def test_counts_are_exact_and_the_rest_is_unused():
    categories = [0] * 30 + [1] * 20 + [2] * 16
    places = make(categories, "10:3:2")
    assert counts(categories, places) == [[10, 3, 2, 15], [10, 3, 2, 5], [10, 3, 2, 1]]


def test_a_category_with_too_few_images_is_named():
    with pytest.raises(UsageError, match=r"^moss has 14 images, .* can go to"):
        make([0] * 30 + [1] * 14, "10:3:2")
    with pytest.raises(UsageError, match="moss has 20 images"):  # which are two pictures only
        make([0] * 30 + [1] * 20, "10:3:2", groups=[*range(30), *[30] * 15, *[31] * 5])


def test_groups_are_never_divided_and_still_the_counts_are_met():
    rng = np.random.default_rng(5)
    categories = np.repeat([0, 1, 2], 400)
    groups = np.concatenate([1000 * c + rng.integers(0, 150, 400) for c in range(3)])
    groups[:40] = 7777  # a large one
    for per_class in ("0.8:0.1:0.1", "200:40:40"):
        places = make(categories, per_class, groups)
        for group in set(groups.tolist()):
            assert len(set(places[groups == group].tolist()) - {UNUSED}) <= 1
        made = counts(categories, places)
        if per_class.startswith("200"):
            assert [row[:3] for row in made] == [[200, 40, 40]] * 3
        else:
            assert all(abs(row[0] - 320) <= 4 and row[1] >= 36 and row[2] >= 36 and row[3] == 0 for row in made)


def test_a_group_of_several_categories_is_in_one_split():
    places = make([0, 1, 2] * 20, "0.5:0.25:0.25", groups=np.repeat(np.arange(20), 3))
    assert (places.reshape(20, 3) == places.reshape(20, 3)[:, :1]).all()


def test_assigned_splits_stay_and_count():
    assigned = [2] * 30 + [UNUSED] * 70
    places = make([0] * 100, "0.6:0.2:0.2", assigned=assigned)
    assert (places[:30] == 2).all() and counts([0] * 100, places)[0][3] == 0
    assert 10 <= (places == 1).sum() <= 20 and (places[30:] == 2).sum() == 0
    assert make([0, 0], "10:10:10", assigned=[0, 2]).tolist() == [0, 2]


def test_the_seed_decides_and_others_do_not_disturb():
    names = [str(number).encode() for number in range(50)]
    one, again, other = shuffled(names, 1), shuffled(names, 1), shuffled(names, 2)
    assert one == again != other and sorted(other) == list(range(50))
    without = [names[index] for index in shuffled(names[:40], 1)]
    assert without == [names[index] for index in one if index < 40]
