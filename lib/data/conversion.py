"""From a collection's image files to records for training, validation and test."""

import contextlib
import glob
import os
import re
import threading
import time
import warnings
from typing import NamedTuple, Tuple

import numpy as np
import simplejpeg

from lib.data.categories import CATEGORIES, Category, find_category, read_categories, write_categories
from lib.data.duplicates import difference_hash, join, near_groups
from lib.data.images import MAX_PIXELS, ImageError, limit_memory, list_images, read_image
from lib.data.record_format import make_record
from lib.data.shards import Shard, of_folder
from lib.data.splits import SPLITS, UNUSED, shuffled, split, straddling
from lib.errors import UsageError, WorkError
from lib.storage.files import checksum, whole_file
from lib.storage.names import escape_name, unescape_name
from lib.storage.spool import Spool, Spooled
from lib.storage.tables import check_errors_table, write_errors_table
from lib.storage.untrusted import read_tsv
from lib.system.parallel import in_order, reading_threads
from lib.system.progress import progress

_INDEX_HEADER = "FILE\tCATEGORY\tSPLIT\tRECORD\tSHA256\tDHASH\tTFR\n"
_SAVE_SECONDS = 0.3
_CHUNK = 8  # images that a thread reads before it gives them back


class Item(NamedTuple):
    """A labelled image file.

    Attributes:
        path: where it is.
        category: as text.
        name: what its place in the records follows from; the same wherever the collection lies.
        group: what it belongs to, "" for nothing.
        split: the one that is given for it.
    """

    path: str
    category: str
    name: str
    group: str = ""
    split: int = UNUSED


class Converted(NamedTuple):
    """What was made.

    Attributes:
        categories: the `Category`s.
        counts: int64 `(categories, 4)`: how many images of each are in train, validation and test, and unused.
        files: the record files.
        errors: path -> reason.
    """

    categories: Tuple[Category, ...]
    counts: np.ndarray
    files: Tuple[str, ...]
    errors: dict


def items_of_folder(directory):
    """The images of a folder that has a folder for each category.

    Returns:
        `Item`s, and a dictionary of what can't be used: path -> reason.

    Raises:
        UsageError: there is no category.
    """
    items, errors = [], {}
    with os.scandir(directory) as entries:
        names = sorted((entry.name for entry in entries if entry.is_dir()), key=os.fsencode)
    for name in names:
        paths, problems = list_images(os.path.join(directory, name))
        items.extend(Item(path, escape_name(name), os.path.relpath(path, directory)) for path in paths)
        errors.update(problems)
    if not items:
        raise UsageError(f"-d/--data: {directory} has no subfolders with images, one per category.")
    below = {item.path for item in items}
    for path in list_images(directory)[0]:
        if path not in below:
            errors[path] = "it lies in no category's folder"
    return items, errors


def items_of_table(path):
    """The images that a table lists: columns `FILE CATEGORY`, as of predictions, and perhaps `GROUP` and `SPLIT`.

    Raises:
        UsageError: it is something else, or lists a file twice.
    """
    rows = read_tsv(path, f"-t/--table: {path}")
    header = rows[0][1] if rows else ()
    if "FILE" not in header or "CATEGORY" not in header:
        raise UsageError(f"-t/--table: {path} needs a header with the columns FILE and CATEGORY, separated by tabs.")
    items = {}
    for line, values in rows[1:]:
        row = dict(zip(header, values))
        name, category, place = row.get("FILE"), row.get("CATEGORY"), row.get("SPLIT", "")
        if not name or not category:
            raise UsageError(f"-t/--table: {path} line {line} needs a FILE and a CATEGORY.")
        if category != escape_name(category).replace("\\\\", "\\"):
            raise UsageError(f"-t/--table: {path} line {line} has a CATEGORY with characters that aren't text.")
        if place and place not in SPLITS:
            raise UsageError(
                f"-t/--table: {path} line {line} has the SPLIT {place!r}; it must be one of {', '.join(SPLITS)}."
            )
        name = unescape_name(name)
        if "\0" in name:
            raise UsageError(
                f"-t/--table: {path} line {line} has a FILE with a zero byte, which no file name can have."
            )
        if name in items:
            raise UsageError(f"-t/--table: {path} line {line} repeats the FILE {name}.")
        given = SPLITS.index(place) if place else UNUSED
        items[name] = Item(name, category, name, row.get("GROUP", ""), given)
    if not items:
        raise UsageError(f"-t/--table: {path} lists no files.")
    return list(items.values())


