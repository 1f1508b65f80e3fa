#!/usr/bin/env python3
"""Categorise the images in a folder and its subfolders: a folder of images in, a table and pages out.

Example: ./predictImages.py -d scans -o predictions.tsv --report predictions.html

Run the same command again to resume, or after adding images. Files that can't be read as images are listed with the
reason in OUTPUT.errors.tsv, never in the table.
"""

import sys

from lib.cli.options import (
    add_column_options,
    add_device_options,
    add_exclude_option,
    add_model_options,
    add_report_options,
    add_shard_option,
)
from lib.cli.program import parser, run
from lib.cli.types import existing_directory, existing_file, output_directory, output_ending, output_table, whole_number
from lib.prediction.settings import ENGINES, Settings, check


def options():
    """The command line's options."""
    made = parser(__doc__, Settings)
    required = "required, unless --report-from, --similar, --merge or --convert takes their place"
    add, file = made.add_argument_group(required).add_argument, {"metavar": "FILE"}
    add("-d", "--data", type=existing_directory, metavar="DIR", help="the folder of images, or give --list")
    add_exclude_option(made)
    table = "the table to write; its ending sets the format: .tsv, .csv, .xlsx or .jsonl"
    add("-o", "--output", type=output_table, help=table, **file)
    add_model_options(made)
    group = made.add_argument_group("table")
    add = group.add_argument
    top = "give the K most probable categories (that of an existing table, else 1; 2 with --report)"
    add("--top", type=whole_number(1), metavar="K", help=top)
    add_column_options(group)
    other = "write this table as --output, in the format of its ending, instead of predicting"
    add("--convert", type=existing_file, help=other, **file)
    decisions = "what a person decided, a table FILE CATEGORY; it wins over the model's answers"
    add("--corrections", type=existing_file, help=decisions, **file)
    add("--overwrite", action="store_true", help="start over instead of continuing the existing table")
    add("--strict", action="store_true", help="exit with status 1 if any file can't be read as an image")
    add_viewing_options(made.add_argument_group("viewing and searching"), file)
    group = made.add_argument_group("several machines")
    paths = "read the image paths from this file instead of searching -d: one per line or separated by NULs"
    group.add_argument("--list", type=existing_file, dest="list_file", help=paths, **file)
    add_shard_option(group, "process the K-th of N parts of the sorted images; the table is for --merge")
    parts = "merge tables instead of predicting: the one to write, then those of all parts"
    group.add_argument("--merge", nargs="+", help=parts, **file)
    add = made.add_argument_group("images").add_argument
    add("--exact", action="store_true", help="the published pipeline's pixels: slower, EXIF orientation ignored")
    count = {"type": whole_number(1), "metavar": "COUNT"}
    add("--max-pixels", help="refuse larger pictures (%(default)s)", **count)
    add("-b", "--batch", help="maximum number of images to hold in memory (%(default)s)", **count)
    chosen = "what computes (OpenVINO on a CPU, if it knows all layers of the model; else TensorFlow)"
    made.add_argument("--engine", choices=ENGINES, help=chosen)
    add_device_options(made)
    return made


def add_viewing_options(group, file):
    """Add the options of pages, folders and searches."""
    add_report_options(group, audited=True)
    add = group.add_argument
    source = "make --report or --sort from this table instead of predicting"
    add("--report-from", type=existing_file, help=source, **file)
    folders = "make a folder per category with links to its images"
    add("--sort", type=output_directory, metavar="DIR", help=folders)
    kinds = group.add_mutually_exclusive_group()
    kinds.add_argument("--copy", action="store_true", help="with --sort, make copies instead of links")
    kinds.add_argument("--hardlink", action="store_true", help="with --sort, make hard links instead of symbolic links")
    features = (
        "write the pooled features of the images, .npz (--merge: of all parts); --similar, --report-from: read them"
    )
    add("--embeddings", type=output_ending(".npz"), help=features, **file)
    alike = "list the --top images (10) of --embeddings that are most similar to this one"
    add("--similar", type=existing_file, metavar="IMAGE", help=alike)


def main(argv=None):
    """Run the script; returns its exit status."""
    return run(options(), work, Settings, argv)


def work(settings):
    """Do what the settings say."""
    check(settings)
    errors = 0
    if settings.predicts:
        from lib.prediction.predict import predict

        images, errors = predict(settings)
    if settings.convert:
        from lib.prediction.convert import convert_table

        convert_table(settings)
    if settings.merge:
        from lib.prediction.merge import merge_tables

        images, errors = merge_tables(settings)
    if settings.predicts or settings.merge:
        from lib.prediction.summary import tell_outcome

        tell_outcome(settings.table, images, errors)
    if settings.report:
        from lib.prediction.report import report_table

        report_table(settings)
    if settings.sort:
        from lib.prediction.report import sort_table

        sort_table(settings)
    if settings.similar:
        from lib.prediction.similar import similar_images

        found = similar_images(settings)
        print("\n".join(["FILE\tSIMILARITY", *(f"{name}\t{cosine:.4f}" for name, cosine in found)]))
    return 1 if errors and settings.strict else 0


if __name__ == "__main__":
    sys.exit(main())
