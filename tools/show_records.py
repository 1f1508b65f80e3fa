"""The content of record files: counts by category, sizes, duplicates between the files, and a contact sheet.

    python -m tools.show_records train.tfr test.tfr

draws up to twelve images of each category on the sheet, as the records hold them.
"""

import collections
import dataclasses
import hashlib
import itertools
import logging
import os
from typing import NamedTuple, Optional, Tuple

import numpy as np

from lib.cli.options import add_duplicates_option, add_labels_option, add_skip_option
from lib.cli.program import parser, run
from lib.cli.types import output_file, record_files
from lib.data.categories import read_labels
from lib.data.duplicates import difference_hash, near_groups
from lib.data.records import map_images, open_records, read_jpeg
from lib.display.contact_sheet import contact_sheet, fitted
from lib.errors import WorkError, option
from lib.storage.files import whole_file
from lib.system.progress import progress
from lib.system.words import counted

log = logging.getLogger("tools.show_records")  # as a program its `__name__` is another

_SHOWN = 12  # images of a category on the sheet


@dataclasses.dataclass(frozen=True)
class Settings:
    """The files to look at, and how.

    Attributes:
        files: tuples of paths of record files.
        sheet: the contact sheet to draw, a PNG; None for the first file's name with that ending.
        labels: a TSV with the categories' labels; None for numbers.
        duplicates: how many bits the dHashes of near-duplicates may differ in; None to find only equal images.
        skip_bad: leave out bad records, rather than stop at one.
    """

    files: Tuple[Tuple[str, ...], ...]
    sheet: Optional[str] = None
    labels: Optional[str] = None
    duplicates: Optional[int] = 4
    skip_bad: bool = False


class _Seen(NamedTuple):
    """An image's `(width, height)`, its dHash, and the SHA-256 of its JPEG."""

    size: Tuple[int, int]
    dhash: int
    checksum: bytes


def options():
    """The command line's options."""
    made = parser(__doc__, Settings)
    made.prog = "python -m tools.show_records"
    made.add_argument("files", nargs="+", type=record_files, metavar="FILE", help="a .tfr file, list or glob")
    sheet = "contact sheet to draw (the first file's name with .png)"
    made.add_argument("--sheet", type=output_file, metavar="FILE", help=sheet)
    add_labels_option(made)
    add_duplicates_option(made)
    add_skip_option(made)
    return made


def main(argv=None):
    """Run the command line; returns its exit status."""
    return run(options(), show, Settings, argv)


def show(settings):
    """Print statistics of the records, and draw the contact sheet."""
    files = tuple(dict.fromkeys(itertools.chain.from_iterable(settings.files)))
    labels = None if settings.labels is None else read_labels(settings.labels)
    records = open_records(files, "files", len(labels) if labels else None, skip_bad=settings.skip_bad)
    records, seen, examples = _look(records, settings.skip_bad)
    for sentence in records.skipped:
        log.info(f"Left out: {sentence}")
    labels = labels or [f"category {category}" for category in range(max(examples, default=-1) + 1)]
    names = [os.path.basename(path) for path in files]
    _print_counts(records, names, labels)
    for (width, height), count in sorted(collections.Counter(one.size for one in seen).items()):
        print(f"{counted(count, 'image')} of {width} x {height} pixels")
    _print_shared(records, names, seen, settings.duplicates)
    path = settings.sheet or os.path.splitext(files[0])[0] + ".png"
    rows = [(labels[category], pictures) for category, pictures in sorted(examples.items())]
    with whole_file(path, "wb") as file:
        contact_sheet(rows).save(file, "PNG")
    print(f"contact sheet: {path}")


def _look(records, skip_bad):
    """Decode all records.

    Returns:
        The `Records` that can be decoded, `_Seen` of each, and category -> pictures for the contact sheet.
    """

    def look(index, picture):
        checksum = hashlib.sha256(read_jpeg(records, index)).digest()
        return _Seen(picture.shape[1::-1], difference_hash(picture), checksum), fitted(picture)

    seen, examples, left_out = [], {}, {}
    with progress(len(records), "images") as advance:
        for indices, looks, bad in map_images(look, records, range(len(records))):
            if bad and not skip_bad:
                raise WorkError(f"{next(iter(bad.values()))}; {option('skip_bad')} leaves such records out.")
            left_out.update(bad)
            good = (index for index in indices if index not in bad)
            for index, (one, small) in zip(good, looks):
                seen.append(one)
                shown = examples.setdefault(int(records.category[index]), [])
                if len(shown) < _SHOWN:
                    shown.append(small)
            advance(len(indices))
    return records.without(left_out), seen, examples


def _print_counts(records, names, labels):
    """A table of how many images of each category are in each file."""
    counts = np.zeros((len(labels), len(names)), int)
    np.add.at(counts, (records.category, records.file), 1)
    print("\t".join(["CATEGORY", *names]))
    for label, row in zip((*labels, "all"), (*counts, counts.sum(axis=0))):
        print("\t".join([label, *map(str, row)]))


def _print_shared(records, names, seen, bits):
    """For each two files, how many images of the first are in the second too, byte for byte and nearly."""
    checksums = np.array([one.checksum for one in seen], "V32")
    groups = None if bits is None else near_groups(np.array([one.dhash for one in seen], "uint64"), bits)
    for one, other in itertools.combinations(range(len(names)), 2):
        ours, theirs = records.file == one, records.file == other
        known = set(checksums[theirs].tolist())
        equal = np.array([checksum in known for checksum in checksums[ours].tolist()], bool)
        near = equal if groups is None else np.isin(groups[ours], groups[theirs]) | equal
        shared = f"{equal.sum():,} equal images and {(near & ~equal).sum():,} that are nearly the same"
        print(f"{names[one]} and {names[other]} share {shared}")


if __name__ == "__main__":
    raise SystemExit(main())
