"""Records of drawn fractals: a data set for pre-training and distilling that needs no photograph."""

import contextlib
import dataclasses
import functools
import itertools
import json
import logging
import operator
import os
import struct
from typing import Optional

from lib.errors import UsageError, WorkError
from lib.storage.files import whole_file
from lib.storage.journal import Journal
from lib.storage.untrusted import parse_json
from lib.system.memory import amount
from lib.system.parallel import cores, in_order
from lib.system.progress import progress
from lib.system.words import counted

log = logging.getLogger(__name__)

RULES = 1  # another number where the same settings give other pictures
TEST_VIEW = 0  # of each category; the views from 1 on are for training

_KEY = struct.Struct(">II")  # of a record in the journal: category and view, big-endian so that keys sort as they do
_KINDS = ("train", "test")
_PUBLISHED_SIZE = 224
_PORTION = 32  # pictures of the published size that a process draws at once
_SHEET = 64  # categories on a contact sheet
_COLUMNS = 8


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a data set of fractals.

    Attributes:
        output: the prefix of the names of the files.
        categories: how many; they are numbered from 0.
        size: height and width of the pictures in pixels.
        views: how many pictures of each category are for training; one more is for the test.
        seed: of the fractals and their views.
        quality: of the JPEGs, 1 to 100.
        sheet: a contact sheet to draw, `.png` or `.jpg`; None for none.
        processors: how many cores to use; None for all.
    """

    output: str
    categories: int = 21_000
    size: int = 224
    views: int = 1
    seed: int = 123456789
    quality: int = 94
    sheet: Optional[str] = None
    processors: Optional[int] = None

    @property
    def files(self):
        """The records for training and for the test."""
        return tuple(f"{self.output}-{kind}.tfr" for kind in _KINDS)

    @property
    def records_follow_from(self):
        """All that the records follow from, as a dictionary."""
        names = ("categories", "size", "views", "seed", "quality")
        return {**{name: getattr(self, name) for name in names}, "rules": RULES}

    @property
    def settings_file(self):
        """The file that says that the records are complete, and what they follow from."""
        return f"{self.output}-settings.json"


def make_fractals(settings):
    """Draw fractals and write them as records; resume what an earlier call began.

    The records are sorted by category, then by view: so the files for fewer categories are the beginning of the files
    for more.

    Args:
        settings: `Settings`.

    Returns:
        Pairs of a file of records and their number: for training and for the test.

    Raises:
        UsageError: other files have these names, or another process is drawing the fractals.
        WorkError: the disk is too small, or something can't be written.
    """
    path, follow_from = f"{settings.output}-partial.sqlite", settings.records_follow_from
    open_journal = functools.partial(Journal, path, "fractals", follow_from, settings.files[0])
    sizes = {kind: os.path.getsize(path) for kind, path in zip(_KINDS, settings.files) if os.path.isfile(path)}
    if _recorded(settings) == (follow_from, sizes):
        if os.path.exists(path):  # of a call that was killed just before removing it, or of other settings
            with contextlib.suppress(UsageError), open_journal() as journal:
                journal.remove()
        log.info(f"{' and '.join(settings.files)} already exist with these settings; there is nothing to do.")
    else:
        with open_journal(replace=True) as journal:
            if journal.finished is None:  # else the files may be those of a call that was killed while writing them
                _check_former(settings)
                _draw(settings, journal)
                journal.finish({})
            _write(settings, journal)
            journal.remove()
    if settings.sheet:
        _draw_sheet(settings)
    return tuple(zip(settings.files, (settings.categories * settings.views, settings.categories)))


def _recorded(settings):
    """The settings and sizes of existing records; None twice if this module hasn't written them."""
    try:
        with open(settings.settings_file, encoding="utf-8") as file:
            content = parse_json(file.read())
        return content["fractals"], content["bytes"]
    except (OSError, ValueError, KeyError, TypeError):
        return None, None


