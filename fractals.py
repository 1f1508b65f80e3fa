#!/usr/bin/env python3
"""Draw a data set for pre-training or distillation, random 3D fractals: options in, .tfr files out.

Example: ./fractals.py -n 21000 -s 224 -r 1 -o 3D-OFDB-21k-224

Each fractal is a category of its own, seen from one or more sides for training and from another for the test, as in
arXiv:2307.14710. Run the same command again to resume.
"""

import sys

from lib.cli.options import add_device_options
from lib.cli.program import parser, run
from lib.cli.types import output_ending, output_prefix, whole_number
from lib.data.fractals import Settings, make_fractals


def options():
    """The command line's options."""
    made = parser(__doc__, Settings)
    add, count = made.add_argument, {"metavar": "COUNT"}
    sides, qualities, seeds = whole_number(16, 1024), whole_number(1, 100), whole_number(0, 2**32)
    views = "training images per category; the test has one more (%(default)s)"
    sheet = "draw the first 64 categories on a contact sheet, .png or .jpg"
    add("-o", "--output", type=output_prefix, required=True, metavar="PREFIX", help="prefix of output file names")
    add("-n", "--categories", type=whole_number(2, 1_000_000), help="number of fractals (%(default)s)", **count)
    add("-s", "--size", type=sides, metavar="PIXELS", help="side of the images (%(default)s)")
    add("--views", type=whole_number(1, 1000), help=views, **count)
    add("-r", "--random", dest="seed", type=seeds, metavar="SEED", help="seed (%(default)s)")
    add("-q", "--quality", type=qualities, metavar="1-100", help="JPEG quality (%(default)s)")
    add("--sheet", type=output_ending(".png", ".jpg", ".jpeg"), metavar="FILE", help=sheet)
    add_device_options(made, computes=False)
    return made


def main(argv=None):
    """Run the script; returns its exit status."""
    return run(options(), work, Settings, argv)


def work(settings):
    """Do what the settings say."""
    for path, count in make_fractals(settings):
        print(f"{path}\t{count}")


if __name__ == "__main__":
    sys.exit(main())
