"""What a training can be made of: the names of losses and optimizers, and numbers for each class.

Without TensorFlow, so that a command line can be checked at once.
"""

import dataclasses
import re
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


DEFAULT_RECIPE = Recipe("ce", "aw")


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
    """As `cover`, but raises UsageError about the setting that the numbers are of."""
    try:
        return cover(numbers, classes)
    except ValueError as error:
        raise UsageError(f"it {error}.", setting) from None


def parse_class_numbers(text):
    """`{0:1.0,1:2.5,…}` -> a dictionary from class to a number of 0, or of 1e-30 to 1e30.

    Raises:
        ValueError: it is something else; the message is a clause about it.
    """
    numbers = _literal(text)
    if not isinstance(numbers, dict) or not numbers or not all(map(_is_class, numbers)):
        raise ValueError(f"{_short(text)} is not of the form {{0:1.0,1:2.5}} with each class once")
    if not all(map(_is_amount, numbers.values())):
        raise ValueError(f"{_short(text)} gives a class something else than a number of 0 or more")
    # Beyond that float32, which they are computed with, has no products of them any more.
    if not all(number == 0 or 1e-30 <= number <= 1e30 for number in numbers.values()):
        raise ValueError(f"{_short(text)} gives a class a number other than 0 that is not from 1e-30 to 1e30")
    return numbers


def parse_weights(text):
    """`[1.0,1.0,1.0]` -> a tuple of three numbers of 0 or more.

    Raises:
        ValueError: it is something else; the message is a clause about it.
    """
    numbers = _literal(text)
    if not isinstance(numbers, tuple) or len(numbers) != 3 or not all(map(_is_amount, numbers)):
        raise ValueError(f"{_short(text)} is not of the form [1.0,1.0,1.0]")
    return tuple(numbers)


def parse_bands(text):
    """`[127.5,127.5,127.5]` or `127.5,127.5,127.5` -> a tuple of numbers, one for each band of an image.

    Raises:
        ValueError: it is something else; the message is a clause about it.
    """
    try:
        numbers = tuple(float(part) for part in text.strip("[]() ").split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(abs(number) < float("inf") for number in numbers):
        raise ValueError(f"{_short(text)} is not of the form [127.5,127.5,127.5]")
    return numbers


def parse_variances(text):
    """The same, of numbers above 0."""
    numbers = parse_bands(text)
    if min(numbers) <= 0:
        raise ValueError(f"{_short(text)} has a number that is not above 0")
    return numbers


def _literal(text):
    """The tuple or dictionary of numbers that a text is, as Python would write it; None if it is none.

    Read here, since Python's own parser can be made to crash.
    """
    text = text.strip()
    parts = [part.strip() for part in text[1:-1].split(",")]
    if len(parts) > 1 and not parts[-1]:
        del parts[-1]  # a comma may follow the last one
    try:
        if text[:1] + text[-1:] == "{}":
            pairs = [tuple(map(_number, part.split(":"))) for part in parts]
            numbers = dict(pairs)
            return numbers if len(numbers) == len(pairs) else None
        if text[:1] + text[-1:] in ("[]", "()"):
            return tuple(map(_number, parts))
    except ValueError:
        pass
    return None


def _number(text):
    if "_" in text:  # which Python takes for nothing
        raise ValueError(text)
    return int(text) if re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", text) else float(text)


def _short(text):
    return repr(text if len(text) <= 60 else text[:57] + "…")


def _is_class(key):
    return type(key) is int and key >= 0


def _is_amount(value):
    return type(value) in (int, float) and 0 <= value < float("inf")
