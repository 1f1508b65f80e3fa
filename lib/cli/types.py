"""Types of options: from a text of the command line to a value, or a clause about what is wrong with it."""

import argparse
import ast
import glob
import os


def whole_number(lowest, highest=None):
    """An option's type: a whole number from `lowest` to `highest`."""

    def number(text):
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < lowest or (highest is not None and value > highest):
            limits = f"of {lowest} or more" if highest is None else f"from {lowest} to {highest}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {limits}")
        return value

    return number


def whole_numbers(text):
    """An option's type: whole numbers of 0 or more with commas between them, as a tuple."""
    numbers = tuple(map(whole_number(0), text.split(",")))
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r} names one twice")
    return numbers


def number(lowest, highest=None, ends=True, above=False):
    """An option's type: a number from `lowest` to `highest`; between them if not `ends`, above the first if `above`."""

    def parse(text):
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if above and value == lowest:
            value = float("nan")
        above_lowest = value >= lowest if ends else value > lowest
        below = value < float("inf") if highest is None else value <= highest if ends else value < highest
        if not (above_lowest and below):
            if highest is None:
                limits = f"of {lowest} or more" if ends else f"above {lowest}"
            else:
                limits = f"{'from' if ends else 'between'} {lowest} {'to' if ends else 'and'} {highest}"
                limits = f"above {lowest}, up to {highest}" if above else limits
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {limits}")
        return value

    return parse


def parsed(parse):
    """An option's type of a function that raises ValueError with a clause about a wrong text."""

    def convert(text):
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def existing_file(text):
    """An option's type: a file that is there."""
    if not os.path.isfile(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an existing file")
    return text


def existing_directory(text):
    """An option's type: a directory that is there."""
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
    """An option's type: record files, as a path, a glob, or a list of both with commas between them."""
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
    """An option's type: a file to be written, in a directory that is there."""
    folder = os.path.dirname(text) or "."
    if not os.path.isdir(folder):
        raise argparse.ArgumentTypeError(f"{text!r} would be in {folder!r}, which is not a directory")
    if not os.path.basename(text) or (os.path.exists(text) and not os.path.isfile(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular file, so it can't be overwritten")
    return text


def output_directory(text):
    """An option's type: a directory to write into, there or to be made in one that is there."""
    if os.path.exists(text) and not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r} is a file, not a directory")
    folder = os.path.dirname(os.path.abspath(text))
    if not os.path.isdir(folder):
        raise argparse.ArgumentTypeError(f"{text!r} would be in {folder!r}, which is not a directory")
    return text


def output_prefix(text):
    """An option's type: how the names of files to be written begin, in a directory that is there."""
    folder = os.path.dirname(text) or "."
    if not os.path.isdir(folder):
        raise argparse.ArgumentTypeError(f"{text!r} would be in {folder!r}, which is not a directory")
    if not os.path.basename(text):
        raise argparse.ArgumentTypeError(f"{text!r} needs a name prefix after the last slash")
    return text


def output_model(text):
    """An option's type: a `.keras` file to be written, in a directory that is there."""
    if not text.endswith(".keras"):
        raise argparse.ArgumentTypeError(f"{text!r} must end in .keras")
    return output_file(text)


def output_ending(*endings):
    """An option's type: a file to be written whose name ends like one of these."""

    def check(text):
        if not text.lower().endswith(endings):
            raise argparse.ArgumentTypeError(f"{text!r} must end in {' or '.join(endings)}")
        return output_file(text)

    return check


def class_numbers(text):
    """An option's type: `{0:1.0,1:2.5,…}`, a dictionary from class to a number of 0, or of 1e-30 to 1e30."""
    numbers = _literal(text)
    if not isinstance(numbers, dict) or not numbers or not all(type(key) is int and key >= 0 for key in numbers):
        raise argparse.ArgumentTypeError(f"{_short(text)} is not of the form {{0:1.0,1:2.5}}")
    # Beyond that, products of float32, which the numbers become, overflow.
    if not all(_is_amount(number) and (number == 0 or 1e-30 <= number <= 1e30) for number in numbers.values()):
        raise argparse.ArgumentTypeError(
            f"{_short(text)} gives a class a number that is neither 0 nor from 1e-30 to 1e30"
        )
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
    """The value that a text is as Python writes it; None if it is none."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _is_amount(value):
    return type(value) in (int, float) and 0 <= value <= 1e30


def _short(text):
    return repr(text if len(text) <= 60 else text[:57] + "…")
