#!/usr/bin/env python3
"""Make records for training, validation and test from a collection's images: pictures in, .tfr files out.

Example: ./imagesToTFR.py -d collection -o records/collection --per-class 0.8:0.1:0.1

The collection is a folder with one subfolder per category, or a table that gives each file's category. Near-duplicate
images are never in different splits. Run the same command again to resume.
"""

import sys

from lib.cli.options import add_device_options, add_duplicates_option, add_exclude_option, add_shard_option
from lib.cli.program import parser, run
from lib.cli.types import existing_directory, existing_file, output_prefix, whole_number
from lib.data.conversion import Settings, convert
from lib.system.shard import MOST_SHARDS


def options():
    """The command line's options."""
    made = parser(__doc__, Settings)
    add = made.add_mutually_exclusive_group(required=True).add_argument
    folder, table = "a folder with one subfolder per category", "a table: FILE CATEGORY, optionally GROUP, SPLIT"
    add("-d", "--data", type=existing_directory, metavar="DIR", help=folder)
    add("-t", "--table", type=existing_file, metavar="FILE", help=table)
    add_exclude_option(made)
    add, count = made.add_argument, {"metavar": "COUNT"}
    add("-o", "--output", type=output_prefix, required=True, metavar="PREFIX", help="prefix of output file names")
    add("--herbariograph", action="store_true", help="use the 17 published categories and their numbers")
    add = made.add_argument_group("splits").add_argument
    shares = "images of each category: counts, such as 1024:128:128, or shares (%(default)s)"
    shards = "files to split the training records into (%(default)s)"
    add("--per-class", metavar="TRAIN:VALIDATION:TEST", help=shares)
    add_duplicates_option(made)
    add("-r", "--random", dest="seed", type=whole_number(0, 2**32), metavar="SEED", help="seed (%(default)s)")
    add("--shards", type=whole_number(1, 4096), help=shards, **count)
    add = made.add_argument_group("images").add_argument
    sides, qualities = whole_number(4, 65500), whole_number(1, 100)
    add("-s", "--size", type=sides, metavar="PIXELS", help="side of the images (%(default)s)")
    add("-q", "--quality", type=qualities, metavar="1-100", help="JPEG quality (%(default)s)")
    add("--max-pixels", type=whole_number(1), help="refuse larger pictures (%(default)s)", **count)
    group = made.add_argument_group("several machines")
    add_shard_option(group, "only read the K-th of N parts of the images, for --merge")
    parts = "write the records from this many parts read with --shard"
    group.add_argument("--merge", type=whole_number(1, MOST_SHARDS), help=parts, **count)
    add_device_options(made, computes=False)
    return made


def main(argv=None):
    """Run the script; returns its exit status."""
    return run(options(), work, Settings, argv)


def work(settings):
    """Do what the settings say."""
    converted = convert(settings)
    if converted:
        print("CATEGORY\tTRAIN\tVALIDATION\tTEST\tUNUSED")
        for category, counts in zip(*converted):
            print("\t".join([category.name, *map(str, counts)]))


if __name__ == "__main__":
    sys.exit(main())
