"""What a person decided about images: `corrections.tsv`, with the columns `FILE CATEGORY` and perhaps `ROLE`.

FILE is an image as in the tables of predictions, CATEGORY the label that is right, whether or not it was the answer.
ROLE is `teach`, the default, or `audit`: images drawn at random, which are never learnt from and only measure.
"""

import difflib
import logging
from typing import Mapping, NamedTuple

from lib.data.categories import CATEGORIES, canonical, check_category
from lib.errors import UsageError, option
from lib.storage.formats import read_named_rows
from lib.storage.names import escape_name, unescape_name

log = logging.getLogger(__name__)

TEACH, AUDIT = ROLES = ("teach", "audit")

_ALIKE = 0.75  # from 0 to 1: two names that share so much of their letters may be one, mistyped


class Corrections(NamedTuple):
    """The decisions of a person.

    Attributes:
        path: of the table.
        taught, audited: escaped name of an image -> category.
    """

    path: str
    taught: Mapping[str, str]
    audited: Mapping[str, str]

    @property
    def decided(self):
        """All of them: escaped name -> category."""
        return {**self.taught, **self.audited}


def read_corrections(path):
    """Read a table of corrections.

    Args:
        path: the table, see `lib.storage.formats.read_rows`.

    Returns:
        `Corrections`, in the order of the table.

    Raises:
        UsageError: it is something else, is empty, or says two things about one file.
    """
    _, rows = read_named_rows(path, ("FILE", "CATEGORY"))
    found, lines = {}, {}
    for line, row in rows:
        name = escape_name(unescape_name(row.get("FILE", "")))
        category, role = canonical(row.get("CATEGORY", "")), role_of(row, f"{path} line {line}")
        if not name or not category:
            raise UsageError(f"{path} line {line} needs a FILE and a CATEGORY.")
        check_category(category, f"{path} line {line}")
        first = found.setdefault(name, (category, role))
        if first != (category, role):
            one, other = (first[0], category) if first[0] != category else (first[1], role)
            where = f"{path} lines {lines[name]} and {line}"
            raise UsageError(f"{where} say both {one} and {other} of {name}; keep one of them.")
        lines.setdefault(name, line)
    if not found:
        raise UsageError(f"{path} has no rows; it needs one for each image that a person has looked at.")
    parts = ({name: category for name, (category, role) in found.items() if role == one} for one in ROLES)
    return Corrections(path, *parts)


def role_of(row, named):
    """The ROLE of a row, a dictionary; `named` is its name in messages."""
    role = row.get("ROLE", "").strip() or TEACH
    if role not in ROLES:
        raise UsageError(f"{named} has the ROLE {role!r}; it must be {' or '.join(ROLES)}.")
    return role


def find_new_categories(corrections, labels, allowed=()):
    """The categories of taught images that a model lacks.

    Args:
        corrections: `Corrections`.
        labels: of the model.
        allowed: names of new categories that may be spelled almost like another's.

    Returns:
        Their names, sorted.

    Raises:
        UsageError: one is spelled almost like one of the model's, or like another new one.
    """
    for name, clause in _nearly_known(corrections, labels, allowed):
        other = f"write that, or pass {option('new_categories')} {name!r} if it is another"
        raise UsageError(f"{corrections.path} {clause}; {other}.")
    return sorted(set(corrections.taught.values()) - set(labels))


def tell_nearly_known(corrections, labels):
    """Log which categories may be mistyped names of others; see `find_new_categories`."""
    for _, clause in _nearly_known(corrections, labels):
        log.info(f"{corrections.path} {clause}; if it is mistyped, write that and run the command again.")


def _nearly_known(corrections, labels, allowed=()):
    """Yield a new category that is spelled almost like one of the model's, or like another new one, and a clause that
    says so."""
    known, allowed = {label: label for label in labels}, set(map(canonical, allowed))
    known.update((category.name, category.label) for category in CATEGORIES if category.label in known)
    for name in sorted(set(corrections.decided.values()) - set(labels)):
        likely = difflib.get_close_matches(_key(name), map(_key, known), 1, _ALIKE)
        if likely and name not in allowed:
            meant = next(label for key, label in known.items() if _key(key) == likely[0])
            file = next(file for file, category in corrections.decided.items() if category == name)
            yield name, f"has the CATEGORY {name!r} (of {file}), almost {meant!r}"
        known[name] = name


def _key(name):
    """What names are compared by: a difference in case or in the sign between two words makes no other category."""
    return "".join(sign if sign.isalnum() else " " for sign in name.casefold())
