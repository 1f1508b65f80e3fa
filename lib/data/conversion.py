"""Converting a collection's image files to records for training, validation and test."""

import collections
import contextlib
import dataclasses
import logging
import os
from typing import Optional, Sequence

from lib.errors import UsageError, option
from lib.system.memory import MAX_PIXELS
from lib.system.shard import Shard
from lib.system.words import counted

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The source of the records, and how they are made.

    Attributes:
        output: the prefix of the names of the files.
        data: a folder with one subfolder per category; None for a table.
        exclude: globs of files and folders of `data` that are left out, see `lib.data.left_out.LeftOut`.
        table: a table that gives each file's category.
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
    exclude: Optional[Sequence[str]] = None
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
    from lib.data.collection import given_categories, items_of_folder, items_of_table, number_categories
    from lib.data.reading import open_journal, read_images, read_part, remove_parts, take_parts
    from lib.data.record_writing import Readable, write_mislabels, write_records
    from lib.data.splits import count_splits, parse_per_class
    from lib.storage.tables import check_errors_table, write_errors_table

    if settings.exclude and not settings.data:
        raise UsageError(f"it is about {option('data')} DIR; leave lines out of a table.", "exclude")
    if settings.shard and settings.merge:
        raise UsageError(f"it can't be combined with {option('shard')}; use it once all parts are read.", "merge")
    per_class = parse_per_class(settings.per_class)
    if settings.data:
        items, errors = items_of_folder(settings.data, settings.exclude)
    else:
        items, errors = items_of_table(settings.table), {}
    if settings.shard:
        read_part(items, settings)
        return None
    prefix, errors_table = settings.output, f"{settings.output}-errors.tsv"
    check_errors_table(errors_table)
    categories_table = f"{prefix}-categories.tsv"
    given = given_categories(categories_table, settings.herbariograph)
    with open_journal(settings) as journal:
        if settings.merge:
            take_parts(items, journal, settings)
        if given:
            _check_known(items, given, categories_table, settings)
        facts = read_images(items, journal, settings, errors)
        readable = _with_images(items, facts, errors)
        categories, index_of = number_categories(readable, given, categories_table)
        images = Readable.of(readable, facts, index_of, [category.name for category in categories])
        splits, order, alike = _divide(images, _without_test(per_class, readable), settings, journal)
        files = write_records(prefix, images, splits, order, journal, settings.shards)
        if not os.path.exists(categories_table):
            write_categories(categories_table, categories)
        write_errors_table(errors_table, errors)
        write_mislabels(f"{prefix}-mislabels.tsv", images, alike)
        journal.remove()
    remove_parts(settings)
    counts = count_splits(images.category, splits, len(categories))
    listed = f"{counted(len(errors), 'error')}, listed in {errors_table}" if errors else "no errors"
    log.info(f"{counted(int(counts[:, :3].sum()), 'image')} in {counted(len(files), 'file')}, {listed}.")
    return categories, counts


def _without_test(per_class, items):
    """How images are divided where audited ones are the test: the others go into training and validation."""
    audited = sum(item.audited for item in items)
    if not audited:
        return per_class
    log.info(f"{counted(audited, 'audited image')} for the test, {len(items) - audited:,} for training and validation.")
    train, validation, test = per_class.numbers
    return per_class._replace(numbers=(train + test if per_class.shares else train, validation, 0))


def _check_known(items, given, table, settings):
    """Raise UsageError, before all are read, if an image has a category that isn't among the given ones.

    Categories of which no image can be read are ignored.
    """
    from lib.data.categories import find_category
    from lib.data.collection import number_categories
    from lib.data.images import ImageError, read_image

    unknown = {name for name in {item.category for item in items} if find_category(name, given) is None}
    for item in items:
        if item.category in unknown:
            with contextlib.suppress(ImageError):
                read_image(item.path, settings.size, max_pixels=settings.max_pixels)
                number_categories([item], given, table)


def _with_images(items, facts, errors):
    """The items that could be read; says which categories have none. UsageError if none could be read at all."""
    readable = [item for item in items if item.path in facts]
    lost, present = {}, {item.category for item in readable}
    for item in items:
        if item.category not in present:
            lost.setdefault(item.category, f"{item.category} (for example, {item.path}: {errors[item.path]})")
    if not readable:
        raise UsageError(f"no image can be read: {'; '.join(lost.values())}.")
    if lost:
        log.info(f"without a readable image, and so not in the records: {'; '.join(lost.values())}.")
    return readable


def _divide(images, per_class, settings, journal):
    """The split of each image, all indices in the order of the records, and the groups of near-duplicates."""
    from lib.data.duplicates import group_alike, join_equal
    from lib.data.record_format import decode
    from lib.data.splits import SPLITS, UNUSED, divide, shuffled

    checksums, hashes = zip(*((facts.sha256, facts.dhash) for facts in images.facts))

    def look(index):
        return decode(journal.content(os.fsencode(images.items[index].path)))

    alike = group_alike(checksums, hashes, settings.duplicates, look)
    sizes = [size for size in collections.Counter(alike.tolist()).values() if size > 1]
    if sizes:
        log.info(
            f"{sum(sizes):,} images are near-duplicates of others, in {counted(len(sizes), 'group')} of up to "
            f"{max(sizes):,}; each group stays in one split."
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
