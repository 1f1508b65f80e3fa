"""How many images of each category go into train, validation and test, as the command line tells it."""

from typing import NamedTuple, Optional, Tuple


class PerClass(NamedTuple):
    """How many images of each category go into train, validation and test.

    Attributes:
        counts: how many of each category, the same for all; None for shares.
        shares: fractions of what there is of each category; None for counts.
    """

    counts: Optional[Tuple[int, int, int]] = None
    shares: Optional[Tuple[float, float, float]] = None


def parse_per_class(text):
    """Counts such as `10240:1024:1024` or shares such as `0.8:0.1:0.1` -> a `PerClass`.

    Raises:
        ValueError: it is neither; the message says what would be right.
    """
    parts = text.split(":")
    if len(parts) == 3 and all(part.isascii() and part.isdecimal() for part in parts):
        counts = tuple(int(part) for part in parts)
        if any(counts):
            return PerClass(counts=counts)
    elif len(parts) == 3:
        try:
            shares = tuple(float(part) for part in parts)
        except ValueError:
            shares = (-1.0,)
        if all(share >= 0 for share in shares) and 0 < sum(shares) <= 1 + 1e-9:
            return PerClass(shares=shares)
    raise ValueError(f"{text!r} is neither counts such as 1024:128:128 nor shares such as 0.8:0.1:0.1")
