"""Types of options: from a text to a value, or a clause about what is wrong."""

import argparse
import ast
import glob
import math
import os

from lib.errors import UsageError


def whole_number(lowest, highest=None):
    """An option's type: a whole number from `lowest` to `highest`."""
    limits = f"of {lowest} or more" if highest is None else f"from {lowest} to {highest}"

    def number(text):
        value = _converted(int, text)
        if value is None or value < lowest or (highest is not None and value > highest):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {limits}")
        return value

    return number


def whole_numbers(text):
    """An option's type: a tuple of whole numbers of 0 or more, separated by commas."""
    numbers = tuple(map(whole_number(0), text.split(",")))
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r} names one twice")
    return numbers


def number(lowest, highest=math.inf, ends=True, above=False):
    """An option's type: a number from `lowest` to `highest`; between them if not `ends`, above the first if `above`."""
    if highest == math.inf:
        limits = f"above {lowest}"
    elif above:
        limits = f"above {lowest}, up to {highest}"
    else:
        limits = f"from {lowest} to {highest}" if ends else f"between {lowest} and {highest}"
    excluded = (lowest, highest) if not ends else (lowest,) if above else ()

    def parse(text):
        value = _converted(float, text)
        if value is None or not lowest <= value <= highest or value in excluded:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {limits}")
        return value

    return parse


def _converted(convert, text):
    try:
        return convert(text)
    except ValueError:
        return None


def parsed(parse):
    """An option's type: a function that raises ValueError with a clause about a wrong text."""

    def convert(text):
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def single_line(text):
    """An option's type: a text of one line, not empty."""
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is not a text of one line")
    return text


def existing_file(text):
    """An option's type: an existing file."""
    if not os.path.isfile(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an existing file")
    return text


def existing_directory(text):
    """An option's type: an existing directory."""
    if not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an existing directory")
    return text


def teacher(text):
    """An option's type: a `.keras` file, or the directory of a SavedModel."""
    if os.path.isdir(text) and not os.path.isfile(os.path.join(text, "saved_model.pb")):
        raise argparse.ArgumentTypeError(f"{text!r} is a directory without a SavedModel's saved_model.pb")
    if not os.path.isdir(text) and not os.path.isfile(text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a .keras file nor the directory of a SavedModel")
    return text


def record_files(text):
    """An option's type: record files: a path, a glob, or several of these separated by commas."""
    if os.path.isfile(text):
        return (text,)
    found = []
    for part in text.split(","):
        matching = [part] if os.path.isfile(part) else sorted(filter(os.path.isfile, glob.glob(part)))
        if not matching:
            raise argparse.ArgumentTypeError(f"{part!r} is not an existing file and matches none")
        found.extend(matching)
    return tuple(dict.fromkeys(found))


def output_file(text):
    """An option's type: a file to be written, in an existing directory."""
    _check_parent(text)
    if not os.path.basename(text) or (os.path.exists(text) and not os.path.isfile(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular file, so it can't be overwritten")
    return text


def output_table(text):
    """An option's type: a table to be written, see `lib.storage.formats.table_kind`."""
    from lib.storage.formats import table_kind  # here, since most calls write none

    try:
        table_kind(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return output_file(text)


def output_arrays(text):
    """An option's type: an `.npz` file to be written; the ending is added where it is missing."""
    return output_file(text if text.endswith(".npz") else f"{text}.npz")


def output_directory(text):
    """An option's type: a directory to write into, which exists or can be made in one that does."""
    if os.path.exists(text) and not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r} is a file, not a directory")
    _check_parent(os.path.abspath(text))
    return text


def output_prefix(text):
    """An option's type: a prefix for the names of files to be written, in an existing directory."""
    _check_parent(text)
    if not os.path.basename(text):
        raise argparse.ArgumentTypeError(f"{text!r} needs a name prefix after the last slash")
    return text


def _check_parent(path):
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise argparse.ArgumentTypeError(f"{path!r} would be in {folder!r}, which is not a directory")


def output_model(text):
    """An option's type: a `.keras` file to be written, in an existing directory."""
    if not text.endswith(".keras"):
        raise argparse.ArgumentTypeError(f"{text!r} must end in .keras")
    return output_file(text)


def output_ending(*endings):
    """An option's type: a file to be written whose name has one of these endings."""

    def check(text):
        if not text.lower().endswith(endings):
            raise argparse.ArgumentTypeError(f"{text!r} must end in {' or '.join(endings)}")
        return output_file(text)

    return check


def class_numbers(text):
    """An option's type: `{0:1.0,1:2.5,…}`, a dictionary from class to a number of 0, or of 1e-30 to 1e30."""
    numbers = _literal(text)
    keys = ast.parse(text.strip(), mode="eval").body.keys if isinstance(numbers, dict) else ()  # also repeated ones
    if not keys or len(keys) > len(numbers) or not all(type(key) is int and key >= 0 for key in numbers):
        raise argparse.ArgumentTypeError(f"{_short(text)} is not of the form {{0:1.0,1:2.5}} with each class once")
    # Beyond that, products of float32, which the numbers become, overflow.
    if not all(_is_amount(number) and (number == 0 or 1e-30 <= number <= 1e30) for number in numbers.values()):
        wrong = "gives a class a number that is neither 0 nor from 1e-30 to 1e30"
        raise argparse.ArgumentTypeError(f"{_short(text)} {wrong}")
    return numbers


def loss_weights(text):
    """An option's type: `[1.0,1.0,1.0]`, a tuple of three numbers of 0 or more."""
    numbers = _literal(text)
    if not isinstance(numbers, (list, tuple)) or len(numbers) != 3 or not all(map(_is_amount, numbers)):
        raise argparse.ArgumentTypeError(f"{_short(text)} is not of the form [1.0,1.0,1.0]")
    return tuple(numbers)


def band_numbers(text):
    """An option's type: `[127.5,127.5,127.5]` or `127.5,127.5,127.5`, a tuple of a number for each band of an image."""
    numbers = _literal(text)
    numbers = tuple(numbers) if isinstance(numbers, (list, tuple)) else (numbers,)
    if not numbers or not all(type(number) in (int, float) and abs(number) <= 1e30 for number in numbers):
        raise argparse.ArgumentTypeError(f"{_short(text)} is not of the form [127.5,127.5,127.5]")
    return tuple(map(float, numbers))


def band_variances(text):
    """The same, of numbers above 0."""
    numbers = band_numbers(text)
    if min(numbers) <= 0:
        raise argparse.ArgumentTypeError(f"{_short(text)} has a number that is not above 0")
    return numbers


def _literal(text):
    """The value of a Python literal; None if the text isn't one."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _is_amount(value):
    return type(value) in (int, float) and 0 <= value <= 1e30


def _short(text):
    return repr(text if len(text) <= 60 else text[:57] + "…")
