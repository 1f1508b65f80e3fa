"""Records of drawn fractals: a data set for pre-training and distilling that needs no photograph."""

import contextlib
import dataclasses
import functools
import itertools
import json
import logging
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

log = logging.getLogger(__name__)

RULES = 1  # another number where the same settings give other pictures
TEST_VIEW = 0  # of each category; the views from 1 on are for training

_KEY = struct.Struct(">II")  # of a record in the journal: category and view; in bytes they have the same order
_KINDS = ("train", "test")
_PUBLISHED_SIZE = 224
_PORTION = 32  # pictures of the published size that a process draws before it hands them back
_SHEET = 64  # categories on a contact sheet
_COLUMNS = 8


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is drawn.

    Attributes:
        output: what the names of the files that are written begin with.
        categories: how many; they are numbered from 0.
        size: height and width of the pictures in pixels.
        views: how many pictures of each category are for training; one more is for the test.
        seed: what all that is drawn follows from.
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


def make_fractals(settings):
    """Draw fractals and write them as records; go on where an earlier call was stopped.

    The records are in the order of the categories, those of one in the order of the views: so what is written for fewer
    categories is how the files for more of them begin.

    Args:
        settings: `Settings`.

    Returns:
        Pairs of a file of records and how many it has: for training and for the test.

    Raises:
        UsageError: there are such files that this function didn't write, or another process is drawing them.
        WorkError: something can't be written, or there is no room for it.
    """
    if _is_complete(settings):
        _remove_journal(settings)
        log.info(f"{' and '.join(settings.files)} already exist with these settings; there is nothing to do.")
    else:
        with _journal(settings, replace=True) as journal:
            if journal.finished is None:  # else the files may be those of a call that was killed while writing them
                _check_former(settings)
                _draw(settings, journal)
                journal.finish({})
            _write(settings, journal)
            journal.remove()
    if settings.sheet:
        _draw_sheet(settings)
    return tuple(zip(settings.files, (settings.categories * settings.views, settings.categories)))


def _journal(settings, replace):
    return Journal(
        _journal_path(settings), "fractals", settings.records_follow_from, settings.files[0], replace=replace
    )


def _journal_path(settings):
    return f"{settings.output}-partial.sqlite"


def _remove_journal(settings):
    """Remove the journal of a call that was killed when all but this was done."""
    if os.path.exists(_journal_path(settings)):
        with contextlib.suppress(UsageError), _journal(settings, replace=False) as journal:
            journal.remove()


def _settings_file(settings):
    return f"{settings.output}-settings.json"


def _is_complete(settings):
    """Whether all records are there, and of these settings."""
    recorded = _recorded(settings)
    return recorded.get("fractals") == settings.records_follow_from and all(
        os.path.isfile(path) and os.path.getsize(path) == recorded["bytes"].get(kind)
        for kind, path in zip(_KINDS, settings.files)
    )


def _recorded(settings):
    """What is recorded of the files that there are; an empty dictionary where this module hasn't written them."""
    try:
        with open(_settings_file(settings), encoding="utf-8") as file:
            content = parse_json(file.read())
    except (OSError, ValueError):
        return {}
    sound = isinstance(content, dict) and "fractals" in content and isinstance(content.get("bytes"), dict)
    return content if sound else {}


def _check_former(settings):
    """Refuse to write over what this module hasn't written."""
    files = [path for path in (*settings.files, _settings_file(settings)) if os.path.exists(path)]
    recorded = _recorded(settings)
    for path in files:
        if os.path.isdir(path):
            raise WorkError(f"{path} is a directory, so no file can be written there.")
        if not recorded:
            raise UsageError(
                f"{path} exists, but was not made by fractals.py; choose another prefix, or remove it.", "output"
            )
    if files and recorded["fractals"] != settings.records_follow_from:
        log.info(f"{_settings_file(settings)} has other settings; its records will be replaced at the end.")


