#!/usr/bin/env python3
"""Download the images that a Darwin Core Archive links to: GBIF's zip in, a folder of images and their index out.

Example: ./downloadImages.py -i 0001234-250101000000000.zip -o images --licences cc0,by --contact me@museum.org

The index gives each file's address, occurrence, licence and rights holder. Images that can't be downloaded are listed
with the reason in errors.tsv. Run the same command again to resume, or to try those once more.
"""

import argparse
import sys

from lib.cli.options import add_device_options
from lib.cli.program import parser, run
from lib.cli.types import existing_file, output_directory, parsed, whole_number
from lib.download.licences import KNOWN, parse_licences
from lib.download.settings import Settings


def options():
    """The command line's options."""
    made = parser(__doc__, Settings)
    add, count = made.add_argument, {"metavar": "COUNT"}
    source = "a Darwin Core Archive (.zip), or a table with a column of image addresses"
    add("-i", "--input", type=existing_file, required=True, metavar="FILE", help=source)
    folder = "the folder for the images, index.tsv and errors.tsv"
    add("-o", "--output", type=output_directory, required=True, metavar="DIR", help=folder)
    add("--overwrite", action="store_true", help="fetch again what is there already")
    add("--strict", action="store_true", help="exit with status 1 if any image can't be downloaded")
    add = made.add_argument_group("which images").add_argument
    column = "the column of addresses (accessURI, goodQualityAccessURI, identifier or associatedMedia)"
    add("--column", metavar="NAME", help=column)
    names = f"only images under one of these licences, separated by commas: {', '.join(KNOWN)}"
    add("--licences", type=parsed(parse_licences), metavar="NAMES", help=names)
    add("--type", dest="kind", metavar="TYPE", help="only media of this type; any for all (%(default)s)")
    add("--limit", type=whole_number(1), help="only the first images, this many", **count)
    add("--sample", type=whole_number(1), help="only so many images, drawn at random", **count)
    add("-r", "--random", dest="seed", type=whole_number(0, 2**32), metavar="SEED", help="seed (%(default)s)")
    add = made.add_argument_group("servers").add_argument
    contact = "your address or web page, told to the servers so that they can write to you instead of blocking you"
    add("--contact", type=printable, metavar="TEXT", help=contact)
    add("--per-host", type=whole_number(1, 64), help="maximum number of connections to one host (%(default)s)", **count)
    add("--connections", type=whole_number(1, 1024), help="maximum number of connections (%(default)s)", **count)
    longest = "maximum time for one request (%(default)s)"
    add("--timeout", type=whole_number(1, 86400), metavar="SECONDS", help=longest)
    add("--max-bytes", type=whole_number(1), help="refuse larger files (%(default)s)", **count)
    private = "also connect to addresses of this machine and its network"
    add("--allow-private", action="store_true", help=private)
    group = made.add_argument_group("images")
    shrink = "keep a JPEG of this many pixels on its longer side instead of a larger picture"
    group.add_argument("--longest", type=whole_number(64, 65500), metavar="PIXELS", help=shrink)
    add_device_options(made, computes=False)
    return made


def printable(text):
    """An option's type: a text for a header of HTTP."""
    if not (text.isascii() and text.isprintable()):
        raise argparse.ArgumentTypeError(f"{text!r} has other signs than printable ones of ASCII")
    return text


def main(argv=None):
    """Run the script; returns its exit status."""
    return run(options(), work, Settings, argv)


def work(settings):
    """Do what the settings say."""
    from lib.download.download import download

    licences, failed = download(settings)
    print("LICENCE\tIMAGES")
    for name, count in sorted(licences.items()):
        print(f"{name}\t{count}")
    return 1 if failed and settings.strict else 0


if __name__ == "__main__":
    sys.exit(main())
