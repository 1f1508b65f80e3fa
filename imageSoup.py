#!/usr/bin/env python3
"""Average models of one training run into a better one, a greedy model soup: .keras files in, one .keras file out.

Example: ./imageSoup.py -a 17 -b 256 -m runs/0123-intermediate -d a-train.tfr -v a-validation.tfr -o runs -T 60

Models are ranked by their macro F1 on -v. Starting from the best, each is added if the mean including it is at least as
good on -d. Run the same command again to resume.
"""

import sys

from lib.cli import legacy as cli
from lib.data import shards
from lib.errors import UsageError
from lib.measures.recipes import parse_bands, parse_class_numbers, parse_variances


def options():
    """The command line's options."""
    parser = cli.parser(__doc__)
    add = parser.add_argument_group("models and records").add_argument
    add(
        "-m",
        "--model",
        type=cli.existing_directory,
        required=True,
        metavar="DIR",
        help="directory with the .keras files",
    )
    add("-a", "--array", type=cli.whole_number(2), required=True, metavar="COUNT", help="number of categories")
    records = {"type": cli.record_files, "required": True, "metavar": "FILES"}
    add("-d", "--data", help="records that decide which models are added", **records)
    add("-v", "--validate", help="records that rank the models", **records)
    add("-o", "--output", type=cli.existing_directory, required=True, metavar="DIR", help="the directory for all runs")
    add("-n", "--numberMap", type=cli.existing_file, metavar="FILE", help="a TSV: old and new category numbers")
    numbers = cli.parsed(parse_class_numbers)
    add("-w", "--weight", type=numbers, metavar="{0:1.0,…}", help="weight of an image of each category (1)")
    cli.add_skip_option(parser)

    add = parser.add_argument_group("recipe").add_argument
    add(
        "-t",
        "--threshold",
        type=cli.number(0, 1, above=True),
        default=0.98,
        metavar="F1",
        help="minimum score on -v (0.98)",
    )
    add(
        "-T",
        "--tile",
        type=cli.whole_number(1, 99),
        metavar="PERCENTILE",
        help="minimum percentile of the models' scores, instead of -t",
    )
    add("--method", choices=("greedy", "uniform"), default="greedy", help="uniform uses all models (greedy)")
    add("--metric", choices=("f1", "accuracy", "auc"), default="f1", help="metric to compare (f1)")
    add("--strict", action="store_true", help="add a model only if it improves the mean, not if it is merely no worse")
    add("--rescore", action="store_true", help="measure the models even if training recorded their scores")
    add("--fresh", action="store_true", help="start over even if a run with these settings can be resumed")

    shards.add_shard_option(parser, "only score the K-th of N parts of the models, for a later call without --shard")

    add = parser.add_argument_group("images").add_argument
    add("-b", "--batch", type=cli.whole_number(1), default=64, metavar="COUNT", help="maximum images at once (64)")
    add(
        "-i",
        "--input",
        type=cli.whole_number(1),
        default=64,
        metavar="PIXELS",
        help=cli.IGNORED,
    )
    add("-j", "--jcrop", action="store_true", help="score the mean over five crops of each image")
    add("-M", "--means", type=cli.parsed(parse_bands), metavar="[…]", help="subtract this from each band")
    variances = cli.parsed(parse_variances)
    add("-V", "--variances", type=variances, metavar="[…]", help="after -M, divide by the square root of this")
    cli.add_device_options(parser)
    return parser


def main(argv=None):
    """Run the script; returns its exit status."""
    return cli.run(options(), work, sys.argv[1:] if argv is None else argv)


def work(arguments):
    """Do what the command line says."""
    from lib.soup import Settings, make_soup

    if arguments.shard and arguments.fresh:
        raise UsageError("--shard: --fresh would discard the scores of other parts; leave it out.")
    settings = Settings(
        models=arguments.model,
        outputs=arguments.array,
        data=arguments.data,
        validate=arguments.validate,
        number_map=arguments.numberMap,
        weights=arguments.weight,
        threshold=arguments.threshold,
        percentile=arguments.tile,
        method=arguments.method,
        metric=arguments.metric,
        strict=arguments.strict,
        rescore=arguments.rescore,
        crops=arguments.jcrop,
        means=arguments.means,
        variances=arguments.variances,
        skip_bad=arguments.skip_bad,
    )
    path = make_soup(
        settings,
        arguments.output,
        arguments.fresh,
        arguments.batch,
        arguments.cpu,
        arguments.gpu,
        arguments.processors,
        arguments.command_line,
        cli.report,
        shard=arguments.shard,
    )
    if path:
        cli.report(path)


if __name__ == "__main__":
    sys.exit(main())