def convert(
    items,
    errors,
    prefix,
    per_class,
    size=96,
    quality=94,
    seed=123456789,
    shards=1,
    duplicates=4,
    herbariograph=False,
    max_pixels=MAX_PIXELS,
    processors=None,
    parts=None,
    report=print,
):
    """Read labelled images and write them as records; go on where an earlier call was stopped.

    Args:
        items: `Item`s.
        errors: a dictionary of files that can't be used: path -> reason.
        prefix: what the names of the files that are written begin with.
        per_class: a `lib.data.per_class.PerClass`.
        size: height and width of the records' images.
        quality: of the JPEGs.
        seed: what the splits and the order of the records follow from.
        shards: over how many files train is spread.
        duplicates: up to which distance of their dHashes images are kept in one split; None for byte-equal files only.
        herbariograph: use the 17 published categories.
        max_pixels: the largest picture that is decoded.
        processors: how many cores to use; None for all.
        parts: how many parts of them `read_part` has read already; None for none.
        report: called with each message for the user.

    Returns:
        `Converted`. The record files, `-categories.tsv`, `-index.tsv`, `-errors.tsv` and `-mislabels.tsv` are written.

    Raises:
        UsageError: an unknown category, one with too few images, images given to splits that are to be kept together.
        WorkError: something can't be written.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")  # about files, but without their names
    check_errors_table(f"{prefix}-errors.tsv", "-o/--output")
    items = sorted(items, key=lambda item: os.fsencode(item.path))
    categories, category_of = _categories(items, f"{prefix}-categories.tsv", herbariograph, report)
    with Spool(f"{prefix}-partial.sqlite", {"size": size, "quality": quality, "max_pixels": max_pixels}) as spool:
        taken = _take_parts(items, spool, prefix, parts) if parts else ()
        known = _read_all(items, spool, size, quality, max_pixels, processors, errors, report)
        good = [item for item in items if item.path in known]
        indices = np.array([category_of[item.category] for item in good], "int64")
        for index in {category_of[item.category] for item in items} - set(indices.tolist()):
            raise UsageError(
                "{} has no readable image; for example, {}: {}.".format(
                    categories[index].name,
                    *next((item.path, errors[item.path]) for item in items if category_of[item.category] == index),
                )
            )
        alike = _alike(good, known, duplicates)
        _tell_of_groups(alike, report)
        groups = _with_given_groups(alike, good)
        wanted = np.array([item.split for item in good])
        pair = straddling(groups, wanted)
        if pair:
            one, other = (good[index] for index in pair)
            raise UsageError(
                f"-t/--table: {one.path} is in {SPLITS[one.split]} and {other.path} in {SPLITS[other.split]}, "
                "but they are near-duplicates or in one GROUP; put both in one SPLIT, or leave one out."
            )
        order = shuffled([os.fsencode(item.name) for item in good], seed)
        names = [category.name for category in categories]
        places = split(indices, groups, wanted, per_class, order, names)
        _tell_of_gaps(indices, places, per_class, names, report)
        written = _write(prefix, good, known, indices, places, order, names, shards, spool)
        if not os.path.exists(f"{prefix}-categories.tsv"):
            write_categories(f"{prefix}-categories.tsv", categories)
        write_errors_table(f"{prefix}-errors.tsv", errors)
        _write_mislabels(f"{prefix}-mislabels.tsv", good, indices, alike, names, report)
        spool.remove()
    for path in taken:
        os.unlink(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_errors_of(path))
    counts = np.stack([np.bincount(indices[places == place], minlength=len(names)) for place in (0, 1, 2, UNUSED)])
    return Converted(categories, counts.T, written, errors)


def read_part(items, prefix, shard, size=96, quality=94, max_pixels=MAX_PIXELS, processors=None, report=print):
    """Read a part of labelled images, for `convert` to write when all parts are read; go on where a call was stopped.

    Args:
        items: `Item`s, all of them.
        prefix: what the names of the files that are written begin with.
        shard: the `lib.data.shards.Shard`.
        size, quality, max_pixels, processors, report: see `convert`.

    Returns:
        How many images were read, and a dictionary of those that can't be: path -> reason.

    Raises:
        WorkError: something can't be written.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    path, errors = _part(prefix, shard), {}
    check_errors_table(_errors_of(path), "-o/--output")
    listing, items = _share(items, shard)
    with Spool(path, {"size": size, "quality": quality, "max_pixels": max_pixels}) as spool:
        known = _read_all(items, spool, size, quality, max_pixels, processors, errors, report)
        spool.finish({"shard": str(shard), **listing.about})
    write_errors_table(_errors_of(path), errors)
    return len(known), errors


