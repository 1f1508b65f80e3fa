#!/usr/bin/env python3
"""Draw a data set for pre-training or distillation, random 3D fractals: options in, .tfr files out.

Example: ./fractals.py -n 21000 -s 224 -r 1 -o 3D-OFDB-21k-224

Each fractal is a category of its own, seen from one or more sides for training and from another for the test, as in
arXiv:2307.14710. Run the same command again to resume.
"""

import sys

from lib.cli import legacy as cli


def options():
    """The command line's options."""
    parser = cli.parser(__doc__)
    add = parser.add_argument
    add("-o", "--output", type=cli.output_prefix, required=True, metavar="PREFIX", help="prefix of output file names")
    add(
        "-n",
        "--categories",
        type=cli.whole_number(2, 1_000_000),
        default=21_000,
        metavar="COUNT",
        help="number of fractals (21000)",
    )
    add("-s", "--size", type=cli.whole_number(16, 1024), default=224, metavar="PIXELS", help="side of the images (224)")
    add(
        "--views",
        type=cli.whole_number(1, 1000),
        default=1,
        metavar="COUNT",
        help="training images per category; the test has one more (1)",
    )
    seed = cli.whole_number(0, 2**32)
    add("-r", "--random", type=seed, default=123456789, metavar="SEED", help="seed (123456789)")
    add("-q", "--quality", type=cli.whole_number(1, 100), default=94, metavar="1-100", help="JPEG quality (94)")
    sheet = cli.parsed(sheet_file)
    add("--sheet", type=sheet, metavar="FILE", help="draw the first 64 categories on a contact sheet, .png or .jpg")
    cli.add_device_options(parser, computes=False)
    return parser


def sheet_file(text):
    """An option's type: a picture to be written."""
    if not text.lower().endswith((".png", ".jpg", ".jpeg")):
        raise ValueError(f"{text!r} must end in .png or .jpg")
    return cli.output_file(text)


def main(argv=None):
    """Run the script; returns its exit status."""
    return cli.run(options(), work, argv)


def work(arguments):
    """Do what the command line says."""
    from lib.data.fractals import Settings, draw_sheet, make_fractals

    settings = Settings(arguments.categories, arguments.size, arguments.views, arguments.quality, arguments.random)
    train, test, made = make_fractals(settings, arguments.output, arguments.processors, cli.report)
    if not made:
        cli.report(f"{train} and {test} already exist with these settings; there is nothing to do.")
    if arguments.sheet:
        draw_sheet(settings, arguments.sheet)
    print(f"{train}\t{settings.categories * settings.views}")
    print(f"{test}\t{settings.categories}")


if __name__ == "__main__":
    sys.exit(main())
