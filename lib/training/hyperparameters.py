"""The settings of augmentation and training, their keys, and the log of a search for them, `optimization-log.tsv`.

The log is a tab-separated table with the header `ITERATION SETTINGS F1`; SETTINGS is a JSON object of the keys below.
"""

import dataclasses
import json
import math
import os
from typing import NamedTuple, Tuple

from lib.errors import UsageError
from lib.storage.files import whole_file
from lib.storage.formats import read_named_rows
from lib.storage.untrusted import parse_json
from lib.training.changes import CHANGES

NAME = "optimization-log.tsv"
_HEADER = ["ITERATION", "SETTINGS", "F1"]


class Key(NamedTuple):
    """A key of the log.

    Attributes:
        attribute: of `Hyperparameters`.
        name: in the log.
        meaning: for the documentation.
        lowest, highest: the range of allowed values.
        positive: whether 0 is excluded.
        whole: whether only whole numbers are allowed.
        range: the default range of a search.
        needed: whether a log has to have it; otherwise what it sets is off, or as published.
    """

    attribute: str
    name: str
    meaning: str
    lowest: float
    highest: float
    positive: bool = False
    whole: bool = False
    range: Tuple[float, float] = (0.0, 0.5)
    needed: bool = True


def _key(default, name, meaning, lowest=0.0, highest=1.0, **more):
    """A field of settings: its default, and the attributes of its `Key`."""
    about = {"name": name, "meaning": meaning, "lowest": lowest, "highest": highest, **more}
    return dataclasses.field(default=default, metadata=about)


def _fields_of_changes():
    """A field for the probability of each change, 0 by default, then one for each strength."""
    for change in CHANGES:
        yield change.name, float, _key(0.0, change.key, change.meaning, needed=False)
    for change in CHANGES:
        for each in change.strengths:
            field = _key(each.default, each.key, each.meaning, range=each.range, needed=False)
            yield each.name, float, field


_Changes = dataclasses.make_dataclass("_Changes", _fields_of_changes(), frozen=True)


@dataclasses.dataclass(frozen=True)
class Augmentation(_Changes):
    """How images are augmented: the settings of `lib.training.changes.CHANGES`, and those of mixtures and crops.

    The defaults are those of the published classifiers.

    Attributes:
        mixup: probability of mixing an image with another image.
        ratio_low, ratio_high: range of a crop's ratio of width to height.
        scale_low, scale_high: range of a crop's share of the image's area.
    """

    # Distilling mixes by default, so a search doesn't vary it.
    mixup: float = _key(1.0, "mixup", "probability of mixing with another image", range=(1, 1), needed=False)
    ratio_low: float = _key(
        3 / 4, "resizeRatioLow", "a crop's minimum ratio of width to height", 0, 100, positive=True, range=(0.5, 1)
    )
    ratio_high: float = _key(
        4 / 3, "resizeRatioHigh", "and the maximum; drawn log-uniformly", 0, 100, positive=True, range=(1, 2)
    )
    scale_low: float = _key(
        0.08, "resizeScaleLow", "a crop's minimum share of the image's area", positive=True, range=(0.05, 0.8)
    )
    scale_high: float = _key(1.0, "resizeScaleHigh", "and the maximum", positive=True, range=(1, 1))

    @property
    def crops(self):
        """The ranges of a crop's share of the area and of its ratio of width to height."""
        return (self.scale_low, self.scale_high), (self.ratio_low, self.ratio_high)


def _metadata(name):
    """The metadata of the field of `Augmentation` for a key."""
    return next(each.metadata for each in dataclasses.fields(Augmentation) if each.metadata["name"] == name)


def _keys_of(settings):
    return {field.metadata["name"]: Key(field.name, **field.metadata) for field in dataclasses.fields(settings)}


