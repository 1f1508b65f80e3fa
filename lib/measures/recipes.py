"""The names of losses and optimizers, the losses' parameters, and numbers for each class.

Without TensorFlow, so that a command line is checked at once.
"""

import dataclasses
from typing import Tuple

from lib.errors import UsageError

# Described in `lib.measures.losses`.
LOSSES = ("bel", "cbf", "cbs", "cbbs", "ccm", "ce", "cos", "fce", "la", "lab", "lw", "lwb", "mae", "mse", "nis")
OPTIMIZERS = ("a", "aw", "sgd")


@dataclasses.dataclass(frozen=True)
class LossParameters:
    """The parameters of losses.

    Attributes:
        focal_alpha, focal_gamma: α and γ of `fce`.
        beta, gamma: β and γ of the class-balanced losses.
        tau: τ of the logit adjustment.
        ccm: the weights of the three parts of `ccm`.
    """

    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    beta: float = 0.99
    gamma: float = 1.0
    tau: float = 0.0
    ccm: Tuple[float, ...] = (1.0, 1.0, 1.0)


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
