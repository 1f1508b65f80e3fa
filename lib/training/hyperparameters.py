"""The log of a search for augmentation and training settings, `optimization-log.tsv`: its keys, reading and writing.

A tab-separated table with the header `ITERATION SETTINGS F1`; SETTINGS is a JSON object of the keys below.
"""

import csv
import dataclasses
import json
import math
import os
from typing import NamedTuple, Tuple

from lib.errors import UsageError
from lib.storage.files import whole_file
from lib.storage.untrusted import parse_json

NAME = "optimization-log.tsv"
_HEADER = ["ITERATION", "SETTINGS", "F1"]


class Key(NamedTuple):
    """A key of the log.

    Attributes:
        attribute: of `Hyperparameters`.
        name: in the log.
        lowest, highest: the range of allowed values.
        positive: whether 0 is excluded.
        whole: whether only whole numbers are allowed.
        range: the default range of a search.
    """

    attribute: str
    name: str
    lowest: float
    highest: float
    positive: bool = False
    whole: bool = False
    range: Tuple[float, float] = (0.0, 0.5)


def _key(default, name, lowest=0.0, highest=1.0, **more):
    """A field of `Hyperparameters`: its default, and the attributes of its `Key`."""
    return dataclasses.field(default=default, metadata={"name": name, "lowest": lowest, "highest": highest, **more})


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """A row's settings; the defaults are the published ones.

    Attributes:
        batch_power: the base-2 logarithm of the batch size.
        clr_step: steps in half a cycle of the learning rate, divided by the batch size.
        learning_rate: the maximum.
        weight_decay: decoupled.
        distill_temperature: divides both models' logits before they are compared.
        left_right, up_down: probability of mirroring an image.
        rotate_one, rotate_two, rotate_three: of turning it counter-clockwise by one, two or three quarters.
        shear_x, shear_y, translate_x, translate_y: of shearing or translating it, by a share (of its side, if
            translated) drawn uniformly from ± `…_proportion`.
        gaussian_noise: of adding noise, with a standard deviation drawn uniformly from 0 to `…_sd_max` × 255.
        invert: of inverting it.
        solarize_add: of adding `solarize_addition` × 255 to its values below `solarize_add_threshold` × 255.
        mixup: of mixing it with another image.
        ratio_low, ratio_high: range of a crop's ratio of width to height.
        scale_low, scale_high: range of a crop's share of the image's area.
    """

    batch_power: int = _key(5, "batch", 0, 20, whole=True, range=(3, 8))
    clr_step: float = _key(4, "clrStep", 0, 1e9, positive=True, range=(1, 16))
    learning_rate: float = _key(0.005, "learningRate", positive=True, range=(1e-4, 0.02))
    weight_decay: float = _key(1e-5, "weightDecay", range=(1e-6, 0.01))
    distill_temperature: float = _key(12.5, "distillTemperature", 0, 1e6, positive=True, range=(1, 25))
    left_right: float = _key(0.0, "leftRight")
    up_down: float = _key(0.0, "upDown")
    rotate_one: float = _key(0.0, "rotateOne")
    rotate_two: float = _key(0.0, "rotateTwo")
    rotate_three: float = _key(0.0, "rotateThree")
    shear_x: float = _key(0.0, "shearX")
    shear_y: float = _key(0.0, "shearY")
    translate_x: float = _key(0.0, "translateX")
    translate_y: float = _key(0.0, "translateY")
    gaussian_noise: float = _key(0.0, "GaussianNoise")
    invert: float = _key(0.0, "invert")
    solarize_add: float = _key(0.0, "solarizeAdd")
    mixup: float = _key(0.0, "mixup", range=(1, 1))  # since distilling always mixes by default
    shear_x_proportion: float = _key(0.1, "shearXproportion", range=(0.05, 0.3))
    shear_y_proportion: float = _key(0.1, "shearYproportion", range=(0.05, 0.3))
    translate_x_proportion: float = _key(0.1, "translateXproportion", range=(0.05, 0.3))
    translate_y_proportion: float = _key(0.1, "translateYproportion", range=(0.05, 0.3))
    gaussian_noise_sd_max: float = _key(0.1, "GaussianNoiseSDmax", range=(0.02, 0.2))
    solarize_addition: float = _key(0.1, "solarizeAddition", range=(0.05, 0.5))
    solarize_add_threshold: float = _key(0.1, "solarizeAddThreshold", range=(0.05, 0.5))
    ratio_low: float = _key(0.75, "resizeRatioLow", 0, 100, positive=True, range=(0.5, 1))
    ratio_high: float = _key(1.33, "resizeRatioHigh", 0, 100, positive=True, range=(1, 2))
    scale_low: float = _key(0.08, "resizeScaleLow", positive=True, range=(0.05, 0.8))
    scale_high: float = _key(1.0, "resizeScaleHigh", positive=True, range=(1, 1))

    @property
    def batch(self):
        """The batch size."""
        return 2**self.batch_power

    @property
    def crops(self):
        """The ranges of a crop's share of the area and of its ratio of width to height."""
        return (self.scale_low, self.scale_high), (self.ratio_low, self.ratio_high)


KEYS = {field.metadata["name"]: Key(field.name, **field.metadata) for field in dataclasses.fields(Hyperparameters)}


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
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, delimiter="\t")  # csv, since other programs put quotes around JSON
            if not set(_HEADER) <= set(table.fieldnames or ()):
                raise UsageError(f"{path} needs a header with the columns {', '.join(_HEADER)}, separated by tabs.")
            for line in table:
                rows.append(_parse_row(*(line[name] for name in _HEADER)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} can't be read as a table ({getattr(error, 'strerror', None) or error}).") from error
    except ValueError as error:
        raise UsageError(f"{path} line {table.line_num} {error}.") from error
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

    The ends of a range may come in either order; other keys are ignored.

    Raises:
        ValueError: it is no such object, lacks a key, or has a value out of range; the message is a clause.
    """
    try:
        values = parse_json(text)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ValueError("has SETTINGS that are not a JSON object")
    for name in KEYS:
        if name not in values:
            raise ValueError(f"has SETTINGS without {name!r}")
    found = {key.attribute: _checked(key, values[name]) for name, key in KEYS.items()}
    for low, high in (("ratio_low", "ratio_high"), ("scale_low", "scale_high")):
        found[low], found[high] = sorted((found[low], found[high]))
    return Hyperparameters(**found)


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
    """The same for the file's content."""
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
