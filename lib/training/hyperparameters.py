"""The log of a search for how to augment and train, `optimization-log.tsv`: its keys, how it is read and written.

A tab-separated table with the header `ITERATION SETTINGS F1`; SETTINGS is a JSON object of the keys below.
"""

import csv
import dataclasses
import json
import math
import os
from typing import NamedTuple, Tuple

from lib.errors import UsageError
from lib.storage.files import check_regular, whole_file
from lib.storage.untrusted import parse_json

NAME = "optimization-log.tsv"
_HEADER = ["ITERATION", "SETTINGS", "F1"]


class Key(NamedTuple):
    """A key of the log.

    Attributes:
        name: as the log has it.
        attribute: of `Hyperparameters`.
        lowest, highest: what its value may be.
        positive: whether it may not be 0.
        whole: whether it is a whole number.
        range: the default range of a search.
    """

    name: str
    attribute: str
    lowest: float = 0.0
    highest: float = 1.0
    positive: bool = False
    whole: bool = False
    range: Tuple[float, float] = (0.0, 0.5)


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """A row's settings; the defaults are the published ones.

    Attributes:
        batch_power: a batch has two to the power of this many images.
        clr_step: how many batch sizes of steps half a cycle of the learning rate takes.
        learning_rate: the highest.
        weight_decay: decoupled.
        distill_temperature: what logits are divided by before teacher and student are compared.
        left_right, up_down: the probability that an image is mirrored.
        rotate_one, rotate_two, rotate_three: that it is turned counter-clockwise by so many quarters.
        shear_x, shear_y, translate_x, translate_y: that it is sheared or moved, by a share drawn evenly from ± that of
            `…_proportion`, of its side when moved.
        gaussian_noise: that it gets noise, whose standard deviation is drawn evenly from 0 to `…_sd_max` × 255.
        invert: that it becomes its negative.
        solarize_add: that `solarize_addition` × 255 is added to its values below `solarize_add_threshold` × 255.
        mixup: that it is mixed with another one.
        ratio_low, ratio_high: the least and largest width by height of a crop.
        scale_low, scale_high: the least and largest share of the image's area that it has.
    """

    batch_power: int = 5
    clr_step: float = 4
    learning_rate: float = 0.005
    weight_decay: float = 1e-5
    distill_temperature: float = 12.5
    left_right: float = 0.0
    up_down: float = 0.0
    rotate_one: float = 0.0
    rotate_two: float = 0.0
    rotate_three: float = 0.0
    shear_x: float = 0.0
    shear_y: float = 0.0
    translate_x: float = 0.0
    translate_y: float = 0.0
    gaussian_noise: float = 0.0
    invert: float = 0.0
    solarize_add: float = 0.0
    mixup: float = 0.0
    shear_x_proportion: float = 0.1
    shear_y_proportion: float = 0.1
    translate_x_proportion: float = 0.1
    translate_y_proportion: float = 0.1
    gaussian_noise_sd_max: float = 0.1
    solarize_addition: float = 0.1
    solarize_add_threshold: float = 0.1
    ratio_low: float = 0.75
    ratio_high: float = 1.33
    scale_low: float = 0.08
    scale_high: float = 1.0

    @property
    def batch(self):
        """How many images a batch has."""
        return 2**self.batch_power

    @property
    def crops(self):
        """The ranges of a crop's share of the area and of its width by height."""
        return (self.scale_low, self.scale_high), (self.ratio_low, self.ratio_high)


KEYS = (
    Key("batch", "batch_power", 0, 20, whole=True, range=(3, 8)),
    Key("clrStep", "clr_step", 0, 1e9, positive=True, range=(1, 16)),
    Key("learningRate", "learning_rate", positive=True, range=(1e-4, 0.02)),
    Key("weightDecay", "weight_decay", range=(1e-6, 0.01)),
    Key("distillTemperature", "distill_temperature", 0, 1e6, positive=True, range=(1, 25)),
    Key("leftRight", "left_right"),
    Key("upDown", "up_down"),
    Key("rotateOne", "rotate_one"),
    Key("rotateTwo", "rotate_two"),
    Key("rotateThree", "rotate_three"),
    Key("shearX", "shear_x"),
    Key("shearY", "shear_y"),
    Key("translateX", "translate_x"),
    Key("translateY", "translate_y"),
    Key("GaussianNoise", "gaussian_noise"),
    Key("invert", "invert"),
    Key("solarizeAdd", "solarize_add"),
    Key("mixup", "mixup", range=(1, 1)),  # since distilling always mixes by default
    Key("shearXproportion", "shear_x_proportion", range=(0.05, 0.3)),
    Key("shearYproportion", "shear_y_proportion", range=(0.05, 0.3)),
    Key("translateXproportion", "translate_x_proportion", range=(0.05, 0.3)),
    Key("translateYproportion", "translate_y_proportion", range=(0.05, 0.3)),
    Key("GaussianNoiseSDmax", "gaussian_noise_sd_max", range=(0.02, 0.2)),
    Key("solarizeAddition", "solarize_addition", range=(0.05, 0.5)),
    Key("solarizeAddThreshold", "solarize_add_threshold", range=(0.05, 0.5)),
    Key("resizeRatioLow", "ratio_low", 0, 100, positive=True, range=(0.5, 1)),
    Key("resizeRatioHigh", "ratio_high", 0, 100, positive=True, range=(1, 2)),
    Key("resizeScaleLow", "scale_low", positive=True, range=(0.05, 0.8)),
    Key("resizeScaleHigh", "scale_high", positive=True, range=(1, 1)),
)


