"""What own.sh was called with, checked before its first stage, since a wrong setting may take effect after hours.

    python -m tools.own_settings DATA NAME=VALUE…

prints the path of the encoder, which is downloaded if it is missing. If the folders of DATA are no longer the
categories of the records, their table is removed, so that they are numbered anew. Complaints are those of own.sh.
"""

import argparse
import dataclasses
import logging
import os
from typing import Sequence, Tuple

from lib.cli.program import parser, run
from lib.cli.types import existing_directory, number, whole_number
from lib.errors import StageError, UsageError

log = logging.getLogger("tools.own_settings")  # as a program its `__name__` is another


@dataclasses.dataclass(frozen=True)
class Settings:
    """A call of own.sh.

    Attributes:
        data: the collection.
        given: the settings, pairs of a name in `KINDS` and a text.
    """

    data: str
    given: Sequence[Tuple[str, str]]


def _shares(text):
    from lib.data.splits import SPLITS, parse_per_class

    for share, split in zip(parse_per_class(text).numbers, SPLITS):
        if not share:
            raise ValueError(f"{text!r} gives no images to {split}, which needs some")


def _augmentation(text):
    """A wrong key would be told with all that there are, which is far more than a line."""
    from lib.training.hyperparameters import PRESETS, parse_augmentation

    try:
        parse_augmentation(text)
    except ValueError as error:
        told, keys, _ = str(error).partition(" with a key of ")
        recipes = f" of docs/trainImagesC.md#augmentation, nor first a recipe: {', '.join(PRESETS)}"
        raise ValueError(told + (recipes if keys else "")) from None


def _for_a_soup(text):
    if whole_number(1)(text) < 2:
        raise ValueError(f"{text!r} leaves one model, and a soup needs two")


def _for_the_shell(text):
    value = whole_number(1)(text)
    if str(value) != text:  # the shell takes 010 for 8
        raise ValueError(f"{text!r} has to be written as {value}")


def _folder(text):
    if not text or (os.path.exists(text) and not os.path.isdir(text)):
        raise ValueError(f"{text!r} is not a folder")


KINDS = {
    "OWN": _folder,
    "SEED": whole_number(0, 2**32),
    "SHARES": _shares,
    "SIZE": whole_number(4, 8192),
    "HEAD_EPOCHS": whole_number(1),
    "EPOCHS": _for_a_soup,
    "RATE": number(0, 1, ends=False),
    "BATCH": _for_the_shell,
    "AUGMENT": _augmentation,
    "KEEP": _for_a_soup,
    "ENCODER": str,  # it is looked for at last, since that may take a download
}


def check(name, parse, value):
    """What `parse` makes of the value of a setting; a StageError names the setting."""
    try:
        return parse(value)
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise UsageError(f"{error}.", name) from None
    except StageError as error:
        error.setting = name
        raise


def work(settings):
    """Check the call, remove the table of other categories, and print the encoder's path.

    Raises:
        UsageError: a setting or the collection is wrong.
        WorkError: the encoder can't be downloaded.
    """
    from lib.data.collection import categories_of_folder, items_of_folder
    from lib.models.published import find_model

    values = dict(settings.given)
    for name, value in values.items():
        check(name, KINDS[name], value)
    own, data = (os.path.join(os.path.realpath(path), "") for path in (values["OWN"], settings.data))
    if own.startswith(data):
        raise UsageError(f"{values['OWN']!r} lies in the collection, whose folders are categories.", "OWN")
    names = categories_of_folder(settings.data)
    if not names:
        check("DATA", items_of_folder, settings.data)  # its complaint tells what there is instead
    if len(names) < 2:
        found = f"images in one subfolder only, {', '.join(names)}"
        raise UsageError(f"{settings.data} has {found}, and a model needs two categories or more.", "DATA")
    encoder = check("ENCODER", find_model, values["ENCODER"])
    forget_former_categories(names, os.path.join(values["OWN"], "records-categories.tsv"))
    print(encoder)


def forget_former_categories(names, table):
    """Remove the table of the categories of former records if these aren't its categories."""
    from lib.data.categories import find_category, read_categories

    if os.path.exists(table):
        former = read_categories(table)
        if {find_category(name, former) for name in names} != {*former}:
            log.info(f"The folders are not the categories in {table}: they are numbered anew.")
            os.unlink(table)


def setting(text):
    """An option's type: NAME=VALUE, as a pair."""
    name, _, value = text.partition("=")
    if name not in KINDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE with one of {', '.join(KINDS)}")
    return name, value


def options():
    """The command line's options."""
    made = parser(__doc__, Settings)
    made.prog = "own.sh"
    made.add_argument("data", type=existing_directory, metavar="DATA", help="the collection")
    made.add_argument("given", type=setting, nargs=len(KINDS), metavar="NAME=VALUE", help="all settings of own.sh")
    return made


def main(argv=None):
    """Run the program; returns its exit status."""
    return run(options(), work, Settings, argv)


if __name__ == "__main__":
    raise SystemExit(main())
