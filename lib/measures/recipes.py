"""What a training can be made of: the names of losses and optimizers, and numbers for each class.

Without TensorFlow, so that a command line can be checked at once.
"""

import dataclasses
from typing import NamedTuple, Optional, Sequence, Tuple

from lib.errors import UsageError

# The functions in `lib.measures.losses` say what they are.
LOSSES = ("bel", "cbf", "cbs", "cbbs", "ccm", "ce", "cos", "fce", "la", "lab", "lw", "lwb", "mae", "mse", "nis")
OPTIMIZERS = ("a", "aw", "sgd")


class Recipe(NamedTuple):
    """A loss's and an optimizer's name; as text `LOSS+clr+OPTIMIZER`."""

    loss: str
    optimizer: str

    def __str__(self):
        return f"{self.loss}+clr+{self.optimizer}"


@dataclasses.dataclass(frozen=True)
class LossParameters:
    """The parameters of all losses.

    Attributes:
        class_counts: how many images each class has, in their order; needed by `cbf`, `cbs`, `la`, `lw` and `nis`.
        cb_beta, cb_gamma: β and γ of the class-balanced losses.
        la_tau: τ of the logit adjustment.
        ccm_weights: of the three parts of `ccm`.
        focal_alpha, focal_gamma: α and γ of `fce`.
        label_smoothing: in `ce`, `fce` and `ccm`.
    """

    class_counts: Optional[Sequence[float]] = None
    cb_beta: float = 0.99
    cb_gamma: float = 1.0
    la_tau: float = 0.0
    ccm_weights: Tuple[float, ...] = (1.0, 1.0, 1.0)
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    label_smoothing: float = 0.2


def parse_recipe(text):
    """`LOSS+clr+OPTIMIZER` -> `Recipe`.

    Raises:
        ValueError: it is something else; the message is a clause about it.
    """
    parts = text.split("+")
    if len(parts) != 3 or parts[0] not in LOSSES or parts[1] != "clr" or parts[2] not in OPTIMIZERS:
        raise ValueError(
            f"{text!r} is not LOSS+clr+OPTIMIZER with a loss of {', '.join(LOSSES)} and an optimizer of "
            f"{', '.join(OPTIMIZERS)}"
        )
    return Recipe(parts[0], parts[2])


def check_recipe(text):
    """A text that `parse_recipe` understands, as it is. Raises ValueError for any other."""
    parse_recipe(text)
    return text


def cover(numbers, classes):
    """A dictionary of numbers for each class as a list in the classes' order.

    Raises:
        ValueError: it lacks some class, or has one too many; the message is a clause about it.
    """
    missing = sorted(set(range(classes)) - set(numbers))
    surplus = sorted(set(numbers) - set(range(classes)))
    if missing or surplus:
        wrong = f"lacks the class {missing[0]}" if missing else f"has the class {surplus[0]}"
        raise ValueError(f"{wrong}; each class from 0 to {classes - 1} needs a number")
    return [numbers[number] for number in range(classes)]


def per_class(numbers, classes, setting):
    """As `cover`, but raises UsageError about the setting that names the numbers."""
    try:
        return cover(numbers, classes)
    except ValueError as error:
        raise UsageError(f"it {error}.", setting) from None