def _part(prefix, shard):
    """Where a part's images are kept."""
    return f"{prefix}-part-{shard.number:05d}-of-{shard.count:05d}.sqlite"


def _errors_of(part):
    return f"{part[: -len('.sqlite')]}-errors.tsv"


def _share(items, shard):
    """The `lib.data.shards.Listing` of a part of `Item`s, and those."""
    by_path = {item.path: item for item in items}
    listing = of_folder(sorted(by_path, key=os.fsencode), {}, shard)
    return listing, [by_path[path] for path in listing.paths]


def _take_parts(items, spool, prefix, count):
    """Take over what `read_part` read; the files that it is in. UsageError if one is missing or does not fit."""
    taken = []
    about = _share(items, Shard())[0].about
    for number in range(1, count + 1):
        shard = Shard(number, count)
        path = _part(prefix, shard)
        try:
            spool.take(path, {"shard": str(shard), **about})
        except UsageError as error:
            raise UsageError(f"--merge: {error} Run --shard {shard} to make it.") from error
        taken.append(path)
    return taken


def _categories(items, path, herbariograph, report):
    """The categories, and a dictionary from their names in `items` to their indices."""
    if os.path.exists(path):
        categories = read_categories(path)
        report(f"Using the categories in {path}.")
        if herbariograph and categories != CATEGORIES:
            raise UsageError(f"--herbariograph: {path} has other categories; remove it, or choose another -o/--output.")
    elif herbariograph:
        categories = CATEGORIES
    else:
        names = sorted({item.category for item in items})
        categories = tuple(Category(index, name, name) for index, name in enumerate(names))
    found = {}
    for name in sorted({item.category for item in items}):
        category = find_category(name, categories)
        if category is None:
            source = f"categories in {path}" if os.path.exists(path) else "17 published categories"
            raise UsageError(f"{name!r} is not one of the {source}; rename it, or add it there.")
        found[name] = category.index
    return categories, found


def _read_all(items, spool, size, quality, max_pixels, processors, errors, report):
    """Read all images into the spool, and what can't be read into `errors`; path -> `Spooled` of the others."""
    known, current = spool.known(), {}
    for item in items:
        with contextlib.suppress(OSError):
            status = os.stat(item.path)
            kept = known.get(item.path)
            if kept and (kept.bytes, kept.modified) == (status.st_size, status.st_mtime_ns):
                current[item.path] = kept
    todo = [item.path for item in items if item.path not in current]
    if current:
        report(f"{len(current):,} of {len(items):,} images have already been read.")
    threads = reading_threads(processors)
    limit_memory(processors)
    stopped = threading.Event()

    def work(paths):
        return [None if stopped.is_set() else _read(path, size, quality, max_pixels) for path in paths]

    saved = time.monotonic()
    chunks = [todo[start : start + _CHUNK] for start in range(0, len(todo), _CHUNK)]
    results = in_order(work, chunks, threads, 2 * threads, stopped)
    with contextlib.closing(results), progress(len(todo), "images") as advance:
        for paths, read in results:
            for path, result in zip(paths, read):
                if isinstance(result, ImageError):
                    errors[path] = str(result)
                else:
                    current[path] = result[0]
                    spool.add(path, *result)
            if time.monotonic() - saved > _SAVE_SECONDS:
                spool.save()
                saved = time.monotonic()
            advance(len(paths))
    spool.save()
    return current


def _read(path, size, quality, max_pixels):
    """An image file as a `Spooled` and a JPEG, or the `ImageError` that says why it can't be."""
    try:
        pixels = np.rint(read_image(path, size, max_pixels=max_pixels)).astype("uint8")
        status, digest = os.stat(path), checksum(path)
    except ImageError as error:
        return error
    except OSError as error:
        return ImageError(f"can't be read: {error.strerror}")
    jpeg = simplejpeg.encode_jpeg(pixels, quality, "RGB", "420")
    return Spooled(status.st_size, status.st_mtime_ns, digest, difference_hash(pixels)), jpeg


def _alike(items, known, bits):
    """Group what is the same picture: int64 `(items,)`, the lowest index in each one's group."""
    contents = [known[item.path].sha256 for item in items]
    alike = _numbered(contents)
    if bits is not None:
        near = near_groups(np.array([known[item.path].dhash for item in items], "uint64"), bits)
        alike = _joined(alike, near.tolist())
    return alike


def _with_given_groups(alike, items):
    return _joined(alike, [item.group or index for index, item in enumerate(items)])


def _numbered(keys):
    """For each key the index of the first one that is equal."""
    first = {}
    return np.array([first.setdefault(key, index) for index, key in enumerate(keys)], "int64")