AUGMENTATION_KEYS = _keys_of(Augmentation)
PUBLISHED = Augmentation()
PRESETS = {
    "published": PUBLISHED,
    "small": Augmentation(
        left_right=0.5,
        blur=0.25,
        brightness=0.5,
        brightness_change=0.2,
        contrast=0.5,
        contrast_change=0.2,
        warmth=0.5,
        mixup=0.25,
        scale_low=0.4,
    ),
}


def parse_augmentation(text):
    """A preset's name, `KEY=NUMBER` of the log's keys of augmentation, or both, separated by commas -> `Augmentation`.

    Keys that aren't given are as in the preset, which is `published` if none is.

    Raises:
        ValueError: it is something else; the message is a clause about it.
    """
    first, *others = text.split(",")
    found, given = PRESETS.get(first), {}
    for part in [first, *others] if found is None else others:
        name, equals, number = part.partition("=")
        if not equals or name not in AUGMENTATION_KEYS:
            keys = ", ".join(AUGMENTATION_KEYS)
            raise ValueError(
                f"{part!r} is not KEY=NUMBER with a key of {keys}, nor first a recipe: {', '.join(PRESETS)}"
            )
        if AUGMENTATION_KEYS[name].attribute in given:
            raise ValueError(f"{text!r} gives {name!r} twice")
        try:
            value = float(number)
        except ValueError:
            value = number
        given[AUGMENTATION_KEYS[name].attribute] = _checked(AUGMENTATION_KEYS[name], value)
    found = dataclasses.asdict(found or PUBLISHED)
    return Augmentation(**_ordered({**found, **given}))


@dataclasses.dataclass(frozen=True)
class Hyperparameters(Augmentation):
    """A row's settings; the defaults are the published ones.

    Attributes:
        mixup, ratio_high: as of `Augmentation`, which has other defaults.
        batch_power: the base-2 logarithm of the batch size.
        clr_step: steps in half a cycle of the learning rate, divided by the batch size.
        learning_rate: the maximum.
        weight_decay: decoupled.
        distill_temperature: divides both models' logits before they are compared.
    """

    mixup: float = dataclasses.field(default=0.0, metadata=_metadata("mixup"))
    ratio_high: float = dataclasses.field(default=1.33, metadata=_metadata("resizeRatioHigh"))
    batch_power: int = _key(5, "batch", "an exponent: batches have 2^`batch` images", 0, 20, whole=True, range=(3, 8))
    clr_step: float = _key(
        4,
        "clrStep",
        "half a learning-rate cycle takes `clrStep` × 2^`batch` steps",
        *(0, 1e9),
        positive=True,
        range=(1, 16),
    )
    learning_rate: float = _key(
        0.005,
        "learningRate",
        "the highest learning rate; the lowest is a quarter of it",
        positive=True,
        range=(1e-4, 0.02),
    )
    weight_decay: float = _key(1e-5, "weightDecay", "AdamW's decoupled weight decay", range=(1e-6, 0.01))
    distill_temperature: float = _key(
        12.5,
        "distillTemperature",
        "both models' logits are divided by this before they are compared",
        *(0, 1e6),
        positive=True,
        range=(1, 25),
    )

    @property
    def batch(self):
        """The batch size."""
        return 2**self.batch_power


KEYS = _keys_of(Hyperparameters)


class Row(NamedTuple):
    """A row of the log: the iteration's label, its settings, and their F1."""

    iteration: str
    settings: Hyperparameters
    f1: float


def read_log(folder):
    """Read the log of a folder.

    Args:
        folder: the directory that holds `optimization-log.tsv`.

    Returns:
        A tuple of `Row`s, at least one.

    Raises:
        UsageError: the file can't be read, has no rows or is malformed.
    """
    path, rows = os.path.join(folder, NAME), []
    _, lines = read_named_rows(path, _HEADER, f"{', '.join(_HEADER)}, separated by tabs")
    for line, row in lines:
        try:
            rows.append(_parse_row(*map(row.get, _HEADER)))
        except ValueError as error:
            raise UsageError(f"{path} line {line} {error}.") from error
    if not rows:
        raise UsageError(f"{path} has no rows.")
    return tuple(rows)


