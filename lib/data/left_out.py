"""What folders have beside images: what is left out of them, and counted by kind."""

import collections
import fnmatch
import logging
import os
import re

from lib.storage.names import escape_name
from lib.system.words import counted

log = logging.getLogger(__name__)

# What systems put into folders, in lower case; hidden names, which begin with a point, are left out, too.
SYSTEM = frozenset(
    b"@eadir @recycle #recycle #snapshot $recycle.bin __macosx lost+found thumbs.db ehthumbs.db desktop.ini".split()
) | {b"system volume information"}

_MOST_KINDS = 20  # that a message names; the others are one sum


class LeftOut:
    """What a folder has beside its images: decides about names, and counts them by kind.

    Args:
        exclude: globs of further names to leave out. One with a slash is compared with the path below the folder that
            is searched, another with the name of each file and folder; `*` stands for any characters.
    """

    def __init__(self, exclude=None):
        self._patterns = [("/" in glob.rstrip("/"), _pattern_of(glob)) for glob in exclude or ()]
        self._counts = collections.Counter()

    def leave_out(self, name, parent):
        """Leave a file or folder out, and count it, if its name is one that is to be left out.

        Args:
            name: bytes.
            parent: the path, below the folder that is searched, of the folder that it is in, with a slash at its end;
                empty for that folder itself.

        Returns:
            Whether it is left out.
        """
        if name[:1] == b".":
            kind = "hidden"
        elif name.lower() in SYSTEM:
            kind = name.decode()
        elif self._patterns and self._excludes(os.fsdecode(name), os.fsdecode(parent)):
            kind = "excluded"
        else:
            return False
        self._counts[kind] += 1
        return True

    def _excludes(self, name, parent):
        return any(pattern.fullmatch(parent + name if whole else name) for whole, pattern in self._patterns)

    def count(self, name):
        """Count a file that is no image by its ending."""
        ending = os.path.splitext(os.fsdecode(name))[1].lower()
        rest = re.sub(r"^\.\w*", "", ending)  # such as the query of a web address
        shown = ending[: len(ending) - len(rest[1:])] + ("…" if rest[1:] else "")
        kind = escape_name(shown) if len(ending) > 1 else "without an ending"
        self._counts[kind if kind in self._counts or len(self._counts) < 1000 else "others"] += 1

    def __str__(self):
        """Such as `120 .heic, 3 without an ending, 14 hidden`; empty for nothing."""
        first = sorted(self._counts.items(), key=lambda each: (-each[1], each[0]))[:_MOST_KINDS]
        others = sum(self._counts.values()) - sum(count for _, count in first)
        shown = [f"{count:,} {kind}" for kind, count in first]
        return ", ".join(shown + ([counted(others, "other")] if others else []))

    def tell(self):
        """Say in one line what was left out, if anything was."""
        if self._counts:
            log.info(f"left out: {self}.")


def _pattern_of(glob):
    return re.compile(fnmatch.translate(glob.rstrip("/")))
