"""Losses and optimizers as the command line names them.

Without TensorFlow, so that a command line is checked at once.
"""

from lib.measures.losses import LOSSES

OPTIMIZERS = ("a", "aw", "sgd")


def parse_recipe(text):
    """`LOSS+clr+OPTIMIZER` -> the names of the loss and of the optimizer.

    Raises:
        ValueError: it is something else; the message is a clause about it.
    """
    loss, _, optimizer = text.partition("+clr+")
    if loss not in LOSSES or optimizer not in OPTIMIZERS:
        choice = f"a loss of {', '.join(LOSSES)} and an optimizer of {', '.join(OPTIMIZERS)}"
        raise ValueError(f"{text!r} is not LOSS+clr+OPTIMIZER with {choice}")
    return loss, optimizer


def check_recipe(text):
    """A text that `parse_recipe` understands, unchanged. Raises ValueError for any other."""
    parse_recipe(text)
    return text
