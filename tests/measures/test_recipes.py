"""What the command line says about losses, optimizers and classes."""

import pytest

from lib.errors import UsageError
from lib.measures.losses import LOSSES
from lib.measures.recipes import OPTIMIZERS, parse_recipe, per_class


def test_every_loss_with_every_optimizer():
    for loss in LOSSES:
        for optimizer in OPTIMIZERS:
            assert parse_recipe(f"{loss}+clr+{optimizer}") == (loss, optimizer)


@pytest.mark.parametrize("text", ["", "ce", "ce+clr", "ce+aw", "CE+clr+aw", "ce+cosine+aw", "ce+clr+aw+x", "xx+clr+aw"])
def test_other_recipes_are_refused(text):
    with pytest.raises(ValueError, match=r"is not LOSS\+clr\+OPTIMIZER"):
        parse_recipe(text)


def test_numbers_for_each_class():
    assert per_class({1: 2.5, 0: 3}, 2, "class_weights") == [3, 2.5]
    for numbers, classes, words in (({0: 1}, 3, "lacks the class 1"), ({0: 1, 1: 1, 2: 1}, 2, "has the class 2")):
        with pytest.raises(UsageError, match=f"^it {words}; each class from 0 to {classes - 1} needs a num") as caught:
            per_class(numbers, classes, "class_weights")
        assert caught.value.setting == "class_weights"
