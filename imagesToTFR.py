#!/usr/bin/env python3
"""Make records for training, validation and test from a collection's images: pictures in, .tfr files out.

Example: ./imagesToTFR.py -d collection -o records/collection --per-class 0.8:0.1:0.1

The collection is a folder with one subfolder per category, or a table that gives each file's category. Near-duplicate
images are never in different splits. Run the same command again to resume.
"""

import sys

from lib.cli import legacy as cli
from lib.data import shards
from lib.data.per_class import parse_per_class
from lib.errors import UsageError


def options():
    """The command line's options."""
    parser = cli.parser(__doc__)
    add = parser.add_mutually_exclusive_group(required=True).add_argument
    add("-d", "--data", type=cli.existing_directory, metavar="DIR", help="a folder with one subfolder per category")
    add("-t", "--table", type=cli.existing_file, metavar="FILE", help="a TSV: FILE CATEGORY, optionally GROUP, SPLIT")
    add = parser.add_argument
    add("-o", "--output", type=cli.output_prefix, required=True, metavar="PREFIX", help="prefix of output file names")
    add("--herbariograph", action="store_true", help="use the 17 published categories and their numbers")
    add = parser.add_argument_group("splits").add_argument
    add(
        "--per-class",
        type=cli.parsed(parse_per_class),
        default="0.8:0.1:0.1",
        metavar="TRAIN:VALIDATION:TEST",
        help="images of each category: counts, such as 1024:128:128, or shares (0.8:0.1:0.1)",
    )
    cli.add_duplicates_option(parser)
    seed = cli.whole_number(0, 2**32)
    add("-r", "--random", type=seed, default=123456789, metavar="SEED", help="seed (123456789)")
    add(
        "--shards",
        type=cli.whole_number(1, 4096),
        default=1,
        metavar="COUNT",
        help="files to split the training records into (1)",
    )
    add = parser.add_argument_group("images").add_argument
    add("-s", "--size", type=cli.whole_number(4, 65500), default=96, metavar="PIXELS", help="side of the images (96)")
    add("-q", "--quality", type=cli.whole_number(1, 100), default=94, metavar="1-100", help="JPEG quality (94)")
    add(
        "--max-pixels",
        type=cli.whole_number(1),
        default=500_000_000,
        metavar="COUNT",
        help="refuse larger pictures (500000000)",
    )
    group = parser.add_argument_group("several machines")
    shards.add_shard_option(group, "only read the K-th of N parts of the images, for --merge")
    group.add_argument(
        "--merge",
        type=cli.whole_number(1, shards.MOST),
        metavar="COUNT",
        help="write the records from this many parts read with --shard",
    )
    cli.add_device_options(parser, computes=False)
    return parser


def main(argv=None):
    """Run the script; returns its exit status."""
    return cli.run(options(), work, argv)


def work(arguments):
    """Do what the command line says."""
    from lib.data.conversion import convert, items_of_folder, items_of_table, read_part
    from lib.data.splits import SPLITS

    if arguments.shard and arguments.merge:
        raise UsageError("--merge: can't be combined with --shard; use it once all parts are read.")
    if arguments.data:
        items, errors = items_of_folder(arguments.data)
    else:
        items, errors = items_of_table(arguments.table), {}
    reading = {
        "size": arguments.size,
        "quality": arguments.quality,
        "max_pixels": arguments.max_pixels,
        "processors": arguments.processors,
        "report": cli.report,
    }
    if arguments.shard:
        done, errors = read_part(items, arguments.output, arguments.shard, **reading)
        cli.report(f"{done:,} images of part {arguments.shard} read, {len(errors):,} errors.")
        return
    made = convert(
        items,
        errors,
        arguments.output,
        arguments.per_class,
        seed=arguments.random,
        shards=arguments.shards,
        duplicates=arguments.duplicates,
        herbariograph=arguments.herbariograph,
        parts=arguments.merge,
        **reading,
    )
    print("\t".join(["CATEGORY", *(name.upper() for name in SPLITS), "UNUSED"]))
    for category, counts in zip(made.categories, made.counts):
        print("\t".join([category.name, *map(str, counts)]))
    listed = f"{len(made.errors):,} errors, listed in {arguments.output}-errors.tsv" if made.errors else "no errors"
    cli.report(f"{made.counts[:, :3].sum():,} images in {len(made.files)} files, {listed}.")


if __name__ == "__main__":
    sys.exit(main())
