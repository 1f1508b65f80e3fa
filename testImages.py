#!/usr/bin/env python3
"""Evaluate a model on records that it was not trained on: a .keras file and .tfr files in, metrics out.

Example: ./testImages.py -a 17 -b 256 -m soup-model.keras -t sample-96-test.tfr --figures figures

Four lines go to stdout; confidence intervals and per-category metrics go to stderr.
"""

import sys

from lib.cli.options import (
    add_device_options,
    add_labels_option,
    add_models_option,
    add_report_options,
    add_skip_option,
)
from lib.cli.program import Ignored, parser, run
from lib.cli.types import (
    class_numbers,
    existing_file,
    output_arrays,
    output_directory,
    output_file,
    output_table,
    record_files,
    whole_number,
)
from lib.evaluation.settings import Settings


def options():
    """The command line's options."""
    made = parser(__doc__, Settings)
    add, count, file = made.add_argument, whole_number(1), {"type": existing_file, "metavar": "FILE"}
    names = "ConvNeXt-N (downloaded if missing), ConvNeXt-T, or the path of a .keras file"
    add("-m", "--model", required=True, metavar="MODEL", help=f"what to evaluate: {names}")
    more = {"dest": "categories", "type": whole_number(2), "metavar": "COUNT"}
    add("-a", "--array", required=True, help="number of categories", **more)
    add("-t", "--test", type=record_files, required=True, metavar="FILES", help="records: a file, list or glob")
    add("-n", "--numberMap", dest="number_map", help="a TSV: old and new category numbers", **file)
    weight = {"dest": "class_weights", "type": class_numbers, "metavar": "{0:1.0,…}"}
    add("-w", "--weight", help="weight of an image of each category (1)", **weight)
    add("-b", "--batch", type=count, metavar="COUNT", help="maximum number of images at once (%(default)s)")
    add("-i", "--input", action=Ignored, type=count, metavar="PIXELS")
    add("--compare", metavar="MODEL", help="compare with another model on the same images")
    add_models_option(made)
    add_labels_option(made)
    add_skip_option(made)
    group = made.add_argument_group("files to write")
    add, file = group.add_argument, {"type": output_file, "metavar": "FILE"}
    arrays = {"type": output_arrays, "metavar": "FILE"}
    add("-e", "--error", dest="answers", help=".npz: predictions, labels, confusion matrix", **arrays)
    add("-u", "--under", dest="probabilities", help=".npz: softmax values as predictions, labels", **arrays)
    of_categories = "the per-category table, .tsv, .csv, .xlsx or .jsonl, instead of on stderr"
    add("--table", type=output_table, metavar="FILE", help=of_categories)
    add("--json", help="all metrics", **file)
    figures = "figures: confusion matrix, curves, mistakes"
    add("--figures", type=output_directory, metavar="DIR", help=figures)
    add("--card", action="store_true", help="add the metrics to the model's card, README.md beside it")
    add_report_options(group)
    add_device_options(made)
    return made


def main(argv=None):
    """Run the script; returns its exit status."""
    return run(options(), work, Settings, argv)


def work(settings):
    """Do what the settings say."""
    from lib.evaluation.evaluate import evaluate, with_files
    from lib.evaluation.results import four_lines, write_files

    settings = with_files(settings)
    found = evaluate(settings)
    print("\n".join(four_lines(found)))
    write_files(settings, found)


if __name__ == "__main__":
    sys.exit(main())