def _parse_row(iteration, settings, f1):
    """A line's columns, None for missing ones, as a `Row`. Raises ValueError, with a clause."""
    if None in (iteration, settings, f1):
        raise ValueError(f"lacks one of the columns {', '.join(_HEADER)}")
    try:
        score = float(f1)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise ValueError(f"has the F1 {_short(f1)}, which is not a number")
    return Row(iteration, parse_settings(settings), score)


def best_row(rows):
    """The row with the highest F1, the first if several tie."""
    return max(rows, key=lambda row: row.f1)


def parse_settings(text):
    """A JSON object of the log's keys -> `Hyperparameters`.

    The ends of a range may come in either order; other keys are ignored. Changes and mixtures that it lacks are off.

    Raises:
        ValueError: it is no such object, lacks a key that is needed, or has a value out of range; the message is a
            clause.
    """
    try:
        values = parse_json(text)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ValueError("has SETTINGS that are not a JSON object")
    for name, key in KEYS.items():
        if key.needed and name not in values:
            raise ValueError(f"has SETTINGS without {name!r}")
    found = {key.attribute: _checked(key, values[name]) for name, key in KEYS.items() if name in values}
    return Hyperparameters(**_ordered(found))


def _ordered(values):
    """Settings by attribute, with the lower end of each range of crops first."""
    ends = {}
    for low, high in (("ratio_low", "ratio_high"), ("scale_low", "scale_high")):
        ends[low], ends[high] = sorted((values[low], values[high]))
    return {**values, **ends}


def _checked(key, value):
    """The value of a key. Raises ValueError, with a clause, if it isn't allowed."""
    allowed = type(value) in (int, float) and key.lowest <= value <= key.highest and (value or not key.positive)
    if not allowed or (key.whole and value != int(value)):
        kind = "a whole number" if key.whole else "a number"
        limits = f"above {key.lowest:g}, up to" if key.positive else f"from {key.lowest:g} to"
        raise ValueError(f"gives {key.name!r} the value {_short(value)}, not {kind} {limits} {key.highest:g}")
    return int(value) if key.whole else value


def _short(value):
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def format_settings(settings):
    """`Hyperparameters` -> the JSON text that `parse_settings` reads."""
    return json.dumps({name: getattr(settings, key.attribute) for name, key in KEYS.items()})


def write_log(folder, rows):
    """Write `Row`s as the log of a folder."""
    with whole_file(os.path.join(folder, NAME)) as file:
        file.write("\t".join(_HEADER) + "\n")
        for row in rows:
            file.write(f"{row.iteration}\t{format_settings(row.settings)}\t{row.f1!r}\n")


def read_ranges(path):
    """Read the ranges of a search from a JSON object: key of the log -> [lowest, highest], or a single number.

    Returns:
        A dictionary: key of the log -> pair of numbers.

    Raises:
        ValueError: it is malformed or has values that aren't allowed; the message is a clause that names the file.
    """
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        try:
            return ranges_of(file.read())
        except ValueError as error:
            raise ValueError(f"{path} {error}") from None


def ranges_of(text):
    """The ranges in the content of such a file, a text; see `read_ranges`."""
    try:
        given = parse_json(text)
    except ValueError as error:
        raise ValueError(f"is not JSON ({error})") from error
    if not isinstance(given, dict):
        raise ValueError("is not a JSON object {key: [lowest, highest]}")
    ranges = {}
    for name, ends in given.items():
        if name not in KEYS:
            raise ValueError(f"has the key {_short(name)}; the log's are {', '.join(KEYS)}")
        ends = ends if isinstance(ends, list) else [ends, ends]
        if len(ends) != 2:
            raise ValueError(f"gives {name!r} {len(ends)} numbers instead of a lowest and a highest")
        low, high = (_checked(KEYS[name], end) for end in ends)
        if low > high:
            raise ValueError(f"gives {name!r} a lowest number that is above the highest")
        ranges[name] = (low, high)
    return ranges