def _draw(settings, journal):
    """Draw what is not in the journal yet."""
    total = settings.categories * (settings.views + 1)
    done = len(journal)
    if done:
        log.info(f"{done:,} of {total:,} pictures have already been drawn.")
    keys = (_KEY.pack(*key) for key in itertools.product(range(settings.categories), range(settings.views + 1)))
    missing = map(_KEY.unpack, journal.missing(keys))
    workers = cores(settings.processors)
    work = functools.partial(_records_of, settings)
    drawn = in_order(work, _portions(settings, missing), workers, 2 * workers, processes=workers > 1)
    room_is_checked = False
    with contextlib.closing(drawn), progress(total - done, "images") as advance:
        for _, records in drawn:
            if not room_is_checked:
                _check_room(settings, records, done, total)
                room_is_checked = True
            journal.extend(records)
            advance(len(records))


def _portions(settings, missing):
    """Yield lists of pairs of a category and some of its views: what a process draws at once.

    Args:
        missing: pairs of a category and a view, ascending.
    """
    most = max(1, _PORTION * _PUBLISHED_SIZE**2 // max(settings.size, _PUBLISHED_SIZE) ** 2)
    portion, count = [], 0
    for category, pairs in itertools.groupby(missing, key=lambda pair: pair[0]):
        views = [view for _, view in pairs]
        for first in range(0, len(views), most):
            some = views[first : first + most]
            if count + len(some) > most:
                yield portion
                portion, count = [], 0
            portion.append((category, some))
            count += len(some)
    if portion:
        yield portion


def _records_of(settings, portion):
    """Draw a portion: entries for the journal."""
    import simplejpeg  # Here as below, so that a script that needs `Settings` only starts at once.

    from lib.data.attractors import draw_category
    from lib.data.record_format import make_record

    entries = []
    for category, views in portion:
        for view, pixels in zip(views, draw_category(settings.seed, category, views, settings.size)):
            jpeg = simplejpeg.encode_jpeg(pixels, settings.quality, "RGB", "420")
            entries.append((_KEY.pack(category, view), None, make_record(category, jpeg)))
    return entries


def _check_room(settings, records, done, total):
    """See whether there is room for the journal and, in the end, the files beside it, by the first few records."""
    mean = sum(len(record) for _, _, record in records) / len(records)
    need = int(mean * (total - done + total))
    space = os.statvfs(os.path.dirname(settings.output) or ".")
    room = space.f_bavail * space.f_frsize
    if need > room:
        raise WorkError(
            f"{amount(room)} are free, but about {amount(need)} are needed for {' and '.join(settings.files)} while "
            "they are made.",
            "output",
        )


def _write(settings, journal):
    """Write the files from the journal, and last what says that they are complete."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_settings_file(settings))  # of former files, which are replaced one after the other
    sizes = dict.fromkeys(_KINDS, 0)
    try:
        with contextlib.ExitStack() as stack:
            files = {kind: stack.enter_context(whole_file(path, "wb")) for kind, path in zip(_KINDS, settings.files)}
            for key, _, record in journal.entries():
                kind = "test" if _KEY.unpack(key)[1] == TEST_VIEW else "train"
                sizes[kind] += files[kind].write(record)
        with whole_file(_settings_file(settings)) as file:
            json.dump({"fractals": settings.records_follow_from, "bytes": sizes}, file, indent=2)
            file.write("\n")
    except OSError as error:
        raise WorkError(
            f"{error.filename or settings.files[0]} can't be written ({error.strerror}); once it can, run the same "
            "command again to resume."
        ) from error


def _draw_sheet(settings):
    """Draw the first 64 categories, as they are in training, on a contact sheet."""
    from lib.data.attractors import draw_category
    from lib.display.contact_sheet import contact_sheet

    rows = []
    for first in range(0, min(settings.categories, _SHEET), _COLUMNS):
        row = range(first, min(first + _COLUMNS, settings.categories))
        pictures = [draw_category(settings.seed, category, [TEST_VIEW + 1], settings.size)[0] for category in row]
        rows.append((f"categories {row[0]} to {row[-1]}", pictures))
    with whole_file(settings.sheet, "wb") as file:
        kind = "PNG" if settings.sheet.lower().endswith(".png") else "JPEG"
        contact_sheet(rows).save(file, kind, quality=85)