def _check_former(settings):
    """Refuse to overwrite what this module hasn't written."""
    files = [path for path in (*settings.files, settings.settings_file) if os.path.exists(path)]
    recorded, _ = _recorded(settings)
    if files and not recorded:
        message = f"{files[0]} exists, but was not made by fractals.py; choose another prefix, or remove it."
        raise UsageError(message, "output")
    if files and recorded != settings.records_follow_from:
        log.info(f"{settings.settings_file} has other settings; its records will be replaced at the end.")


def _draw(settings, journal):
    """Draw what is missing in the journal."""
    total, done = settings.categories * (settings.views + 1), len(journal)
    if done:
        log.info(f"{done:,} of {counted(total, 'picture')} have already been drawn.")
    keys = (_KEY.pack(*key) for key in itertools.product(range(settings.categories), range(settings.views + 1)))
    missing = map(_KEY.unpack, journal.missing(keys))
    most = max(1, _PORTION * _PUBLISHED_SIZE**2 // max(settings.size, _PUBLISHED_SIZE) ** 2)
    portions = iter(lambda: list(itertools.islice(missing, most)), [])
    workers = cores(settings.processors)
    drawn = in_order(functools.partial(_records_of, settings), portions, workers, 2 * workers, processes=workers > 1)
    with contextlib.closing(drawn), progress(total - done, "images") as advance:
        for number, (_, records) in enumerate(drawn):
            if number == 0:
                _check_room(settings, records, 2 * total - done)
            journal.extend(records)
            advance(len(records))


def _records_of(settings, portion):
    """Draw pictures, given as pairs of category and view, ascending: entries for the journal."""
    import simplejpeg  # Here as below, so that a script that needs `Settings` only starts at once.

    from lib.data.attractors import draw_category
    from lib.data.record_format import make_record

    entries = []
    for category, pairs in itertools.groupby(portion, operator.itemgetter(0)):
        views = [view for _, view in pairs]
        for view, pixels in zip(views, draw_category(settings.seed, category, views, settings.size)):
            jpeg = simplejpeg.encode_jpeg(pixels, settings.quality, "RGB", "420")
            entries.append((_KEY.pack(category, view), None, make_record(category, jpeg)))
    return entries


def _check_room(settings, records, count):
    """Raise WorkError if there is no room for `count` records of the mean size of the first ones."""
    need = count * sum(len(record) for _, _, record in records) // len(records)
    space = os.statvfs(os.path.dirname(settings.output) or ".")
    room = space.f_bavail * space.f_frsize
    if need > room:
        files = " and ".join(settings.files)
        message = f"{amount(room)} are free, but about {amount(need)} are needed for {files} while they are made."
        raise WorkError(message, "output")


def _write(settings, journal):
    """Write the files from the journal, and last the one that says that they are complete."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(settings.settings_file)  # of former files, which are replaced one after the other
    sizes = dict.fromkeys(_KINDS, 0)
    with journal.resumable():
        with contextlib.ExitStack() as stack:
            files = {kind: stack.enter_context(whole_file(path, "wb")) for kind, path in zip(_KINDS, settings.files)}
            for key, _, record in journal.entries():
                kind = "test" if _KEY.unpack(key)[1] == TEST_VIEW else "train"
                sizes[kind] += files[kind].write(record)
        with whole_file(settings.settings_file) as file:
            json.dump({"fractals": settings.records_follow_from, "bytes": sizes}, file, indent=2)
            file.write("\n")


def _draw_sheet(settings):
    """Draw the first view for training of the first 64 categories on a contact sheet."""
    from lib.data.attractors import draw_category
    from lib.display.contact_sheet import contact_sheet

    rows, shown = [], range(min(settings.categories, _SHEET))
    for row in (shown[first : first + _COLUMNS] for first in shown[::_COLUMNS]):
        pictures = [draw_category(settings.seed, category, [TEST_VIEW + 1], settings.size)[0] for category in row]
        rows.append((f"categories {row[0]} to {row[-1]}", pictures))
    with whole_file(settings.sheet, "wb") as file:
        kind = "PNG" if settings.sheet.lower().endswith(".png") else "JPEG"
        contact_sheet(rows).save(file, kind, quality=85)
