#!/usr/bin/env python3
"""Adapt a model to a folder of images by what a person decided about some of them, in seconds and without TensorFlow.

Example: ./adaptImages.py -e predictions.tsv.features.npz -t corrections.tsv -o adapted.keras --predict adapted.tsv

The features are what predictImages.py writes with --embeddings, the decisions what its page saves as corrections.tsv.
The result is a .keras file that all stages take. It is made for this folder: on others it may be worse.
"""

import sys

from lib.adaptation.settings import Settings, check
from lib.cli.options import add_column_options, add_device_options, add_model_options, add_report_options
from lib.cli.program import parser, run
from lib.cli.types import (
    existing_directory,
    existing_file,
    number,
    output_ending,
    output_model,
    output_table,
    whole_number,
)
from lib.prediction.settings import MOST_RIDGE


def options():
    """The command line's options."""
    made = parser(__doc__, Settings)
    add, file = made.add_argument, {"metavar": "FILE"}
    decisions = "what a person decided, a table: FILE CATEGORY and, if ROLE is audit, only to measure with"
    add("-t", "--table", type=existing_file, required=True, help=decisions, **file)
    add("-o", "--output", type=output_model, required=True, help="the adapted model to write, .keras", **file)
    add = made.add_argument_group("features: one of the two is required").add_argument
    written = "the features that predictImages.py --embeddings wrote, .npz; with -d, where to write them"
    add("-e", "--embeddings", type=output_ending(".npz"), help=written, **file)
    folder = "compute the features of the images in this folder first"
    add("-d", "--data", type=existing_directory, metavar="DIR", help=folder)
    add_model_options(made, "the model of the features: ConvNeXt-N, ConvNeXt-T, or the path of a .keras file")
    add = made.add_argument_group("learning").add_argument
    new = "a new category that is spelled almost like another one is no typing mistake; may be repeated"
    add("--new-category", action="append", dest="new_categories", metavar="CATEGORY", help=new)
    ridge = f"how strongly it holds on to what it knew: above 0, up to {MOST_RIDGE} (%(default)s)"
    add("--ridge", type=number(0, MOST_RIDGE, above=True), metavar="NUMBER", help=ridge)
    group = made.add_argument_group("the folder's new answers")
    add = group.add_argument
    table = "write a table like that of predictImages.py: .tsv, .csv, .xlsx or .jsonl; no image is read again"
    add("--predict", type=output_table, help=table, **file)
    add("--top", type=whole_number(1), metavar="K", help="give the K most probable categories (1; 2 with --report)")
    add_column_options(group)
    add_report_options(group)
    add_device_options(made)
    return made


def main(argv=None):
    """Run the script; returns its exit status."""
    return run(options(), work, Settings, argv)


def work(settings):
    """Do what the settings say."""
    check(settings)
    from lib.adaptation.adapt import adapt, make_page

    print("\n".join(adapt(settings).lines()), flush=True)
    if settings.report:
        make_page(settings)


if __name__ == "__main__":
    sys.exit(main())
