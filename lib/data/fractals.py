"""Records of drawn fractals: a data set for pre-training and distilling that needs no photograph."""

import contextlib
import functools
import json
import os
import time
from typing import NamedTuple

import simplejpeg

from lib.data.attractors import CANVAS, draw_category
from lib.data.record_format import make_record, record_ends
from lib.display.contact_sheet import contact_sheet
from lib.errors import UsageError, WorkError
from lib.storage.files import open_locked, whole_file
from lib.storage.untrusted import parse_json
from lib.system.memory import amount
from lib.system.parallel import cores, in_order
from lib.system.progress import progress

RULES = 1  # another number where the same settings give other pictures
TEST_VIEW = 0  # of each category; the views from 1 on are for training

_KINDS = ("train", "test")
_TOGETHER = 32  # pictures of the published size that a process draws before it gives them back
_SHEET = 64  # categories on a contact sheet
_COLUMNS = 8
_FLUSH_SECONDS = 1


class Settings(NamedTuple):
    """What the records depend on.

    Attributes:
        categories: how many; they are numbered from 0.
        size: height and width of the pictures.
        views: how many pictures of each category are for training; one more is for the test.
        quality: of the JPEGs.
        seed: what all that is drawn follows from.
    """

    categories: int
    size: int
    views: int
    quality: int
    seed: int


class _Places(NamedTuple):
    """The files of a prefix, and their drafts."""

    train: str
    test: str
    settings: str
    state: str

    @property
    def records(self):
        return self.train, self.test


def _places(prefix):
    return _Places(*(f"{prefix}-{name}" for name in ("train.tfr", "test.tfr", "settings.json", "partial.json")))


def _draft(path):
    return f"{path}.partial"


def make_fractals(settings, prefix, processors=None, report=print):
    """Draw fractals and write them as records; go on where an earlier call was stopped.

    The records are in the order of the categories, those of one in the order of the views: so what is written for fewer
    categories is how the files for more of them begin.

    Args:
        settings: the `Settings`.
        prefix: what the names of the files that are written begin with.
        processors: how many cores to use; None for all.
        report: called with each message for the user.

    Returns:
        The paths of the files for training and for the test, and whether anything was done: False if they are there
        already, and with these settings.

    Raises:
        UsageError: there are such files that this function didn't write, or another process is at it.
        WorkError: something can't be written, or there is no room for it.
    """
    places = _places(prefix)
    if _complete(places, settings) and _read_json(places.state).get("fractals") != _described(settings):
        return (*places.records, False)
    _check_former(places)
    with _state(places, settings):
        if not _complete(places, settings, rename=True):
            done = _begin(places, settings)
            if done:
                report(f"{done:,} of {settings.categories:,} categories have already been drawn.")
            elif os.path.exists(places.settings):
                report(f"{places.settings} has other settings; its records will be replaced at the end.")
            _draw(places, settings, done, processors)
            _finish(places, settings)
    return (*places.records, True)


def _complete(places, settings, rename=False):
    """Whether all is there as it should be; `rename` drafts that only lack their names, as after a kill."""
    recorded = _read_json(places.settings)
    if recorded.get("fractals") != _described(settings):
        return False
    for kind, path in zip(_KINDS, places.records):
        size = recorded.get("bytes", {}).get(kind, -1)
        if rename and _size(_draft(path)) == size:
            os.replace(_draft(path), path)
        if _size(path) != size:
            return False
    return True


def _described(settings):
    return {**settings._asdict(), "rules": RULES}


def _read_json(path):
    """What a file of this module holds; nothing if it is none."""
    try:
        with open(path, encoding="utf-8") as file:
            content = parse_json(file.read())
    except (OSError, ValueError):
        return {}
    sound = isinstance(content, dict) and isinstance(content.get("bytes", {}), dict) and "fractals" in content
    return content if sound else {}


def _size(path):
    """A file's size in bytes; None for none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def _check_former(places):
    """Refuse to write over what this module hasn't written."""
    for path in (*places.records, places.settings, places.state):
        if os.path.isdir(path):
            raise WorkError(f"{path} is a directory, so no file can be written there.")
    for path in filter(os.path.exists, (*places.records, places.settings)):
        if not _read_json(places.settings):
            raise UsageError(
                f"-o/--output: {path} exists, but was not made by fractals.py; choose another prefix, or remove it."
            )


@contextlib.contextmanager
def _state(places, settings):
    """Have the drafts for oneself while the block runs, and those of other settings removed; forget them when it ends
    well.
    """
    file = open_locked(places.state)
    if file is None:
        raise UsageError(f"{places.state} is in use: another process is making the same records.")
    with file:
        if _read_json(places.state).get("fractals") != _described(settings):
            for path in places.records:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(_draft(path))
            file.truncate(0)
            file.write(json.dumps({"fractals": _described(settings)}).encode())
            file.flush()
        yield
        os.unlink(places.state)