class Row(NamedTuple):
    """A row of the log: a label of the iteration, its settings, and the F1 that they reached."""

    iteration: str
    settings: Hyperparameters
    f1: float


def read_log(folder):
    """Read the log of a folder.

    Args:
        folder: what holds `optimization-log.tsv`.

    Returns:
        Its `Row`s, one or more, in their order.

    Raises:
        UsageError: no such file, no rows, or one that can't be understood.
    """
    path = os.path.join(folder, NAME)
    try:
        check_regular(path)
        with open(path, encoding="utf-8-sig", newline="") as file:
            # Programs that put quotes around a text with quotes in it are understood, too.
            lines = list(csv.reader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} can't be read as a table ({getattr(error, 'strerror', None) or error}).") from error
    if not lines or not set(_HEADER) <= set(lines[0]):
        raise UsageError(f"{path} needs a header with the columns {', '.join(_HEADER)}, separated by tabs.")
    places = [lines[0].index(name) for name in _HEADER]
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        try:
            if len(line) <= max(places):
                raise ValueError(f"has {len(line)} columns")
            iteration, settings, f1 = (line[place] for place in places)
            rows.append(Row(iteration, parse_settings(settings), _parse_f1(f1)))
        except ValueError as error:
            raise UsageError(f"{path} line {number} {error}.") from error
    if not rows:
        raise UsageError(f"{path} has no rows.")
    return tuple(rows)


def best_row(rows):
    """The row with the highest F1; of several the first."""
    return max(rows, key=lambda row: row.f1)


def parse_settings(text):
    """A JSON object of the log's keys -> `Hyperparameters`.

    Low and high ends of a range are taken in either order. Keys that the log does not have are passed over.

    Raises:
        ValueError: it is something else, lacks a key, or has a value that is out of range; the message is a clause.
    """
    try:
        values = parse_json(text)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ValueError("has SETTINGS that are not a JSON object")
    missing = [key.name for key in KEYS if key.name not in values]
    if missing:
        raise ValueError(f"has SETTINGS without {missing[0]!r}")
    found = {key.attribute: check_value(key, values[key.name]) for key in KEYS}
    for low, high in (("ratio_low", "ratio_high"), ("scale_low", "scale_high")):
        found[low], found[high] = sorted((found[low], found[high]))
    return Hyperparameters(**found)


def check_value(key, value):
    """A value as a key takes it. Raises ValueError, with a clause about it, if the key takes no such value."""
    # Compared rather than converted, since a whole number can be greater than any that has a point.
    number = type(value) in (int, float) and -math.inf < value < math.inf
    if number and key.whole and value == int(value):
        value = int(value)
    right = number and key.lowest <= value <= key.highest and not (key.positive and value == 0)
    if not right or (key.whole and type(value) is not int):
        kind = "a whole number" if key.whole else "a number"
        limits = f"above {key.lowest:g}, up to" if key.positive else f"from {key.lowest:g} to"
        raise ValueError(f"gives {key.name!r} the value {_short(value)}, not {kind} {limits} {key.highest:g}")
    return value


def _short(value):
    """A value as text of at most a few words."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def format_settings(settings):
    """`Hyperparameters` -> the JSON object that `parse_settings` reads, as text."""
    return json.dumps({key.name: getattr(settings, key.attribute) for key in KEYS})


def write_log(folder, rows):
    """Write the log of a folder, whole.

    Args:
        folder: where it is to be.
        rows: `Row`s.
    """
    with whole_file(os.path.join(folder, NAME)) as file:
        file.write("\t".join(_HEADER) + "\n")
        for row in rows:
            file.write(f"{row.iteration}\t{format_settings(row.settings)}\t{row.f1!r}\n")


def _parse_f1(text):
    try:
        f1 = float(text)
    except ValueError:
        f1 = math.nan
    if not math.isfinite(f1):
        raise ValueError(f"has the F1 {_short(text)}, which is not a number")
    return f1


def ranges_of(text):
    """A JSON object of a search's ranges: key of the log -> [lowest, highest].

    Returns:
        A dictionary: name of a key -> pair of its values.

    Raises:
        ValueError: it is something else; the message is a clause about it.
    """
    try:
        given = parse_json(text)
    except ValueError as error:
        raise ValueError(f"is not JSON ({error})") from error
    if not isinstance(given, dict):
        raise ValueError("is not a JSON object {key: [lowest, highest]}")
    known = {key.name: key for key in KEYS}
    ranges = {}
    for name, ends in given.items():
        if name not in known:
            raise ValueError(f"has the key {_short(name)}; the log's are {', '.join(known)}")
        ends = ends if isinstance(ends, list) else [ends, ends]
        if len(ends) != 2:
            raise ValueError(f"gives {name!r} {len(ends)} numbers instead of a lowest and a highest")
        low, high = (check_value(known[name], end) for end in ends)
        if low > high:
            raise ValueError(f"gives {name!r} a lowest number that is above the highest")
        ranges[name] = (low, high)
    return ranges


def read_ranges(path):
    """The `ranges_of` a file. Raises ValueError, with a clause that names it."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        content = file.read()
    try:
        return ranges_of(content)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None
