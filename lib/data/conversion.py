"""Converting a collection's image files to records for training, validation and test."""

import collections
import dataclasses
import logging
import os
from typing import Optional

from lib.errors import UsageError, option
from lib.system.memory import MAX_PIXELS
from lib.system.shard import Shard

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The source of the records, and how they are made.

    Attributes:
        output: the prefix of the names of the files.
        data: a folder with one subfolder per category; None for a table.
        table: a TSV that gives each file's category.
        herbariograph: use the 17 published categories.
        per_class: how many images of each category go into train, validation and test, see `parse_per_class`.
        duplicates: how many bits the dHashes of near-duplicates, which stay in one split, may differ in; None to keep
            only byte-equal files together.
        seed: of the splits and the order of the records.
        shards: how many files the training records are spread over.
        size: height and width of the records' images in pixels.
        quality: of the JPEGs, 1 to 100.
        max_pixels: the largest picture that is decoded.
        shard: the part of the images to read, for a later call that merges the parts; None to make records.
        merge: the number of parts, read by other calls, to make records from; None for none.
        processors: how many cores to use; None for all.
    """

    output: str
    data: Optional[str] = None
    table: Optional[str] = None
    herbariograph: bool = False
    per_class: str = "0.8:0.1:0.1"
    duplicates: Optional[int] = 4
    seed: int = 123456789
    shards: int = 1
    size: int = 96
    quality: int = 94
    max_pixels: int = MAX_PIXELS
    shard: Optional[Shard] = None
    merge: Optional[int] = None
    processors: Optional[int] = None


def convert(settings):
    """Read labelled images and write them as records; resume what an earlier call began.

    The record files, `-categories.tsv`, `-index.tsv`, `-errors.tsv` and `-mislabels.tsv` are written.

    Args:
        settings: `Settings`.

    Returns:
        The `Category`s, and int64 `(categories, 4)`: how many images of each are in train, validation and test, and
        unused. None where `settings.shard` names a part of the images, which is only read.

    Raises:
        UsageError: categories, splits or parts that don't fit the images.
        WorkError: something can't be written.
    """
    # Here, so that a script that needs only `Settings` starts at once.
    from lib.data.categories import write_categories
    from lib.data.collection import find_categories, items_of_folder, items_of_table
    from lib.data.reading import open_journal, read_images, read_part, remove_parts, take_parts
    from lib.data.record_files import Readable, write_mislabels, write_records
    from lib.data.splits import count_splits, parse_per_class
    from lib.storage.tables import check_errors_table, write_errors_table

    if settings.shard and settings.merge:
        raise UsageError(f"it can't be combined with {option('shard')}; use it once all parts are read.", "merge")
    per_class = parse_per_class(settings.per_class)
    items, errors = items_of_folder(settings.data) if settings.data else (items_of_table(settings.table), {})
    if settings.shard:
        read_part(items, settings)
        return None
    prefix, errors_table = settings.output, f"{settings.output}-errors.tsv"
    check_errors_table(errors_table)
    categories, index_of = find_categories(items, f"{prefix}-categories.tsv", settings.herbariograph)
    with open_journal(settings) as journal:
        if settings.merge:
            take_parts(items, journal, settings)
        facts = read_images(items, journal, settings, errors)
        images = Readable.of(items, facts, index_of, [category.name for category in categories])
        _check_all_have_images(items, images, index_of, errors)
        splits, order, alike = _divide(images, per_class, settings)
        files = write_records(prefix, images, splits, order, journal, settings.shards)
        if not os.path.exists(f"{prefix}-categories.tsv"):
            write_categories(f"{prefix}-categories.tsv", categories)
        write_errors_table(errors_table, errors)
        write_mislabels(f"{prefix}-mislabels.tsv", images, alike)
        journal.remove()
    remove_parts(settings)
    counts = count_splits(images.category, splits, len(categories))
    listed = f"{len(errors):,} errors, listed in {errors_table}" if errors else "no errors"
    log.info(f"{counts[:, :3].sum():,} images in {len(files)} files, {listed}.")
    return categories, counts


def _check_all_have_images(items, images, index_of, errors):
    """Raise UsageError if a category has items, but none that can be read."""
    readable = set(images.category.tolist())
    for item in items:
        index = index_of[item.category]
        if index not in readable:
            raise UsageError(
                f"{images.names[index]} has no readable image; for example, {item.path}: {errors[item.path]}."
            )


def _divide(images, per_class, settings):
    """The split of each image, all indices in the order of the records, and the groups of near-duplicates."""
    from lib.data.duplicates import group_alike, join_equal
    from lib.data.splits import SPLITS, UNUSED, divide, shuffled

    checksums, hashes = zip(*((facts.sha256, facts.dhash) for facts in images.facts))
    alike = group_alike(checksums, hashes, settings.duplicates)
    sizes = [size for size in collections.Counter(alike.tolist()).values() if size > 1]
    if sizes:
        log.info(
            f"{sum(sizes):,} images are near-duplicates of others, in {len(sizes):,} groups of up to {max(sizes):,}; "
            "each group stays in one split."
        )
    groups = join_equal(alike, [item.group or index for index, item in enumerate(images.items)])
    first = {}
    for item, group in zip(images.items, groups.tolist()):
        other = item if item.split == UNUSED else first.setdefault(group, item)
        if other.split != item.split:
            raise UsageError(
                f"{other.path} is in {SPLITS[other.split]} and {item.path} in {SPLITS[item.split]}, but they are "
                "near-duplicates or in one GROUP; put both in one SPLIT, or leave one out.",
                "table",
            )
    order = shuffled([os.fsencode(item.name) for item in images.items], settings.seed)
    splits = divide(images.category, groups, [item.split for item in images.items], per_class, order, images.names)
    for split, name in enumerate(SPLITS):
        lacking = sorted({*images.category.tolist()} - {*images.category[splits == split].tolist()})
        if per_class.numbers[split] and lacking:
            named = ", ".join(images.names[index] for index in lacking)
            log.info(f"Too few images to put any in {name}: {named}.")
    return splits, order, alike