def _begin(places, settings):
    """Leave whole categories in the drafts, the same ones in both; how many."""
    ends = [record_ends(_draft(path)) if os.path.exists(_draft(path)) else [] for path in places.records]
    counts = (settings.views, 1)
    done = min(len(found) // count for found, count in zip(ends, counts))
    for path, found, count in zip(places.records, ends, counts):
        with open(_draft(path), "ab") as file:
            file.truncate(found[done * count - 1] if done else 0)
    return done


def _draw(places, settings, done, processors):
    """Draw what is not done and append it to the drafts."""
    workers = min(processors or cores(), cores())
    work = functools.partial(_records_of, settings)
    results = in_order(work, _portions(settings, done), workers, 2 * workers, processes=workers > 1)
    unchecked = True
    flushed = time.monotonic()
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(_appended(_draft(path))) for path in places.records]
        stack.enter_context(contextlib.closing(results))
        advance = stack.enter_context(progress((settings.categories - done) * (settings.views + 1), "images"))
        for portion, records in results:
            if unchecked:
                _check_room(places, settings, done, records)
                unchecked = False
            for _, view, record in records:
                with _sentence(places.records[view == TEST_VIEW]):
                    files[view == TEST_VIEW].write(record)
            if time.monotonic() - flushed > _FLUSH_SECONDS:
                for file, path in zip(files, places.records):
                    with _sentence(path):
                        file.flush()
                flushed = time.monotonic()
            advance(sum(len(views) for _, views in portion))


@contextlib.contextmanager
def _appended(path):
    """Open a file to append to it; what was written is on the disk when the block ends well."""
    with _sentence(path):
        file = open(path, "ab")  # noqa: SIM115
    try:
        yield file
        with _sentence(path):
            file.flush()
            os.fsync(file.fileno())
    finally:
        with contextlib.suppress(OSError):  # what doesn't go into a full disk has been told of
            file.close()


@contextlib.contextmanager
def _sentence(path):
    try:
        yield
    except OSError as error:
        raise WorkError(
            f"{path} can't be written ({error.strerror}); once it can, run the same command again to resume."
        ) from error


def _portions(settings, done):
    """Yield tuples of pairs of a category and some of its views, in order: what a process draws at once."""
    images = settings.views + 1
    most = max(1, _TOGETHER * CANVAS**2 // max(settings.size, CANVAS) ** 2)
    if images <= most:
        step = most // images
        for first in range(done, settings.categories, step):
            last = min(first + step, settings.categories)
            yield tuple((category, range(images)) for category in range(first, last))
    else:
        for category in range(done, settings.categories):
            for first in range(0, images, most):
                yield ((category, range(first, min(first + most, images))),)


def _records_of(settings, portion):
    """Draw a portion: a list of category, view and record."""
    records = []
    for category, views in portion:
        for view, pixels in zip(views, draw_category(settings.seed, category, views, settings.size)):
            jpeg = simplejpeg.encode_jpeg(pixels, settings.quality, "RGB", "420")
            records.append((category, view, make_record(category, jpeg)))
    return records


def _check_room(places, settings, done, records):
    """See whether there is room for all, by the first records that were drawn."""
    mean = sum(len(record) for _, _, record in records) / len(records)
    need = int(mean * (settings.categories - done) * (settings.views + 1))
    space = os.statvfs(os.path.dirname(places.train) or ".")
    room = space.f_bavail * space.f_frsize
    if need > room:
        raise WorkError(
            f"-o/--output: {amount(room)} are free, but about {amount(need)} are needed for "
            f"{places.train} and {places.test}."
        )


def _finish(places, settings):
    """Let the files appear."""
    sizes = {kind: _size(_draft(path)) for kind, path in zip(_KINDS, places.records)}
    # First, so that a process that is killed after this line leaves what `_complete` completes.
    with whole_file(places.settings) as file:
        json.dump({"fractals": _described(settings), "bytes": sizes}, file, indent=2)
        file.write("\n")
    for path in places.records:
        os.replace(_draft(path), path)


def draw_sheet(settings, path):
    """Draw the first 64 categories, as they are in training, on a contact sheet.

    Args:
        settings: the `Settings`.
        path: the file to write, `.png`, `.jpg` or `.jpeg`.

    Raises:
        OSError: it can't be written.
    """
    rows = []
    for first in range(0, min(settings.categories, _SHEET), _COLUMNS):
        row = range(first, min(first + _COLUMNS, settings.categories))
        pictures = [draw_category(settings.seed, category, [TEST_VIEW + 1], settings.size)[0] for category in row]
        rows.append((f"categories {row[0]} to {row[-1]}", pictures))
    with whole_file(path, "wb") as file:
        contact_sheet(rows).save(file, "PNG" if path.lower().endswith(".png") else "JPEG", quality=85)
