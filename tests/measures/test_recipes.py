"""What the command line says about losses and optimizers."""

import pytest

from lib.measures.losses import LOSSES
from lib.measures.recipes import OPTIMIZERS, parse_recipe


def test_every_loss_with_every_optimizer():
    for loss in LOSSES:
        for optimizer in OPTIMIZERS:
            assert parse_recipe(f"{loss}+clr+{optimizer}") == (loss, optimizer)


@pytest.mark.parametrize("text", ["", "ce", "ce+clr", "ce+aw", "CE+clr+aw", "ce+cosine+aw", "ce+clr+aw+x", "xx+clr+aw"])
def test_other_recipes_are_refused(text):
    with pytest.raises(ValueError, match=r"is not LOSS\+clr\+OPTIMIZER"):
        parse_recipe(text)
