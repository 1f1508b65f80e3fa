#!/usr/bin/env python3
"""Categorise the images of a folder, and of all folders in it: a folder of images in, a table out.

Example: ./predictImages.py -d scans -o predictions.tsv

Run the same command again to go on where it stopped, or after adding images. Files that can't be read as images are
listed with the reason in OUTPUT.errors.tsv, never in the table.
"""

import sys

from lib import cli


def options():
    """The command line's options."""
    parser = cli.parser(__doc__)
    parser.add_argument(
        "-d", "--data", type=cli.existing_directory, required=True, metavar="DIR", help="the folder of images"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=cli.output_file,
        required=True,
        metavar="FILE",
        help="the table to write; its ending says how: .tsv, .csv or .jsonl",
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "-m",
        "--model",
        default="ConvNeXt-N",
        metavar="MODEL",
        help="ConvNeXt-N (fetched when missing), ConvNeXt-T, or the path of a .keras file (ConvNeXt-N)",
    )
    model.add_argument(
        "--models",
        metavar="DIR",
        help="where the published models are kept ($HERBARIOGRAPH_MODELS, else ~/.cache/herbariograph)",
    )
    model.add_argument(
        "--labels",
        type=cli.existing_file,
        metavar="FILE",
        help="a TSV with the columns INDEX and LABEL of the model's outputs (categories.tsv beside a model given as a "
        "path, else the 17 published categories)",
    )
    table = parser.add_argument_group("table")
    table.add_argument(
        "--top", type=cli.whole_number(1), default=1, metavar="K", help="give the K most probable categories (1)"
    )
    table.add_argument("--probabilities", action="store_true", help="give the probability of every category")
    table.add_argument("--overwrite", action="store_true", help="start anew instead of going on with the table")
    table.add_argument("--strict", action="store_true", help="exit with 1 if any file can't be read as an image")
    images = parser.add_argument_group("images")
    images.add_argument(
        "--exact",
        action="store_true",
        help="the pixels of the published pipeline: slower, EXIF orientation ignored",
    )
    images.add_argument(
        "--max-pixels",
        type=cli.whole_number(1),
        default=500_000_000,
        metavar="COUNT",
        help="refuse larger pictures (500000000)",
    )
    images.add_argument(
        "-b",
        "--batch",
        type=cli.whole_number(1),
        default=1024,
        metavar="COUNT",
        help="at most how many images to hold in memory (1024)",
    )
    cli.add_device_options(parser)
    return parser


def main(argv=None):
    """Run the script; returns its exit status."""
    return cli.run(options(), work, argv)


def work(arguments):
    """Do what the command line says."""
    from lib.published import check_model_name

    check_model_name(arguments.model, arguments.models)

    from lib.prediction import predict

    done, errors = predict(
        arguments.data,
        arguments.model,
        arguments.output,
        models=arguments.models,
        labels_file=arguments.labels,
        batch=arguments.batch,
        exact=arguments.exact,
        max_pixels=arguments.max_pixels,
        top=arguments.top,
        probabilities=arguments.probabilities,
        overwrite=arguments.overwrite,
        cpu=arguments.cpu,
        gpu=arguments.gpu,
        processors=arguments.processors,
        report=lambda message: print(message, file=sys.stderr),
    )
    listed = f"{len(errors):,} errors, listed in {arguments.output}.errors.tsv" if errors else "no errors"
    print(f"{done:,} images categorised, {listed}.", file=sys.stderr)
    return 1 if errors and arguments.strict else 0


if __name__ == "__main__":
    sys.exit(main())
