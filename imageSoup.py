#!/usr/bin/env python3
"""Average models of one training run into a better one, a greedy model soup: .keras files in, one .keras file out.

Example: ./imageSoup.py -a 17 -b 256 -m runs/0123-intermediate -d a-train.tfr -v a-validation.tfr -o runs -T 60

Models are ranked by their macro F1 on -v. Starting from the best, each is added if the mean including it is at least as
good on -d, or on -v with --decide validation. Run the same command again to resume.
"""

import sys

from lib.cli.options import add_device_options, add_name_option, add_shard_option, add_skip_option
from lib.cli.program import Ignored, parser, run
from lib.cli.types import (
    band_numbers,
    band_variances,
    class_numbers,
    existing_directory,
    existing_file,
    number,
    output_directory,
    record_files,
    whole_number,
)
from lib.soup.settings import DECIDERS, Settings


def options():
    """The command line's options."""
    made = parser(__doc__, Settings)
    add_inputs(made.add_argument_group("models and records"))
    add_skip_option(made)
    add_name_option(made)
    add_choice(made.add_argument_group("recipe"))
    add_shard_option(made, "only score the K-th of N parts of the models, for a later call without --shard")
    add_images(made.add_argument_group("images"))
    add_device_options(made)
    return made


def add_inputs(group):
    """Add the options for models and records."""
    add, folder = group.add_argument, {"type": existing_directory, "required": True, "metavar": "DIR"}
    records = {"type": record_files, "required": True, "metavar": "FILES"}
    count = {"dest": "categories", "type": whole_number(2), "metavar": "COUNT"}
    add("-m", "--model", dest="models", help="directory with the .keras files", **folder)
    add("-a", "--array", required=True, help="number of categories", **count)
    add("-d", "--data", help="records that decide which models are added", **records)
    add("-v", "--validate", help="records that rank the models", **records)
    add("-o", "--output", help="the directory for all runs", **{**folder, "type": output_directory})
    mapping = {"dest": "number_map", "type": existing_file, "metavar": "FILE"}
    add("-n", "--numberMap", help="a TSV: old and new category numbers", **mapping)
    weight = {"dest": "class_weights", "type": class_numbers, "metavar": "{0:1.0,…}"}
    add("-w", "--weight", help="weight of an image of each category (1)", **weight)


def add_choice(group):
    """Add the options for how the models are chosen."""
    add, score = group.add_argument, number(0, 1, above=True)
    add("-t", "--threshold", type=score, metavar="F1", help="minimum score on -v (%(default)s)")
    tile = "minimum percentile of the models' scores, instead of -t"
    add("-T", "--tile", dest="percentile", type=whole_number(1, 99), metavar="PERCENTILE", help=tile)
    add("--method", choices=("greedy", "uniform"), help="uniform uses all models (%(default)s)")
    decide = "records that decide which models are added: those of -d (data), or of -v (validation) (%(default)s)"
    add("--decide", choices=DECIDERS, help=decide)
    add("--metric", choices=("f1", "accuracy", "auc"), help="metric to compare (%(default)s)")
    add("--strict", action="store_true", help="add a model only if it improves the mean, not if it is merely no worse")
    add("--rescore", action="store_true", help="measure the models even if training recorded their scores")
    add("--fresh", action="store_true", help="start over even if a run with these settings can be resumed")


def add_images(group):
    """Add the options for how images are given to a model."""
    add, count = group.add_argument, whole_number(1)
    add("-b", "--batch", type=count, metavar="COUNT", help="maximum images at once (%(default)s)")
    add("-i", "--input", action=Ignored, type=count, metavar="PIXELS")
    add("-j", "--jcrop", dest="crops", action="store_true", help="score the mean over five crops of each image")
    add("-M", "--means", type=band_numbers, metavar="[…]", help="subtract this from each band")
    variances = "after -M, divide by the square root of this"
    add("-V", "--variances", type=band_variances, metavar="[…]", help=variances)


def main(argv=None):
    """Run the script; returns its exit status."""
    return run(options(), work, Settings, argv)


def work(settings):
    """Do what the settings say."""
    from lib.soup.soup import make_soup

    lines = make_soup(settings)
    if lines is not None:
        print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
