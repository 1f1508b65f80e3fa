"""Losses and optimizers as the command line names them, and numbers for each class.

Without TensorFlow, so that a command line is checked at once.
"""

from lib.errors import UsageError
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


def per_class(numbers, classes, setting):
    """A dictionary with a number for each class -> a list in the classes' order.

    Raises:
        UsageError: a class is missing or unknown; about the setting that gives the numbers.
    """
    missing = sorted(set(range(classes)) - set(numbers))
    surplus = sorted(set(numbers) - set(range(classes)))
    if missing or surplus:
        wrong = f"lacks the class {missing[0]}" if missing else f"has the class {surplus[0]}"
        raise UsageError(f"it {wrong}; each class from 0 to {classes - 1} needs a number.", setting)
    return [numbers[number] for number in range(classes)]