def _joined(groups, keys):
    """Join the groups of what has equal keys."""
    return join(groups, np.stack([np.arange(len(groups)), _numbered(keys)], axis=1))


def _tell_of_groups(alike, report):
    sizes = np.bincount(alike, minlength=1)
    sizes = sizes[sizes > 1]
    if len(sizes):
        report(
            f"{sizes.sum():,} images are near-duplicates of others, in {len(sizes):,} groups of up to {sizes.max():,}; "
            "each group stays in one split."
        )


def _tell_of_gaps(indices, places, per_class, names, report):
    """Name the categories that have images, but none in a split that was asked for."""
    for place, name in enumerate(SPLITS):
        if (per_class.shares or per_class.counts)[place]:
            lacking = sorted(set(indices.tolist()) - set(indices[places == place].tolist()))
            if lacking:
                report(f"Too few images to put any in {name}: {', '.join(names[index] for index in lacking)}.")


def _write(prefix, items, known, indices, places, order, names, shards, spool):
    """Write the record files and the index, all at once in the end; the record files' paths."""
    _remove_drafts(prefix)
    rows = [(SPLITS[place] if place != UNUSED else "unused", "", "") for place in places]
    files, drafts = [], {}
    try:
        for place, name in enumerate(SPLITS):
            members = [index for index in order if places[index] == place]
            parts = shards if place == 0 else 1
            for part in range(parts if members else 0):
                suffix = f"-{part:05d}-of-{parts:05d}" if parts > 1 else ""
                path = f"{prefix}-{name}{suffix}.tfr"
                files.append(path)
                share = members[len(members) * part // parts : len(members) * (part + 1) // parts]
                with _draft(path, drafts) as file:
                    for number, index in enumerate(share):
                        file.write(make_record(int(indices[index]), spool.jpeg(items[index].path)))
                        rows[index] = (name, str(number), os.path.basename(path))
        former = _former_files(f"{prefix}-index.tsv")
        with _draft(f"{prefix}-index.tsv", drafts) as file:
            file.write(_INDEX_HEADER.encode())
            for item, category, (name, number, path) in zip(items, indices, rows):
                about = known[item.path]
                values = (escape_name(item.path), names[category], name, number, about.sha256, f"{about.dhash:016x}")
                file.write(("\t".join([*values, escape_name(path)]) + "\n").encode())
        for path, draft in drafts.items():  # all are written: the index, the last of them, is never before its records
            os.replace(draft, path)
    except BaseException:
        for draft in drafts.values():
            with contextlib.suppress(OSError):
                os.unlink(draft)
        raise
    for name in former - {os.path.basename(path) for path in files}:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(os.path.dirname(prefix), name))
    return tuple(files)


@contextlib.contextmanager
def _draft(path, drafts):
    """Open a draft of a file for writing; it is on the disk when the block ends, and in `drafts` under its path."""
    if os.path.isdir(path):
        raise WorkError(f"{path} is a directory, so no file can be written there.")
    drafts[path] = f"{path}.{os.getpid()}.tmp"
    with open(drafts[path], "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _remove_drafts(prefix):
    """Remove what a run that was killed while writing left; no other is at work, since the spool is ours."""
    for path in glob.glob(f"{glob.escape(prefix)}-*.tmp"):
        if re.fullmatch(r"-(train|validation|test|index)[-0-9of]*\.(tfr|tsv)\.\d+\.tmp", path[len(prefix) :]):
            os.unlink(path)


def _former_files(path):
    """The record files that a former index lists, which are not to be taken for what is written now."""
    try:
        with open(path, encoding="utf-8") as file:
            if file.readline() != _INDEX_HEADER:
                return set()
            names = {unescape_name(line.rstrip("\n").rsplit("\t", 1)[-1]) for line in file}
    except (OSError, UnicodeDecodeError):
        return set()
    return {name for name in names if name.endswith(".tfr") and os.path.basename(name) == name}


def _write_mislabels(path, items, indices, alike, names, report):
    """List what is nearly the same but of different categories; without any, remove a former list."""
    members = {}
    for index, group in enumerate(alike.tolist()):
        members.setdefault(group, []).append(index)
    mixed = [group for group in members.values() if len({int(indices[index]) for index in group}) > 1]
    if not mixed:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    with whole_file(path) as file:
        file.write("GROUP\tFILE\tCATEGORY\n")
        for number, group in enumerate(mixed):
            for index in group:
                file.write(f"{number}\t{escape_name(items[index].path)}\t{names[indices[index]]}\n")
    report(f"{len(mixed):,} groups of near-duplicates have several categories, probably by mistake: see {path}.")
