"""What is said of numbers that don't fit the categories."""

import pytest

from lib.errors import UsageError
from lib.measures.category_numbers import numbers_of_categories


def test_each_category_has_its_number():
    assert numbers_of_categories({1: 2.5, 0: 3}, 2, "class_weights") == [3, 2.5]
    for given, categories, words in (({0: 1}, 3, "lacks the class 1"), ({0: 1, 1: 1, 2: 1}, 2, "has the class 2")):
        sentence = f"^it {words}; each class from 0 to {categories - 1} needs a number"
        with pytest.raises(UsageError, match=sentence) as caught:
            numbers_of_categories(given, categories, "class_weights")
        assert caught.value.setting == "class_weights"
